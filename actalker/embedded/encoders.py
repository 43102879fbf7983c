"""The embedded model's own encoders: small networks in the roles of Whisper, HeadExpression, HeadPose, ArcFace
and the VAE.

Pictures are (n, 3, 64, 64) in [-1, 1]. The four face and speech networks are trained first, each on what the
synthetic world knows exactly (`actalker.training.encoders`), then frozen.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.conditioning.identity import IResNetConfig
from actalker.config import Configured
from actalker.embedded.alignment import CROP_HEIGHT, CROP_WIDTH, EYE_ROWS, feature_crops

M = TypeVar("M", bound=nn.Module)
SIZE = 64
SAMPLE_RATE = 16_000
EXPRESSION = (
    "opening",
    "mouth_width",
    "protrusion",
    "smile",
    "brow",
    "furrow",
    "blink_left",
    "blink_right",
    "gaze_x",
    "gaze_y",
)
"""What `SmallHeadExpression` reads, each in units of its spread over the training pictures. The first three are
the mouth's articulation, which audio also decides; `MOUTH` is their slice, `BLINK` that of the two
lids."""
MOUTH = slice(0, 3)
BLINK = slice(6, 8)


ARCFACE = IResNetConfig(layers=(1, 1, 1, 1), widths=(16, 32, 48, 64), embedding=64, size=32)
"""The identity encoder: the full model's class on pictures of half the size."""


