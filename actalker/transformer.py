"""Spatio-temporal transformer: spatial block, control layer, temporal block, blended.

Order and parameter names follow Stable Video Diffusion's transformer with the control layer between its
spatial and temporal blocks; the layer's output replaces the hidden state (paper Fig. 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from actalker.attention import AdapterCrossAttention, Context, SelfAttention
from actalker.control import ControlConfig, build_control
from actalker.masks import ControlMask, ControlMasks, LevelMask


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What a transformer reads besides the feature map.

    Attributes:
        spatial: tokens per frame.
        temporal: the same averaged over the clip's frames.
        masks: where audio and motion act.
        batch, frames: clips in the batch and frames per clip.
        temporal_masks: apply the masks in the temporal cross-attention too (the released model does not, so
            there a driving signal reaches every position).
    """

    spatial: Context
    temporal: Context
    masks: ControlMasks
    batch: int
    frames: int
    temporal_masks: bool = False

    def level(self, mask: ControlMask | None, grid: tuple[int, int], like: Tensor) -> LevelMask | None:
        """`mask` on the grid of a feature map `like`."""
        return None if mask is None else mask.level(grid, self.batch, self.frames, like)


class SpatialBlock(nn.Module):
    """Pre-norm block over the positions of each frame: self-attention, cross-attention, feed-forward."""

    def __init__(self, width: int, condition: int, heads: int, adapter_scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = AdapterCrossAttention(width, condition, heads, adapter_scale)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width, activation_fn="geglu")

    def forward(
        self, x: Tensor, context: Context, audio: LevelMask | None, motion: LevelMask | None, frames: int
    ) -> Tensor:
        """(batch·frames, positions, width) -> same."""
        x = x + self.attn1(self.norm1(x))
        grouped = self.norm2(x).unflatten(0, (-1, frames))
        batch = grouped.shape[0]
        attended = self.attn2(
            grouped,
            _reached(context, audio, motion),
            _per_group(audio, batch, frames),
            _per_group(motion, batch, frames),
        )
        x = x + attended.flatten(0, 1)
        return x + self.ff(self.norm3(x))


class TemporalBlock(nn.Module):
    """Pre-norm block over the frames at each position; its cross-attention sees time-averaged tokens."""

    def __init__(self, width: int, condition: int, heads: int, adapter_scale: float) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.ff_in = FeedForward(width, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = AdapterCrossAttention(width, condition, heads, adapter_scale)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width, activation_fn="geglu")

    def forward(
        self, x: Tensor, context: Context, weights: tuple[Tensor | None, Tensor | None], frames: int
    ) -> Tensor:
        """(batch·frames, positions, width) -> same.

        Args:
            x: feature map tokens with the frame embedding added.
            context: time-averaged tokens (batch, 1, n, condition).
            weights: audio and motion mask values broadcastable to (batch, frames, positions, 1), or None.
            frames: frames per clip.
        """
        rows, positions, width = x.shape
        batch = rows // frames
        x = x.reshape(batch, frames, positions, width).transpose(1, 2).reshape(-1, frames, width)
        x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x))
        # All positions and frames of a clip read the same tokens: one group, keys and values projected once.
        grouped = self.norm2(x).reshape(batch, 1, positions * frames, width)
        audio, motion = (
            None
            if w is None
            else w.expand(-1, frames, positions, 1).transpose(1, 2).reshape(-1, 1, positions * frames, 1)
            for w in weights
        )
        x = x + self.attn2(grouped, context, audio, motion).reshape_as(x)
        x = x + self.ff(self.norm3(x))
        return x.reshape(batch, positions, frames, width).transpose(1, 2).reshape(rows, positions, width)


class TimeMixer(nn.Module):
    """Learned blend σ·spatial + (1−σ)·temporal."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Blend two tensors of the same shape."""
        return torch.lerp(temporal, spatial, torch.sigmoid(self.mix_factor).to(spatial.dtype))


class SpatioTemporalTransformer(nn.Module):
    """Spatial block, control layer and temporal block around one feature map.

    Args:
        width: channels.
        condition: channels of the context tokens.
        heads: attention heads.
        groups: groups of the entry GroupNorm.
        adapter_scale: weight of the two adapters.
        control: the control layer's options, or None (mid block).
    """

    def __init__(
        self,
        width: int,
        condition: int,
        heads: int,
        groups: int,
        adapter_scale: float,
        control: ControlConfig | None,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(width, condition, heads, adapter_scale)])
        self.mamba_blocks = None if control is None else build_control(width, condition, heads, control)
        self.temporal_transformer_blocks = nn.ModuleList([TemporalBlock(width, condition, heads, adapter_scale)])
        self.time_proj = Timesteps(width, True, 0)
        self.time_pos_embed = TimestepEmbedding(width, width * 4, out_dim=width)
        self.time_mixer = TimeMixer()
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """(batch·frames, width, height, width) -> same, residual included."""
        grid = (x.shape[2], x.shape[3])
        frames = conditioning.frames
        audio = conditioning.level(conditioning.masks.audio, grid, x)
        motion = conditioning.level(conditioning.masks.motion, grid, x)
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        tokens = self.transformer_blocks[0](tokens, conditioning.spatial, audio, motion, frames)
        if self.mamba_blocks is not None:
            context = conditioning.spatial
            tokens = self.mamba_blocks[0](
                tokens, context.identity, context.audio, context.motion, audio, motion, frames
            )
        position = self.time_proj(torch.arange(frames, device=x.device)).to(x.dtype)
        position = self.time_pos_embed(position).repeat(conditioning.batch, 1)[:, None]
        weights: tuple[Tensor | None, Tensor | None] = (None, None)
        if conditioning.temporal_masks:
            weights = (
                _per_group(audio, conditioning.batch, frames),
                _per_group(motion, conditioning.batch, frames),
            )
        mixed = self.temporal_transformer_blocks[0](tokens + position, conditioning.temporal, weights, frames)
        tokens = self.proj_out(self.time_mixer(tokens, mixed))
        return x + tokens.transpose(1, 2).unflatten(2, grid)


def _reached(context: Context, audio: LevelMask | None, motion: LevelMask | None) -> Context:
    """The context without the signals whose mask is zero everywhere: they would add zeros."""
    return Context(
        context.identity,
        None if audio is not None and audio.empty else context.audio,
        None if motion is not None and motion.empty else context.motion,
    )


def _per_group(mask: LevelMask | None, batch: int, frames: int) -> Tensor | None:
    """Mask values as (batch or 1, frames or 1, positions, 1); None where they are all 1."""
    if mask is None or mask.weight is None:
        return None
    if mask.weight.shape[0] == 1:
        return mask.weight[:, None, :, None]
    return mask.weight.reshape(batch, frames, -1, 1)
