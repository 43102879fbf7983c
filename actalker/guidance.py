"""Classifier-free guidance over three nested conditions: appearance, audio, motion.

The released sampler evaluates four rows per frame and combines them:

    row 0  nothing                      v = v0 + s1 (v1 − v0) + s2 (v2 − v1) + s3 (v3 − v2)
    row 1  identity and reference
    row 2  … and audio
    row 3  … and motion

With a closed gate two of the rows are the same computation; with a scale of 1 some weights vanish. Both are
merged here, which changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from actalker.attention import Context
from actalker.conditions import Conditions
from actalker.gates import Gates


@dataclass(frozen=True, slots=True)
class Guidance:
    """Scales s1 (appearance), s2 (audio), s3 (motion); all 1 samples without guidance in one row."""

    appearance: float = 2.0
    audio: float = 7.5
    motion: float = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """One guided evaluation: which conditions it sees and the weight of its prediction."""

    appearance: bool
    audio: bool
    motion: bool
    weight: float


def guidance_rows(guidance: Guidance, gates: Gates) -> tuple[Row, ...]:
    """The distinct rows with non-zero weight; the weights sum to 1."""
    s1, s2, s3 = guidance.appearance, guidance.audio, guidance.motion
    weights: dict[tuple[bool, bool, bool], float] = {}
    for seen, weight in (((0, 0, 0), 1 - s1), ((1, 0, 0), s1 - s2), ((1, 1, 0), s2 - s3), ((1, 1, 1), s3)):
        key = (bool(seen[0]), bool(seen[1]) and gates.audio, bool(seen[2]) and gates.visual)
        weights[key] = weights.get(key, 0.0) + weight
    return tuple(Row(*key, weight) for key, weight in weights.items() if abs(weight) > 1e-9)


def row_context(row: Row, conditions: Conditions, frames: int) -> Context:
    """Tokens one row sees, each (1, frames or 1, n, condition)."""

    def choose(on: bool, tokens: Tensor | None, otherwise: Tensor | None) -> Tensor | None:
        if tokens is None or otherwise is None:
            return None
        return (tokens if on else otherwise).expand(-1, frames, -1, -1)

    return Context(
        conditions.identity if row.appearance else torch.zeros_like(conditions.identity),
        choose(row.audio, conditions.audio, conditions.silence),
        choose(row.motion, conditions.motion, conditions.stillness),
    )


def stack_contexts(contexts: list[Context]) -> Context:
    """Concatenate contexts along the batch."""

    def cat(tensors: list[Tensor | None]) -> Tensor | None:
        present = [t for t in tensors if t is not None]
        return torch.cat(present) if present else None

    identity = torch.cat([context.identity for context in contexts])
    return Context(identity, cat([c.audio for c in contexts]), cat([c.motion for c in contexts]))
