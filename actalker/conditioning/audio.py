"""Speech features to audio tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.components import SAMPLE_RATE, AudioEncoder
from actalker.config import Configured


@dataclass(frozen=True, slots=True)
class AudioProjectionConfig:
    """Sizes; the defaults are the released `audio_linear` file.

    Attributes:
        window: feature steps around a frame.
        layers: encoder layers per step.
        features: channels per layer.
        hidden: width of the two hidden layers.
        tokens: audio tokens per frame.
        condition: channels of a token.
        before: steps of the window that precede the frame.
    """

    window: int = 10
    layers: int = 5
    features: int = 384
    hidden: int = 1024
    tokens: int = 32
    condition: int = 1024
    before: int = 4


class AudioProjection(Configured):
    """Flatten a frame's feature window and map it to tokens."""

    Config = AudioProjectionConfig
    config: AudioProjectionConfig

    def __init__(self, config: AudioProjectionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AudioProjectionConfig()
        self.proj1 = nn.Linear(config.window * config.layers * config.features, config.hidden)
        self.proj2 = nn.Linear(config.hidden, config.hidden)
        self.proj3 = nn.Linear(config.hidden, config.tokens * config.condition)
        self.norm = nn.LayerNorm(config.condition)

    def forward(self, windows: Tensor) -> Tensor:
        """(..., window, layers, features) -> (..., tokens, condition)."""
        x = F.relu(self.proj1(windows.flatten(-3)))
        x = self.proj3(F.relu(self.proj2(x)))
        return self.norm(x.unflatten(-1, (self.config.tokens, self.config.condition)))

    def silent(self) -> Tensor:
        """Tokens of an all-zero window (1, 1, tokens, condition): the unconditional audio."""
        config = self.config
        zeros = self.proj1.weight.new_zeros(1, 1, config.window, config.layers, config.features)
        return self(zeros)

    def windows(self, features: Tensor, frames: int, fps: float, rate: float) -> Tensor:
        """Cut the window of every video frame, zero-padded at both ends.

        Args:
            features: (steps, layers, channels) at `rate` steps per second.
            frames: number of video frames.
            fps: frame rate of the video.
            rate: feature steps per second.

        Returns:
            (frames, window, layers, channels); frame i starts `before` steps ahead of second i / fps.
        """
        return take_steps(features, self.steps(0, frames, fps, rate))

    def steps(self, first: int, frames: int, fps: float, rate: float) -> Tensor:
        """Feature steps (frames, window) that video frames `first`, `first + 1`, ... read; may lie outside."""
        start = torch.round(torch.arange(first, first + frames, dtype=torch.float64) * rate / fps).long()
        return start[:, None] + torch.arange(self.config.window) - self.config.before


def take_steps(features: Tensor, index: Tensor) -> Tensor:
    """Features (steps, layers, channels) at `index` (...), zeros where it lies outside."""
    steps = features.shape[0]
    inside = (index >= 0) & (index < steps)
    return F.pad(features, (0, 0, 0, 0, 0, 1))[torch.where(inside, index, steps).to(features.device)]


class Speech:
    """Feature windows of one recording, encoded chunk by chunk as they are asked for.

    Args:
        encoder: speech features.
        projection: decides which steps a frame reads.
        waveform: mono samples (n,) in [-1, 1] at 16 kHz, where the encoder is.
    """

    def __init__(self, encoder: AudioEncoder, projection: AudioProjection, waveform: Tensor) -> None:
        self._encoder, self._projection, self._waveform = encoder, projection, waveform
        self._chunks: dict[int, Tensor] = {}

    def windows(self, first: int, count: int, fps: float) -> Tensor:
        """Windows of video frames `first` to `first + count`: (count, window, layers, channels)."""
        index = self._projection.steps(first, count, fps, self._encoder.rate)
        low, high = max(0, int(index.min())), int(index.max()) + 1
        return take_steps(self._features(low, high), index - low)

    def _features(self, low: int, high: int) -> Tensor:
        """Features of steps [low, high), or as far as the sound goes; whole chunks are encoded."""
        encoder, samples = self._encoder, len(self._waveform)
        if encoder.chunk_seconds is not None:
            samples = round(encoder.chunk_seconds * SAMPLE_RATE)
        steps = round(samples * encoder.rate / SAMPLE_RATE)
        needed = range(low // steps, max(low, high - 1) // steps + 1)
        for chunk in [known for known in self._chunks if known not in needed]:
            del self._chunks[chunk]
        for chunk in needed:
            part = self._waveform[chunk * samples : (chunk + 1) * samples]
            if chunk not in self._chunks and len(part):
                self._chunks[chunk] = encoder.encode(part)
        known = [self._chunks[chunk] for chunk in needed if chunk in self._chunks]
        if not known:
            config = self._projection.config
            return torch.zeros(0, config.layers, config.features, device=self._waveform.device)
        start = needed[0] * steps
        return torch.cat(known)[low - start : high - start]
