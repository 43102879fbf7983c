"""Whisper's encoder as an `AudioEncoder`: five layers of hidden states at 50 steps per second."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from actalker.components import SAMPLE_RATE
from actalker.errors import MissingPackageError


class WhisperEncoder(nn.Module):
    """Hidden states of every encoder layer (whisper-tiny: 5 x 384, the last after the final norm).

    Args:
        encoder: the encoder of a transformers `WhisperModel`.
        extractor: its `WhisperFeatureExtractor`.
    """

    rate = 50.0
    chunk_seconds = 30.0

    def __init__(self, encoder: Any, extractor: Any) -> None:
        super().__init__()
        self.encoder, self.extractor = encoder, extractor

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = torch.float32) -> Self:
        """Load a transformers folder of Whisper.

        Raises:
            MissingPackageError: transformers is not installed.
        """
        try:
            from transformers import WhisperFeatureExtractor, WhisperModel
        except ImportError as error:
            raise MissingPackageError(
                "the full-size model reads speech with Whisper, which needs the package transformers",
                "pip install transformers",
            ) from error
        model = WhisperModel.from_pretrained(str(folder), torch_dtype=dtype)
        return cls(model.encoder.eval(), WhisperFeatureExtractor.from_pretrained(str(folder)))

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> Tensor:
        """Up to 30 s of samples (n,) at 16 kHz -> (steps, layers, channels) at 50 steps per second."""
        device = next(self.encoder.parameters()).device
        mel = self.extractor(waveform.cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        hidden = self.encoder(mel.input_features.to(device), output_hidden_states=True).hidden_states
        return torch.stack(hidden, dim=2)[0, : int(len(waveform) * self.rate / SAMPLE_RATE)]

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the folder `from_pretrained` reads (weights of the whole Whisper model)."""
        from transformers import WhisperModel

        model = WhisperModel(self.encoder.config)
        model.encoder = self.encoder
        model.save_pretrained(str(folder))
        self.extractor.save_pretrained(str(folder))
