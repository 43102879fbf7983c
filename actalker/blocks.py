"""Residual blocks over space and time, and the UNet stages built from them.

Parameter names are those of Stable Video Diffusion's blocks. The temporal convolutions are written as
two-dimensional ones over (frames, positions), which is the same arithmetic on kernels every backend has fast.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from actalker.transformer import Conditioning, SpatioTemporalTransformer, TimeMixer

MakeTransformer = Callable[[int], SpatioTemporalTransformer]


class TemporalResBlock(nn.Module):
    """Residual block of two convolutions over three frames each."""

    def __init__(self, width: int, embedding: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, eps=eps)
        self.conv1 = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = nn.Linear(embedding, width)
        self.norm2 = nn.GroupNorm(groups, width, eps=eps)
        self.conv2 = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(batch, width, frames, positions), embedding (batch, frames, e) -> same shape as `x`."""
        h = _over_time(self.conv1, F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(embedding)).transpose(1, 2).unsqueeze(-1)
        return x + _over_time(self.conv2, F.silu(self.norm2(h)))


class SpatioTemporalResBlock(nn.Module):
    """Spatial residual block, temporal residual block, blended.

    Args:
        inputs, width: channels in and out.
        embedding: channels of the time embedding.
        groups: GroupNorm groups.
        eps: GroupNorm epsilon.
    """

    def __init__(self, inputs: int, width: int, embedding: int, groups: int, eps: float) -> None:
        super().__init__()
        self.spatial_res_block = ResnetBlock2D(
            in_channels=inputs, out_channels=width, temb_channels=embedding, groups=groups, eps=eps
        )
        self.temporal_res_block = TemporalResBlock(width, embedding, groups, eps)
        self.time_mixer = TimeMixer()

    def forward(self, x: Tensor, embedding: Tensor, frames: int) -> Tensor:
        """(batch·frames, inputs, h, w), embedding (batch·frames, e) -> (batch·frames, width, h, w)."""
        spatial = self.spatial_res_block(x, embedding)
        rows, width, height, columns = spatial.shape
        clips = spatial.reshape(rows // frames, frames, width, height * columns).transpose(1, 2)
        temporal = self.temporal_res_block(clips, embedding.unflatten(0, (-1, frames)))
        return self.time_mixer(spatial, temporal.transpose(1, 2).reshape_as(spatial))


class Stage(nn.Module):
    """Base of the UNet's stages: residual blocks, optionally each followed by a transformer."""

    gradient_checkpointing = False
    resnets: nn.ModuleList
    attentions: nn.ModuleList | None

    def _layer(self, i: int, x: Tensor, embedding: Tensor, conditioning: Conditioning) -> Tensor:
        transformer = None if self.attentions is None else self.attentions[i]

        def run(x: Tensor) -> Tensor:
            x = self.resnets[i](x, embedding, conditioning.frames)
            return x if transformer is None else transformer(x, conditioning)

        if self.training and self.gradient_checkpointing:
            return checkpoint(run, x, use_reentrant=False)
        return run(x)


class DownStage(Stage):
    """Residual blocks at one resolution, then a stride-2 convolution (except in the last stage)."""

    def __init__(
        self, inputs: int, width: int, embedding: int, layers: int, groups: int,
        transformer: MakeTransformer | None, downsample: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        eps = 1e-5 if transformer is None else 1e-6
        self.resnets = nn.ModuleList(
            [SpatioTemporalResBlock(width if i else inputs, width, embedding, groups, eps) for i in range(layers)]
        )
        self.attentions = None
        if transformer is not None:
            self.attentions = nn.ModuleList([transformer(width) for _ in range(layers)])
        self.downsamplers = None
        if downsample:
            self.downsamplers = nn.ModuleList([Downsample2D(width, use_conv=True, out_channels=width, name="op")])

    def forward(self, x: Tensor, embedding: Tensor, conditioning: Conditioning) -> tuple[Tensor, list[Tensor]]:
        """Return the result and the skip connections, in the order they were made."""
        skips = []
        for i in range(len(self.resnets)):
            x = self._layer(i, x, embedding, conditioning)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class MidStage(Stage):
    """Residual block, transformer without control layer, residual block."""

    def __init__(self, width: int, embedding: int, groups: int, transformer: MakeTransformer | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            [SpatioTemporalResBlock(width, width, embedding, groups, 1e-5) for _ in range(2)]
        )
        self.attentions = None if transformer is None else nn.ModuleList([transformer(width)])

    def forward(self, x: Tensor, embedding: Tensor, conditioning: Conditioning) -> Tensor:
        """(batch·frames, width, h, w) -> same."""
        x = self._layer(0, x, embedding, conditioning)
        return self.resnets[1](x, embedding, conditioning.frames)


class UpStage(Stage):
    """Residual blocks that take back the skip connections, then nearest ×2 and a convolution."""

    def __init__(
        self, inputs: list[int], width: int, embedding: int, groups: int,
        transformer: MakeTransformer | None, upsample: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.resnets = nn.ModuleList(
            [SpatioTemporalResBlock(channels, width, embedding, groups, 1e-6) for channels in inputs]
        )
        self.attentions = None
        if transformer is not None:
            self.attentions = nn.ModuleList([transformer(width) for _ in inputs])
        self.upsamplers = None
        if upsample:
            self.upsamplers = nn.ModuleList([Upsample2D(width, use_conv=True, out_channels=width)])

    def forward(self, x: Tensor, skips: list[Tensor], embedding: Tensor, conditioning: Conditioning) -> Tensor:
        """`skips` are consumed from the end; sizes that do not halve evenly follow the next skip."""
        for i in range(len(self.resnets)):
            x = self._layer(i, torch.cat([x, skips.pop()], dim=1), embedding, conditioning)
        if self.upsamplers is not None:
            size = skips[-1].shape[2:]
            doubled = size == (2 * x.shape[2], 2 * x.shape[3])
            x = self.upsamplers[0](x, None if doubled else tuple(size))
        return x


def _over_time(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Apply a (3, 1, 1) convolution to (batch, channels, frames, positions)."""
    return F.conv2d(x, conv.weight.squeeze(-1), conv.bias, padding=(1, 0))
