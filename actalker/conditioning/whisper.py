"""Whisper's encoder as an `AudioEncoder`: hidden states of every layer at 50 steps per second.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356), §2.2, and
the published files' layout. Only the encoder is held: the decoder's weights in a folder are not read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.checkpoints import load_strictly, read_state
from actalker.components import SAMPLE_RATE
from actalker.errors import CheckpointError
from actalker.reading import foreign, read_json
from actalker.writing import write_json, write_tensors

_WINDOW, _HOP = 400, 160
_PREFIXES = ("model.encoder.", "encoder.")
_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class WhisperConfig:
    """Sizes under the names of the published `config.json`; the defaults are whisper-tiny.

    Attributes:
        d_model: width.
        encoder_layers: transformer layers.
        encoder_attention_heads: heads of each.
        encoder_ffn_dim: inner width of the feed-forward layers.
        num_mel_bins: mel bands of the input.
        max_source_positions: steps of a 30-second chunk.
    """

    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    num_mel_bins: int = 80
    max_source_positions: int = 1500


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        width = config.d_model
        self.self_attn = _Attention(width, config.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class WhisperEncoder(nn.Module):
    """Hidden states of every encoder layer (whisper-tiny: 5 x 384, the last after the final norm)."""

    rate = 50.0
    chunk_seconds: float | None = 30.0

    def __init__(self, config: WhisperConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or WhisperConfig()
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, config.d_model)
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.encoder_layers)])
        self.layer_norm = nn.LayerNorm(config.d_model)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = torch.float32) -> Self:
        """Load a folder of Whisper as published: `config.json` and safetensors or a pickled state dict.

        Raises:
            CheckpointError: files missing, or keys or shapes that do not fit.
        """
        folder = Path(folder)
        path = next((folder / name for name in _FILES if (folder / name).is_file()), None)
        if path is None or not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder} holds no config.json with {' or '.join(_FILES)}; it is not Whisper")
        values = read_json(folder / "config.json")
        known = {name: values[name] for name in asdict(WhisperConfig()) if name in values}
        with foreign(folder / "config.json"):
            encoder = cls(WhisperConfig(**known))
        state = {
            key.removeprefix(prefix): value
            for key, value in read_state(path).items()
            for prefix in _PREFIXES
            if key.startswith(prefix)
        }
        load_strictly(encoder, state, str(path), dtype=dtype)
        return encoder.eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the folder `from_pretrained` reads; weights as they are."""
        del dtype
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", {"model_type": "whisper", **asdict(self.config)})
        state: dict[str, Any] = self.state_dict()
        write_tensors(folder / _FILES[0], {_PREFIXES[0] + key: value for key, value in state.items()})

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> Tensor:
        """Up to 30 s of samples (n,) at 16 kHz -> (steps, layers, channels) at 50 steps per second."""
        weight = self.conv1.weight
        mel = log_mel(waveform.to(weight.device, torch.float32), self.config.num_mel_bins)
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel[None].to(weight.dtype))))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        hidden = [x]
        for layer in self.layers:
            x = layer(x)
            hidden.append(x)
        hidden[-1] = self.layer_norm(x)
        return torch.stack(hidden, dim=2)[0, : int(len(waveform) * self.rate / SAMPLE_RATE)]


def log_mel(waveform: Tensor, bins: int, seconds: float = 30.0) -> Tensor:
    """Whisper's input: log mel energies (bins, 100 per second) of samples (n,) padded to `seconds` by silence.

    The largest value is taken over the padded chunk and nothing lies more than 8 (80 dB) below it.
    """
    length = round(seconds * SAMPLE_RATE)
    padded = F.pad(waveform[:length], (0, max(0, length - len(waveform))))
    window = torch.hann_window(_WINDOW, device=waveform.device)
    power = torch.stft(padded, _WINDOW, _HOP, window=window, return_complex=True)[:, :-1].abs() ** 2
    filters = torch.from_numpy(mel_filters(bins)).to(power)
    energy = (filters @ power).clamp_min(1e-10).log10()
    return (torch.maximum(energy, energy.max() - 8) + 4) / 4


@cache
def mel_filters(bins: int) -> Any:
    """Triangular filters (bins, 201) on Slaney's mel scale up to 8 kHz, each of unit area per hertz."""
    step, corner, log_step = 200 / 3, 1000.0, np.log(6.4) / 27

    def hertz(mel: Any) -> Any:
        return np.where(mel < corner / step, mel * step, corner * np.exp(log_step * (mel - corner / step)))

    top = corner / step + np.log(SAMPLE_RATE / 2 / corner) / log_step
    edges = hertz(np.linspace(0, top, bins + 2))
    place = np.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    rising = (place - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - place) / np.diff(edges)[1:, None]
    areas = 2 / (edges[2:] - edges[:-2])
    return (np.maximum(0, np.minimum(rising, falling)) * areas[:, None]).astype(np.float32)
