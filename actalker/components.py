"""Interfaces of the exchangeable parts around the UNet.

The full-size model uses Stable Video Diffusion's autoencoder and Whisper; a small model brings its own. A
class that implements one of these is named in `model_index.json` (see `actalker.pipeline`); trained ones
derive from `actalker.config.Configured`, so that they store and load themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from actalker.masks import Box

SAMPLE_RATE = 16_000


@runtime_checkable
class Codec(Protocol):
    """Images to latents and back; an `nn.Module` with one dtype and device.

    Attributes:
        stride: pixels per latent cell along each side.
        latent_channels: channels of a latent.
        scaling: factor that brings latents to about unit variance; the UNet's noisy latents are scaled, its
            reference latents (concatenated on channels) are not, as in Stable Video Diffusion.
    """

    stride: int
    latent_channels: int
    scaling: float

    def encode(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] -> mean latents (n, latent_channels, H / stride, W / stride), unscaled."""

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents (n, c, h, w) of n consecutive frames -> images (n, 3, H, W) in [-1, 1]."""


@runtime_checkable
class AudioEncoder(Protocol):
    """Waveform to per-step features; an `nn.Module`.

    Attributes:
        rate: feature steps per second.
        chunk_seconds: the waveform is encoded in independent chunks of this length, which bounds memory;
            None encodes it as a whole.
    """

    rate: float
    chunk_seconds: float | None

    def encode(self, waveform: Tensor) -> Tensor:
        """Mono samples (n,) in [-1, 1] at 16 kHz -> (steps, layers, channels), steps = floor(n·rate / 16000).

        Layers and channels must equal those of the model's `AudioProjectionConfig`.
        """


@dataclass(frozen=True, slots=True)
class Face:
    """One face.

    Attributes:
        box: tight face box (x1, y1, x2, y2) in pixels.
        mouth: box of the lips, or None.
        features: box from brows to mouth, from which the expression is read; None means `box`.
        blendshapes: MediaPipe's 52 expression coefficients in [0, 1], or None where they were not asked for.
        head: rotation (pitch, yaw, roll) in degrees and translation in decimetres in front of the camera, or None.
    """

    box: Box
    mouth: Box | None = None
    features: Box | None = None
    blendshapes: tuple[float, ...] | None = None
    head: tuple[float, ...] | None = None

    @property
    def area(self) -> float:
        """Area of the face box in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@runtime_checkable
class FaceFinder(Protocol):
    """Finds faces in a picture."""

    def find(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in an RGB picture (H, W, 3), largest first; empty when there is none."""
