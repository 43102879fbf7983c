"""The denoising UNet: Stable Video Diffusion's layout with control layers and two adapters.

`UNetConfig()` is the released model (1,775,460,842 parameters); every size is a field, so small models are
the same class. Source: paper Fig. 2 and the released checkpoint's key list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from actalker.attention import Context
from actalker.blocks import DownStage, MakeTransformer, MidStage, SpatioTemporalResBlock, Stage, UpStage
from actalker.config import Configured
from actalker.control import ControlConfig
from actalker.masks import ControlMasks
from actalker.transformer import Conditioning, SpatialBlock, SpatioTemporalTransformer, TemporalBlock

_SIZES = 256
"""More than a UNet has different blocks."""


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Sizes and options of the UNet.

    Attributes:
        in_channels: noisy latents plus reference latents.
        out_channels: predicted latents.
        channels: width of each level, finest first.
        layers: residual blocks per level (one more on the way up).
        heads: attention heads of each level.
        attention: which levels have transformers, and with them control layers.
        mid_attention: a transformer (without control layer) in the middle.
        condition: channels of identity, audio and motion tokens.
        adapter_scale: weight of the audio and motion adapters.
        time_ids: numbers such as frame rate and motion bucket added to the time embedding; 0 for none.
        time_id_channels: sinusoidal channels of each of them.
        norm_groups: GroupNorm groups.
        temporal_masks: apply the control masks in the temporal cross-attention (released: False).
        reference_skip: add the reference latents to the output, so that a clean-latent prediction starts as a
            copy of the reference (released: False).
        frame_embedding: add projections of each frame's audio and motion tokens to the time embedding, so that
            they also reach levels without transformers (released: False).
        control: the control layers' options.
    """

    in_channels: int = 8
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: tuple[int, ...] = (5, 10, 20, 20)
    attention: tuple[bool, ...] = (True, True, True, False)
    mid_attention: bool = True
    condition: int = 1024
    adapter_scale: float = 1.25
    time_ids: int = 3
    time_id_channels: int = 256
    norm_groups: int = 32
    temporal_masks: bool = False
    reference_skip: bool = False
    frame_embedding: bool = False
    control: ControlConfig = field(default_factory=ControlConfig)

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.heads) == len(self.attention):
            raise ValueError("channels, heads and attention need one entry per level")


@dataclass(slots=True)
class InnerFeatures:
    """What the last stage takes from the levels below it (batch·frames, width, h, w); None: not computed yet.

    It changes slowly from one noise level to the next, so it may be used again (Ma et al., DeepCache, CVPR 2024).
    """

    value: Tensor | None = None


