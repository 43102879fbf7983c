"""How close a clip's motion is to its ground truth's, as ratios that cannot leave (0, 1].

THEval (Quignon et al. 2025) scores 1 - |m - g| / |g| with the means m and g of two sets: unbounded below, double
as bad as nothing, and opposite errors of two clips cancel. Here every clip is held against its own truth by

    r = (min(m, g) + f) / (max(m, g) + f)

with a detector floor f: what a still picture through our encoder moves a number by. Half or double give about 1/2.
Not validated against votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from bench.core.spec import Column
from bench.core.views import ClipView
from bench.metrics.dynamics import BrowDynamics, HeadDynamics, LipDynamics
from bench.metrics.face_motion import MotionMetric
from bench.metrics.pairing import require_reference

# Read off two still pictures of 512 pixels over 50 frames, and doubled.
FLOORS: Mapping[str, float] = {"lips_std": 0.001, "brows_std": 0.0006, "head_turn": 0.05, "head_shift": 0.001}


def closeness(value: float, truth: float, floor: float = 0.0) -> float:
    """Return (min + floor) / (max + floor) of two values >= 0, in (0, 1]; 1 for equal ones, NaN for two zeros."""
    low, high = sorted((value, truth))
    return (low + floor) / (high + floor) if high + floor > 0 else float("nan")


class MotionCloseness(MotionMetric):
    """Ratios of lip, brow and head dynamics to the ground truth's, and their geometric mean."""

    protocol = "closeness/motion"
    columns = (
        Column("closeness", "Closeness of motion", "higher"),
        Column("lips", "Closeness of lips", "higher"),
        Column("brows", "Closeness of brows", "higher"),
        Column("turn", "Closeness of head turn", "higher"),
        Column("shift", "Closeness of head shift", "higher"),
    )
    needs = ("reference",)
    parameters: ClassVar[Mapping[str, Any]] = {"floors": FLOORS, "mean": "geometric"}
    summary = "Lip, brow and head dynamics over the truth's as bounded ratios, per clip; not validated by votes."
    source = "after Quignon et al., THEval, 2025, with a bounded, paired ratio"
    default = False
    modules = (__name__, "bench.metrics.dynamics", "bench.metrics.pairing")

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return five values in (0, 1].

        Raises:
            Unscored: no ground truth, or a face in fewer than 25 frames of a side.
        """
        truth = require_reference(reference)
        sides = [self._read(side) for side in (clip, truth)]
        names = ("lips", "brows", "turn", "shift")
        pairs = zip(names, FLOORS.items(), strict=True)
        ratios = {name: closeness(sides[0][key], sides[1][key], floor) for name, (key, floor) in pairs}
        usage = {key: sides[0][key] for key in ("n_frames", "coverage")}
        return {"closeness": float(np.exp(np.mean(np.log([*ratios.values()])))), **ratios, **usage}

    def _read(self, clip: ClipView) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind in (LipDynamics, BrowDynamics, HeadDynamics):
            metric = kind()
            metric.world = self.world
            found |= metric.score(clip, None)
        return found


METRICS: tuple[type, ...] = (MotionCloseness,)
