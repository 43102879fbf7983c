"""When the mouth opens and shuts, against the ground truth, in milliseconds.

Chae-Yeon et al. 2025 (mean temporal misalignment) align the openings of both mouths by derivative dynamic time
warping and compare the moments of their extrema. Here the opening is read at 100 Hz from a cubic spline, the
alignment stays within 400 ms, and an extremum counts only where it stands out by a fifth of the truth's range;
noise makes events otherwise. People notice sound that leads by more than 50 ms or follows by more than 220 ms
(Vatakis and Spence 2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics.alignment import costs, path
from bench.metrics.face_motion import FPS, MotionMetric, bridged, require_frames
from bench.metrics.pairing import check_lengths, require_reference

Array = npt.NDArray[np.float64]

FINER = 4
STEP_MS = 1000 / FPS / FINER
BAND = 40  # steps of 10 ms
NEAR = 4  # steps: how far an event may lie from where the alignment puts it
PROMINENCE = 0.2
STILL = 1e-3  # E; an opening that varies less has no events


def events(opening: Array, prominence: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]]:
    """Return where an opening (n,) has its maxima (+1) and minima (-1), in order of time."""
    from scipy.signal import find_peaks

    found = [(at, kind) for kind in (1, -1) for at in find_peaks(kind * opening, prominence=prominence)[0]]
    found.sort()
    return np.array([at for at, _ in found], np.intp), np.array([kind for _, kind in found], np.int8)


def compare(opening: Array, truth: Array) -> dict[str, float]:
    """Return how far apart the events of two openings (n,) at 25 fps are.

    Returns:
        `error` (mean |time|) and `bias` (mean time, positive: late) in ms over matched events, NaN when none
        matches; `recall` of the truth's events, `precision` of the clip's, and `events`, how many the truth has.

    Raises:
        Unscored: the truth's mouth does not move, or has no event.
    """
    from scipy.interpolate import CubicSpline

    low, high = np.percentile(truth, [5, 95])
    fine = np.arange((len(truth) - 1) * FINER + 1) / FINER
    ours, theirs = (CubicSpline(np.arange(len(o)), o)(fine) for o in (opening, truth))
    prominence = PROMINENCE * float(high - low)
    at, kinds = events(theirs, prominence) if high - low > STILL else (np.zeros(0, np.intp), np.zeros(0, np.int8))
    if not len(at):
        raise Unscored(Reason.TOO_SHORT, "the ground truth's mouth neither opens nor shuts")
    made, made_kinds = events(ours, prominence)
    slopes = [np.gradient(side)[:, None] for side in (theirs, ours)]
    steps = path(costs(slopes[0], slopes[1], BAND))
    times: list[float] = []
    used: set[int] = set()
    for moment, kind in zip(at, kinds, strict=True):
        met = steps[steps[:, 0] == moment, 1]
        close = [
            (max(met.min() - m, m - met.max(), 0), i)
            for i, (m, other) in enumerate(zip(made, made_kinds, strict=True))
            if other == kind and i not in used and met.min() - NEAR <= m <= met.max() + NEAR
        ]
        if close:
            chosen = min(close)[1]
            used.add(chosen)
            times.append(float(made[chosen] - moment) * STEP_MS)
    return {
        "error": float(np.abs(times).mean()) if times else float("nan"),
        "bias": float(np.mean(times)) if times else float("nan"),
        "recall": len(times) / len(at),
        "precision": len(times) / len(made) if len(made) else 0.0,
        "events": float(len(at)),
    }


class MouthEvents(MotionMetric):
    """How early or late the mouth opens and shuts."""

    protocol = "timing/mouth_events"
    columns = (
        Column("error", "Mouth timing", "lower", "ms", digits=0),
        Column("bias", "Mouth lateness", "none", "ms", digits=0),
        Column("recall", "Mouth events found", "higher", digits=2),
        Column("precision", "Mouth events right", "higher", digits=2),
        Column("events", "mouth events", "none", digits=0),
    )
    needs = ("reference",)
    default = False
    parameters: ClassVar[Mapping[str, Any]] = {
        "grid_ms": STEP_MS,
        "band_ms": BAND * STEP_MS,
        "near_ms": NEAR * STEP_MS,
        "prominence": PROMINENCE,
        "alignment": "derivative DTW",
    }
    summary = "Distance in time between the mouth's openings and closings and the truth's; needs no SyncNet."
    source = "after Chae-Yeon et al. 2025, mean temporal misalignment"
    modules = (__name__, "bench.metrics.alignment", "bench.metrics.pairing")

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the five values of `compare`.

        Raises:
            Unscored: no ground truth, lengths that do not fit, a face in fewer than 25 frames, or a mouth that
                does not move in the truth.
        """
        ours, theirs = (self.world.motion(side) for side in (clip, require_reference(reference)))
        n = check_lengths(len(ours.valid), len(theirs.valid))
        both = ours.valid[:n] & theirs.valid[:n]
        require_frames(int(both.sum()))
        openings = [bridged(m.opening, m.valid)[:n] for m in (ours, theirs)]
        return {**compare(*openings), "n_frames": float(both.sum()), "coverage": float(both.mean())}


METRICS: tuple[type, ...] = (MouthEvents,)
