"""Stable Video Diffusion's autoencoder as a `Codec`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn


class SVDCodec(nn.Module):
    """diffusers' `AutoencoderKLTemporalDecoder`: single-precision encoding, decoding at the stored precision.

    Args:
        vae: the autoencoder, e.g. the `vae` folder of `stable-video-diffusion-img2vid-xt-1-1`.

    Attributes:
        tile: side in latent cells of the tiles larger latents are decoded in; None decodes them whole.
    """

    tile: int | None = None

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.stride = 2 ** (len(vae.config.block_out_channels) - 1)
        self.latent_channels: int = vae.config.latent_channels
        self.scaling: float = vae.config.scaling_factor

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = torch.float32) -> Self:
        """Load a diffusers folder (`config.json` and safetensors, with or without the fp16 variant)."""
        from diffusers import AutoencoderKLTemporalDecoder

        variant = "fp16" if any(Path(folder).glob("*.fp16.safetensors")) else None
        vae = AutoencoderKLTemporalDecoder.from_pretrained(
            str(folder), variant=variant, torch_dtype=dtype, use_safetensors=True
        )
        return cls(vae).eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a diffusers folder."""
        # A copy: `to` would change the precision of the model in use.
        vae = self.vae if dtype is None or dtype == self.vae.dtype else copy.deepcopy(self.vae).to(dtype)
        vae.save_pretrained(str(folder))

    def encode(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] -> mean latents (n, 4, H/8, W/8), unscaled.

        The encoder overflows in half precision, so it runs in single precision whatever is stored.
        """
        stored = self.vae.dtype
        wide = torch.promote_types(stored, torch.float32)
        try:
            self.vae.to(wide)
            return self.vae.encode(images.to(self.vae.device, wide)).latent_dist.mean
        finally:
            self.vae.to(stored)

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents of n consecutive frames (n, 4, h, w) -> images (n, 3, H, W) in [-1, 1]."""
        if self.tile is not None and max(latents.shape[2:]) > self.tile:
            return self._tiled(latents, self.tile)
        return self._whole(latents)

    def _tiled(self, latents: Tensor, size: int) -> Tensor:
        """Tiles that overlap by a quarter, blended by weights that fall to their edges."""
        n, _, height, width = latents.shape
        made = weight = None
        for y in _starts(height, size):
            for x in _starts(width, size):
                part = self._whole(latents[:, :, y : y + size, x : x + size]).float()
                ramps = [_ramp(side, self.stride * size // 4).to(part) for side in part.shape[2:]]
                tent = ramps[0][:, None] * ramps[1][None]
                if made is None or weight is None:
                    made = part.new_zeros(n, part.shape[1], height * self.stride, width * self.stride)
                    weight = part.new_zeros(made.shape[2:])
                rows = slice(y * self.stride, y * self.stride + part.shape[2])
                columns = slice(x * self.stride, x * self.stride + part.shape[3])
                made[:, :, rows, columns] += part * tent
                weight[rows, columns] += tent
        assert made is not None and weight is not None
        return made / weight

    def _whole(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents.to(self.vae.device, self.vae.dtype), num_frames=latents.shape[0]).sample


def _starts(length: int, size: int) -> list[int]:
    """First cells of tiles of `size` cells that overlap by at least a quarter and cover `length` cells."""
    step = max(1, size - size // 4)
    return [*range(0, max(1, length - size), step), max(0, length - size)]


def _ramp(length: int, edge: int) -> Tensor:
    """Weights (length,) that rise over `edge` pixels from either end."""
    place = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(place, length + 1 - place).clamp_max(max(1, edge))
