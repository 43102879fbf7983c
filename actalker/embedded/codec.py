"""The embedded model's codec, in the role of the VAE."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from actalker.config import Configured


@dataclass(frozen=True, slots=True)
class PatchCodecConfig:
    """Sizes.

    Attributes:
        patch: side of a patch in pixels; the codec's stride.
        scale: factor on the latents that gives them about unit variance; part of `encode`, because noisy and
            reference latents must have one scale for the UNet's reference skip.
    """

    patch: int = 4
    scale: float = 2.0


class PatchCodec(Configured):
    """Patches folded into channels: the codec loses nothing and has nothing to learn.

    At 64×64 a mouth is twelve pixels wide; any stronger compression would cost exactly the pixels it is made of.
    """

    Config = PatchCodecConfig
    config: PatchCodecConfig
    scaling = 1.0

    def __init__(self, config: PatchCodecConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PatchCodecConfig()
        self.stride, self.latent_channels = config.patch, 3 * config.patch**2

    def encode(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] to latents (n, 3 · patch², H / patch, W / patch)."""
        return F.pixel_unshuffle(images, self.config.patch) * self.config.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images (n, 3, H, W), about [-1, 1]."""
        return F.pixel_shuffle(latents / self.config.scale, self.config.patch)
