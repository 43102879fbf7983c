"""Differences of set metrics, from their values over the same subsamples of the same clips.

A Fréchet distance of half the clips is biased, and so is another method's over the same half: the bias cancels in
the difference. With subsamples of half size without replacement the variance of a difference over subsamples is,
without a factor, that of the difference over all clips (the delete-half jackknife; Shao and Tu, "The Jackknife and
Bootstrap", 1995, section 2.3).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np

from bench.core.declaration import parse_json
from bench.core.errors import UsageError
from bench.results import statistics


@dataclass(frozen=True, slots=True)
class Halves:
    """A set metric's values over subsamples.

    Attributes:
        of: digest of what they were drawn from; equal ones mean the same subsets.
        identities: number of people shown in all clips.
        values: one per subsample.
    """

    of: str
    identities: int
    values: tuple[float, ...]

    def text(self) -> str:
        """Return what a row keeps."""
        return json.dumps(asdict(self))


def read(text: str) -> Halves | None:
    """Return what `Halves.text` wrote, None for anything else (rows may come from anywhere)."""
    try:
        found = parse_json(text, Halves, "a value")
    except UsageError:
        return None
    return found if len(found.values) > 1 and all(math.isfinite(v) for v in found.values) else None


def half_width(first: Halves | None, second: Halves | None, level: float) -> float:
    """Return half the interval of the difference of two values at a level; NaN unless they are paired."""
    if first is None or second is None or first.of != second.of or len(first.values) != len(second.values):
        return math.nan
    spread = float(np.std(np.subtract(first.values, second.values), ddof=1))
    return statistics.t_quantile(level, len(first.values) - 1) * spread
