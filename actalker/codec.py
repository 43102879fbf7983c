"""Stable Video Diffusion's autoencoder as a `Codec`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn


class SVDCodec(nn.Module):
    """diffusers' `AutoencoderKLTemporalDecoder`: single-precision encoding, decoding at the stored precision.

    Args:
        vae: the autoencoder, e.g. the `vae` folder of `stable-video-diffusion-img2vid-xt-1-1`.
    """

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
        (self.vae if dtype is None else self.vae.to(dtype)).save_pretrained(str(folder))

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
        return self.vae.decode(latents.to(self.vae.device, self.vae.dtype), num_frames=latents.shape[0]).sample
