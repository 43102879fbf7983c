"""The embedded model's codec, in the role of the VAE: patches on an orthonormal basis and a small decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.config import Configured


@dataclass(frozen=True, slots=True)
class PatchCodecConfig:
    """Sizes.

    Attributes:
        patch: side of a patch in pixels; the codec's stride.
        channels: latent channels; `3 * patch**2` loses nothing.
        scale: factor on the latents that gives them about unit variance; part of `encode`, because noisy and
            reference latents must have one scale for the UNet's reference skip.
        hidden: channels of the decoder's correction.
    """

    patch: int = 4
    channels: int = 48
    scale: float = 2.0
    hidden: int = 24


class PatchCodec(Configured):
    """Pictures to latents and back.

    The encoder is linear and keeps all detail; the decoder inverts it and adds a learned correction that
    removes what diffusion leaves behind (noise and softness). At 64×64 a stronger compression would cost
    exactly the pixels a mouth is made of.
    """

    Config = PatchCodecConfig
    scaling = 1.0

    def __init__(self, config: PatchCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.stride, self.latent_channels = config.patch, config.channels
        full = 3 * config.patch**2
        self.basis = nn.Parameter(torch.eye(full)[: config.channels].clone(), requires_grad=False)
        self.correct = nn.Sequential(
            nn.Conv2d(3, config.hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.hidden, config.hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.hidden, 3, 3, padding=1),
        )
        nn.init.zeros_(self.correct[-1].weight)
        nn.init.zeros_(self.correct[-1].bias)

    def encode(self, pictures: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] to latents (n, channels, H / patch, W / patch)."""
        patches = F.pixel_unshuffle(pictures, self.config.patch)
        return torch.einsum("kc,nchw->nkhw", self.basis.to(patches), patches) * self.config.scale

    def invert(self, latents: Tensor) -> Tensor:
        """Undo `encode` linearly, without the correction: (n, channels, h, w) to (n, 3, H, W)."""
        patches = torch.einsum("kc,nkhw->nchw", self.basis.to(latents), latents) / self.config.scale
        return F.pixel_shuffle(patches, self.config.patch)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, channels, h, w) to pictures (n, 3, H, W), about [-1, 1]."""
        pictures = self.invert(latents)
        return pictures + self.correct(pictures)