def for_identity(pictures: Tensor) -> Tensor:
    """(n, 3, 64, 64) to the identity encoder's input (n, 3, 32, 32)."""
    return F.avg_pool2d(pictures, SIZE // ARCFACE.size)


def channels_last(module: M) -> M:
    """Lay the weights out as the CPU's convolutions like them."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _trunk(width: int, outputs: int) -> nn.Sequential:
    """64×64 picture to a vector: the position of things must survive, so no global pooling."""
    return nn.Sequential(
        _conv(3, width, 5, 2),
        _Residual(width),
        _conv(width, 2 * width, 3, 2),
        _Residual(2 * width),
        _conv(2 * width, 4 * width, 3, 2),
        _conv(4 * width, 2 * width, 3, 2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, outputs),
    )


@dataclass(frozen=True, slots=True)
class SmallHeadPoseConfig:
    """Width of the first stage, and hidden units before the six numbers."""

    width: int = 20
    hidden: int = 96


class SmallHeadPose(Configured):
    """Whole picture to yaw, pitch, roll (radians), x, y (half widths of the picture) and scale."""

    Config = SmallHeadPoseConfig
    mean: Tensor
    spread: Tensor

    def __init__(self, config: SmallHeadPoseConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = _trunk(config.width, config.hidden)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(config.hidden, 6))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("spread", torch.ones(6))

    def standardised(self, pictures: Tensor) -> Tensor:
        """(n, 3, 64, 64) to (n, 6) in units of the spread."""
        return self.head(self.trunk(pictures)).float()

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, 64, 64) to the pose (n, 6)."""
        return self.standardised(pictures) * self.spread + self.mean


@dataclass(frozen=True, slots=True)
class SmallHeadExpressionConfig:
    """Width of the first stage, and hidden units before the outputs."""

    width: int = 16
    hidden: int = 48


class SmallHeadExpression(Configured):
    """Eye and mouth crops, cut along the head's pose, to ten expression numbers (`EXPRESSION`).

    The crops are needed: a network that sees the whole picture learns no gaze at all.
    """

    Config = SmallHeadExpressionConfig
    mean: Tensor
    spread: Tensor

    def __init__(self, config: SmallHeadExpressionConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width

        def tower(rows: int, outputs: int) -> nn.Sequential:
            cells = math.ceil(rows / 8) * math.ceil(CROP_WIDTH / 8)
            return nn.Sequential(
                _conv(3, w),
                _conv(w, w + w // 2, 3, 2),
                _Residual(w + w // 2),
                _conv(w + w // 2, 3 * w, 3, 2),
                _Residual(3 * w),
                _conv(3 * w, 4 * w, 3, 2),
                nn.Flatten(),
                nn.Linear(4 * w * cells, config.hidden),
                nn.ReLU(),
                nn.Linear(config.hidden, outputs),
            )

        self.mouth = tower(CROP_HEIGHT - EYE_ROWS, 4)
        self.eyes = tower(EYE_ROWS, 6)
        self.register_buffer("mean", torch.zeros(10))
        self.register_buffer("spread", torch.ones(10))

    def from_crops(self, crops: Tensor) -> Tensor:
        """Crops of `feature_crops` (n, 3, 64, 48) to (n, 10)."""
        eyes, mouth = crops[:, :, :EYE_ROWS], crops[:, :, EYE_ROWS:]
        lower, upper = self.mouth(mouth.contiguous()).float(), self.eyes(eyes.contiguous()).float()
        return torch.cat([lower, upper], 1)

    def forward(self, pictures: Tensor, pose: Tensor) -> Tensor:
        """Pictures (n, 3, 64, 64) and poses (n, 6) to (n, 10)."""
        return self.from_crops(feature_crops(pictures, pose))


@dataclass(frozen=True, slots=True)
class SmallAudioEncoderConfig:
    """Mel bands, hidden channels and layers after the strided convolution."""

    mels: int = 40
    width: int = 64
    layers: int = 3


class SmallAudioEncoder(Configured):
    """Speech to hidden states at 50 Hz, from which the shape of the mouth can be read.

    Laid out like Whisper's encoder stem (log-mel at 100 Hz, a convolution, a stride-2 convolution), but
    continued with convolutions: articulation is local in time, so nothing has to be padded to 30 s.
    """

    Config = SmallAudioEncoderConfig
    rate = 50.0
    chunk_seconds = None
    mean: Tensor
    spread: Tensor

    def __init__(self, config: SmallAudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Conv1d(config.mels, w, 3, padding=1)
        self.stride = nn.Conv1d(w, w, 4, stride=2, padding=1)
        self.layers = nn.ModuleList([nn.Conv1d(w, w, 5, padding=2) for _ in range(config.layers)])
        self.mouth = nn.Linear(w, 3)
        self.register_buffer("mean", torch.zeros(config.mels))
        self.register_buffer("spread", torch.ones(config.mels))

    def log_mel(self, audio: Tensor) -> Tensor:
        """Samples (n, s) in [-1, 1] at 16 kHz, s a multiple of 320, to log-mel (n, mels, s / 160)."""
        padded = F.pad(audio.float(), (120, 120))
        window = torch.hann_window(400, device=audio.device)
        spectrum = torch.stft(padded, 512, 160, 400, window, center=False, return_complex=True)
        if spectrum.shape[-1] < audio.shape[-1] // 160:
            spectrum = F.pad(spectrum, (0, audio.shape[-1] // 160 - spectrum.shape[-1]))
        power = spectrum.abs() ** 2
        return (mel_filters(self.config.mels).to(power) @ power + 1e-5).log()

    def forward(self, audio: Tensor) -> Tensor:
        """Samples (n, s) to (n, s / 320, width + 3): hidden states and a reading of opening, width, protrusion."""
        x = (self.log_mel(audio) - self.mean[:, None]) / self.spread[:, None]
        x = F.silu(self.stride(F.silu(self.stem(x))))
        for layer in self.layers:
            x = x + F.silu(layer(x))
        x = x.transpose(1, 2)
        return torch.cat([x, self.mouth(x)], -1)

    def encode(self, waveform: Tensor) -> Tensor:
        """Samples (s,) in [-1, 1] at 16 kHz to hidden states (s / 320, 1, width + 3)."""
        return self(waveform[None, : len(waveform) // 320 * 320])[0][:, None]

    @property
    def channels(self) -> int:
        """Channels of a hidden state."""
        return self.config.width + 3


@functools.cache
def mel_filters(bands: int, low: float = 50.0, high: float = 7600.0, fft: int = 512) -> Tensor:
    """Triangular filters (bands, fft / 2 + 1), equally spaced in mel (2595 log10(1 + f / 700))."""
    edges = torch.linspace(
        2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), bands + 2, dtype=torch.float64
    )
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = torch.arange(fft // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / fft
    left, centre, right = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    rise, fall = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return torch.minimum(rise, fall).clamp_min(0).float()
