"""Self-attention, and cross-attention with one adapter per driving signal.

The cross-attention adds, to attention over the identity token, one attention per adapter (audio, motion),
scaled and weighed by that signal's mask. Parameter names are those of the released checkpoint, where the
adapters hang below `processor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ADAPTERS = 2
SCORES_BYTES = 2**30
"""Attention scores computed at once in single precision, where a device may have no kernel that stores none."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Tokens the cross-attention reads, each (batch, frames or 1, n, condition); None is a closed branch."""

    identity: Tensor
    audio: Tensor | None
    motion: Tensor | None

    def over_time(self) -> Context:
        """Tokens averaged over the clip's frames, (batch, 1, n, condition): context of temporal blocks."""
        identity, audio, motion = (
            None if t is None else t.mean(1, keepdim=True) for t in (self.identity, self.audio, self.motion)
        )
        assert identity is not None
        return Context(identity, audio, motion)


class SelfAttention(nn.Module):
    """Multi-head self-attention without bias in q, k, v.

    Args:
        width: channels.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> same."""
        if x.shape[1] == 1:
            return self.to_out[0](self.to_v(x))
        q, k, v = (_split_heads(project(x), self.heads) for project in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](_join_heads(attend(q, k, v)))


class _AdapterWeights(nn.Module):
    """Keys and values of the adapters; index 0 is audio, 1 is motion."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.to_k_ip = nn.ModuleList([nn.Linear(condition, width, bias=False) for _ in range(ADAPTERS)])
        self.to_v_ip = nn.ModuleList([nn.Linear(condition, width, bias=False) for _ in range(ADAPTERS)])


class AdapterCrossAttention(nn.Module):
    """Cross-attention to the identity plus one masked, scaled attention per driving signal.

    A query over a single token returns that token's value whatever the query is, so identity and motion need
    no queries or keys: their value is projected once per clip (or frame) and broadcast over positions.

    Args:
        width: channels of the queries.
        condition: channels of the context tokens.
        heads: attention heads.
        scale: weight of the adapters (released: 1.25).
    """

    def __init__(self, width: int, condition: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(condition, width, bias=False)
        self.to_v = nn.Linear(condition, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.processor = _AdapterWeights(width, condition)

    def forward(
        self,
        x: Tensor,
        context: Context,
        audio_weight: Tensor | None = None,
        motion_weight: Tensor | None = None,
    ) -> Tensor:
        """Attend from every position to the tokens of its own group.

        Args:
            x: (batch, groups, positions, width). A group shares its tokens: one frame in a spatial block,
                the whole clip in a temporal one.
            context: tokens (batch, groups or 1, n, condition).
            audio_weight, motion_weight: mask values broadcastable to (batch, groups, positions, 1), or None.

        Returns:
            Same shape as `x`, without the residual.
        """
        adapters = self.processor
        q = None
        total: Tensor | float = 0.0
        sources = (
            (context.identity, self.to_k, self.to_v, None, 1.0),
            (context.audio, adapters.to_k_ip[0], adapters.to_v_ip[0], audio_weight, self.scale),
            (context.motion, adapters.to_k_ip[1], adapters.to_v_ip[1], motion_weight, self.scale),
        )
        for tokens, to_k, to_v, weight, scale in sources:
            if tokens is None:
                continue
            if tokens.shape[2] == 1:
                value = to_v(tokens)
            else:
                q = self.to_q(x) if q is None else q
                value = self._attend(q, to_k(tokens), to_v(tokens))
            if scale != 1.0:
                value = value * scale
            total = total + (value if weight is None else value * weight)
        # A constant over positions stays unexpanded until here.
        return self.to_out[0](total).expand_as(x)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, groups, positions, width = q.shape
        if k.shape[1] == 1 and groups > 1:
            q = q.reshape(batch, 1, groups * positions, width)
        q, k, v = (_split_heads(t.flatten(0, 1), self.heads) for t in (q, k, v))
        attended = _join_heads(attend(q, k, v))
        return attended.reshape(batch, groups, positions, width)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention (batch, heads, tokens, d), over a part of the batch at a time where scores would be large.

    Rows of the batch do not meet, so parts change nothing but memory.
    """
    rows = q.shape[0]
    each = q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()
    if q.element_size() < 4 or rows * each <= SCORES_BYTES or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    size = max(1, SCORES_BYTES // each)
    parts = zip(q.split(size), k.split(size), v.split(size), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*part) for part in parts])


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, heads·d) -> (batch, heads, tokens, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
