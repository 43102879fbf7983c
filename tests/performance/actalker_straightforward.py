"""ACTalker's UNet call as the released code organises it, for comparison with the package's own.

Same modules and weights; only the order of work differs: every attention is a full softmax, the temporal
contexts are repeated for every position before keys and values are projected, both scan directions run over
the whole concatenated sequence on flipped copies, closed branches run on zero tokens, and all four guidance
rows are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import actalker.control as control
from actalker.attention import AdapterCrossAttention, Context
from actalker.conditions import Conditions
from actalker.control import ParallelControl, ScanUnit
from actalker.guidance import Guidance
from actalker.masks import LevelMask
from actalker.transformer import SpatialBlock, TemporalBlock


def full_attention(layer: AdapterCrossAttention, x: Tensor, context: Context, weights: tuple) -> Tensor:
    """(groups, positions, width), one context row per group."""
    heads = layer.heads
    adapters = layer.processor

    def split(t: Tensor) -> Tensor:
        return t.unflatten(-1, (heads, -1)).transpose(1, 2)

    q = split(layer.to_q(x))
    total = None
    for tokens, to_k, to_v, weight, scale in (
        (context.identity, layer.to_k, layer.to_v, None, 1.0),
        (context.audio, adapters.to_k_ip[0], adapters.to_v_ip[0], weights[0], layer.scale),
        (context.motion, adapters.to_k_ip[1], adapters.to_v_ip[1], weights[1], layer.scale),
    ):
        o = F.scaled_dot_product_attention(q, split(to_k(tokens)), split(to_v(tokens)))
        o = scale * o.transpose(1, 2).flatten(2)
        o = o if weight is None else o * weight
        total = o if total is None else total + o
    return layer.to_out[0](total)


def _spatial_block(
    block: SpatialBlock, x: Tensor, context: Context, audio: LevelMask, motion: LevelMask, frames: int
) -> Tensor:
    tokens = (context.identity, context.audio, context.motion)
    flat = Context(*(t.expand(-1, frames, -1, -1).flatten(0, 1) for t in tokens))
    weights = tuple(None if mask.weight is None else mask.weight[:, :, None] for mask in (audio, motion))
    x = x + block.attn1(block.norm1(x))
    x = x + full_attention(block.attn2, block.norm2(x), flat, weights)
    return x + block.ff(block.norm3(x))


def _temporal_block(block: TemporalBlock, x: Tensor, context: Context, weights: tuple, frames: int) -> Tensor:
    rows, positions, width = x.shape
    batch = rows // frames
    x = x.reshape(batch, frames, positions, width).transpose(1, 2).reshape(-1, frames, width)
    repeated = Context(
        *(
            t.expand(-1, positions, -1, -1).reshape(batch * positions, t.shape[2], -1)
            for t in (context.identity, context.audio, context.motion)
        )
    )
    x = x + block.ff_in(block.norm_in(x))
    x = x + block.attn1(block.norm1(x))
    x = x + full_attention(block.attn2, block.norm2(x), repeated, (None, None))
    x = x + block.ff(block.norm3(x))
    return x.reshape(batch, positions, frames, width).transpose(1, 2).reshape(rows, positions, width)


def _both_directions(unit: ScanUnit, sequence: Tensor, outputs: int | None = None, valid: None = None) -> Tensor:
    width = sequence.shape[-1]
    results = []
    for direction, tokens in enumerate((sequence, sequence.flip(1).contiguous())):
        low, B, C = F.linear(tokens, unit.x_proj_weight[direction]).split((unit.rank, unit.state, unit.state), -1)
        part = slice(direction * width, (direction + 1) * width)
        results.append(
            control.selective_scan(
                tokens,
                F.linear(low, unit.dt_projs_weight[direction]),
                -torch.exp(unit.A_logs[part]),
                B,
                C,
                unit.Ds[part],
                delta_bias=unit.dt_projs_bias[direction],
                backend=unit.backend,
            )
        )
    return results[0] + results[1].flip(1)


def _control(
    layer: ParallelControl,
    x: Tensor,
    identity: Tensor,
    audio: Tensor,
    motion: Tensor,
    audio_mask: LevelMask,
    motion_mask: LevelMask,
    frames: int,
) -> Tensor:
    def rows(t: Tensor) -> Tensor:
        return t.expand(-1, frames, -1, -1).flatten(0, 1)

    i = F.silu(layer.id_proj(rows(identity)))
    total = None
    for z, unit, project, tokens, mask in (
        (layer.in_proj1(x), layer.audio_unit, layer.audio_proj, audio, audio_mask),
        (layer.in_proj2(x), layer.exp_unit, layer.exp_proj, motion, motion_mask),
    ):
        index = mask.index[0]
        u = unit(torch.cat([z[:, index], i, F.silu(project(rows(tokens)))], dim=1))
        z = z.clone()
        z[:, index] = u[:, : len(index)]
        total = z if total is None else total + z
    return layer.out_proj(layer.out_norm(total))


@contextmanager
def straightforward() -> Iterator[None]:
    """Within this block every ACTalker module computes the straightforward way."""
    with (
        patch.object(SpatialBlock, "forward", _spatial_block),
        patch.object(TemporalBlock, "forward", _temporal_block),
        patch.object(ScanUnit, "forward", _both_directions),
        patch.object(ParallelControl, "forward", _control),
    ):
        yield


def four_rows(
    guidance: Guidance, conditions: Conditions, audio_tokens: int, motion_tokens: int, frames: int
) -> tuple[Context, list[float]]:
    """Contexts and weights of the four guidance rows; tokens of a closed branch are zeros."""
    e = conditions.identity
    zeros_a = e.new_zeros(1, frames, audio_tokens, e.shape[-1])
    zeros_m = e.new_zeros(1, frames, motion_tokens, e.shape[-1])
    a0, a1 = zeros_a, zeros_a
    if conditions.audio is not None and conditions.silence is not None:
        a0, a1 = conditions.silence.expand(-1, frames, -1, -1), conditions.audio
    m0, m1 = zeros_m, zeros_m
    if conditions.motion is not None and conditions.stillness is not None:
        m0, m1 = conditions.stillness.expand(-1, frames, -1, -1), conditions.motion
    context = Context(torch.cat([e * 0, e, e, e]), torch.cat([a0, a0, a1, a1]), torch.cat([m0, m0, m0, m1]))
    s1, s2, s3 = guidance.appearance, guidance.audio, guidance.motion
    return context, [1 - s1, s1 - s2, s2 - s3, s3]