class ACTalkerUNet(Configured):
    """Predict the denoising target of a clip's latents from its conditions."""

    Config = UNetConfig
    config: UNetConfig

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        channels, groups = config.channels, config.norm_groups
        embedding = channels[0] * 4
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_proj = Timesteps(channels[0], True, 0)
        self.time_embedding = TimestepEmbedding(channels[0], embedding)
        self.add_time_proj = None
        self.add_embedding = None
        if config.time_ids:
            self.add_time_proj = Timesteps(config.time_id_channels, True, 0)
            self.add_embedding = TimestepEmbedding(config.time_ids * config.time_id_channels, embedding)
        self.frame_audio = self.frame_motion = None
        if config.frame_embedding:
            self.frame_audio = nn.Linear(config.condition, embedding, bias=False)
            self.frame_motion = nn.Linear(config.condition, embedding, bias=False)

        last = len(channels) - 1
        self.down_blocks = nn.ModuleList()
        inputs = channels[0]
        skips = [channels[0]]
        for level, width in enumerate(channels):
            self.down_blocks.append(
                DownStage(inputs, width, embedding, config.layers, groups, self._transformer(level), level != last)
            )
            skips += [width] * (config.layers + (level != last))
            inputs = width
        self.mid_block = MidStage(
            channels[-1],
            embedding,
            groups,
            self._transformer(last, mid=True) if config.mid_attention else None,
        )
        self.up_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            width = channels[level]
            into = []
            for _ in range(config.layers + 1):
                into.append(inputs + skips.pop())
                inputs = width
            self.up_blocks.append(UpStage(into, width, embedding, groups, self._transformer(level), level != 0))
        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def _transformer(self, level: int, mid: bool = False) -> MakeTransformer | None:
        config = self.config
        if not (mid or config.attention[level]):
            return None
        return lambda width: SpatioTemporalTransformer(
            width,
            config.condition,
            config.heads[level],
            config.norm_groups,
            config.adapter_scale,
            None if mid else config.control,
        )

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Recompute every layer in the backward pass instead of keeping its activations."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.gradient_checkpointing = on

    def compile_blocks(self, **options: Any) -> None:
        """Compile the residual, spatial and temporal blocks, each as a whole; equal to rounding.

        What lies between their matrix products and convolutions is fused, which saves reading and writing it. The
        control layers are left alone: their scan is fused already. The first call with new sizes compiles.

        Args:
            options: of `torch.compile`, e.g. `backend` or `mode`.
        """
        # One compiled function per size; PyTorch gives up after eight by default.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SIZES)
        for module in self.modules():
            if isinstance(module, SpatioTemporalResBlock | SpatialBlock | TemporalBlock):
                module.compile(fullgraph=True, dynamic=False, **options)

    def enable_layerwise_casting(
        self, storage_dtype: torch.dtype = torch.float8_e4m3fn, compute_dtype: torch.dtype | None = None
    ) -> None:
        """Keep the large matrices in a smaller precision and widen each while it works: memory, not speed.

        Norms, the first and the last convolution, convolutions over time and the scans' own parameters stay.

        Args:
            storage_dtype: what weights are kept in.
            compute_dtype: what they are widened to; default their present precision.
        """
        from diffusers.hooks import apply_layerwise_casting

        apply_layerwise_casting(
            self,
            storage_dtype,
            compute_dtype or self.conv_in.weight.dtype,
            skip_modules_pattern=("norm", "^conv_in$", "^conv_out$"),
            skip_modules_classes=(nn.Conv3d,),
        )

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        context: Context,
        masks: ControlMasks | None = None,
        time_ids: Tensor | None = None,
        spatial: Tensor | None = None,
        inner: InnerFeatures | None = None,
    ) -> Tensor:
        """Predict the target for every frame.

        Args:
            sample: noisy and reference latents concatenated on channels, (batch, frames, in_channels, h, w).
            timestep: noise level as the schedule encodes it, one number or (batch,).
            context: identity, audio and motion tokens, each (batch, frames or 1, n, condition); a branch
                whose gate is closed is None and costs nothing.
            masks: where audio and motion act; None lets both act everywhere.
            time_ids: (batch or 1, time_ids) numbers, required when the config has any.
            spatial: pose-guider features added after the first convolution, (batch or 1, frames or 1,
                channels[0], h, w).
            inner: of an earlier call, whose inner levels then are not computed; empty ones are filled.

        Returns:
            (batch, frames, out_channels, h, w).
        """
        batch, frames = sample.shape[:2]
        embedding = self._embed(sample, timestep, time_ids)
        for project, tokens in ((self.frame_audio, context.audio), (self.frame_motion, context.motion)):
            if project is not None and tokens is not None:
                per_frame = project(tokens.mean(2)).expand(batch, frames, -1)
                embedding = embedding + per_frame.flatten(0, 1)
        conditioning = Conditioning(
            spatial=context,
            temporal=context.over_time(),
            masks=masks or ControlMasks(),
            batch=batch,
            frames=frames,
            temporal_masks=self.config.temporal_masks,
        )
        x = self.conv_in(sample.flatten(0, 1))
        if spatial is not None:
            x = x + spatial.to(x.dtype).expand(batch, frames, -1, -1, -1).flatten(0, 1)
        skips = [x]
        known = None if inner is None else inner.value
        for stage in self.down_blocks if known is None else self.down_blocks[:1]:
            x, made = stage(x, embedding, conditioning)
            skips += made
        if known is None:
            x = self.mid_block(x, embedding, conditioning)
            for stage in self.up_blocks[:-1]:
                x = stage(x, skips, embedding, conditioning)
            if inner is not None:
                inner.value = x
        else:
            x, skips = known, skips[: self.config.layers + 1]
        x = self.up_blocks[-1](x, skips, embedding, conditioning)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        x = x.unflatten(0, (batch, frames))
        if self.config.reference_skip:
            x = x.to(sample.dtype) + sample[:, :, -self.config.out_channels :]
        return x

    def _embed(self, sample: Tensor, timestep: Tensor | float, time_ids: Tensor | None) -> Tensor:
        """Time embedding (batch·frames, 4·channels[0]). Sinusoids are computed in single precision."""
        batch, frames = sample.shape[:2]
        time = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).reshape(-1).expand(batch)
        embedding = self.time_embedding(self.time_proj(time).to(sample.dtype))
        if self.add_embedding is not None and self.add_time_proj is not None:
            if time_ids is None or time_ids.shape[-1] != self.config.time_ids:
                raise ValueError(f"this UNet needs time_ids of shape (batch, {self.config.time_ids})")
            ids = self.add_time_proj(time_ids.to(sample.device).flatten()).reshape(time_ids.shape[0], -1)
            embedding = embedding + self.add_embedding(ids.to(sample.dtype))
        return embedding.repeat_interleave(frames, dim=0)
