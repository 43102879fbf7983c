"""Values of set metrics over a cell, with the two spreads that say how far to trust them.

A percentile bootstrap is invalid for Fréchet distances: resampling with replacement raises the estimate so much
that the interval misses its own point. Printed instead: the range over half-size subsamples drawn without
replacement, and the floor, the distance between two halves of the ground truth.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bench.core.spec import Reason, Unscored
from bench.core.views import ClipView, Features, SetMetric
from bench.metrics.frechet import half_subsets
from bench.metrics.pairing import check_lengths

_DRAWS = 10


def set_value(metric: SetMetric, pairs: Sequence[tuple[ClipView, ClipView]]) -> Mapping[str, float]:
    """Compute a set metric over `(generated, reference)` clips.

    A pair is left out when its clips differ in length, see `bench.metrics.pairing.check_lengths`, or either has no
    state (too short, for instance). Besides the columns the result has `n_clips`, `coverage` (the share of
    pairs used), `halves_of` (equal numbers mean that the same pairs were), and for every column `<column>.low`,
    `.high` (smallest and largest value over ten half-size subsamples without replacement), `.half0` to `.half9`
    (the ten values) and `.floor` (mean distance between halves of the references); these are NaN with fewer than
    four clips.

    Raises:
        Unscored: too few usable clips.
    """
    generated: list[Features] = []
    reference: list[Features] = []
    reasons: list[Unscored] = []
    used: list[int] = []
    for index, (clip, truth) in enumerate(pairs):
        try:
            check_lengths(clip.frames, truth.frames)
            states = metric.state(clip), metric.state(truth)
        except Unscored as error:
            reasons.append(error)
            continue
        generated.append(states[0])
        reference.append(states[1])
        used.append(index)
    if len(generated) < 2:
        because = f": {reasons[0]}" if reasons else ""
        shared = {error.reason for error in reasons}
        reason = shared.pop() if len(shared) == 1 and not generated else Reason.INSUFFICIENT_SAMPLES
        raise Unscored(reason, f"{len(generated)} of {len(pairs)} clips usable{because}")
    values = dict(metric.compute(metric.merge(generated), metric.merge(reference)))
    values["n_clips"] = float(len(generated))
    values["coverage"] = len(generated) / len(pairs)
    columns = [column.key for column in metric.spec.columns]
    values["halves_of"] = float(int(hashlib.sha256(repr(used).encode()).hexdigest()[:12], 16))  # 48 bits: exact
    return values | _spread(metric, generated, reference, columns)


def _spread(
    metric: SetMetric, generated: list[Features], reference: list[Features], columns: list[str]
) -> dict[str, float]:
    """Return `<column>.low`, `.high` and `.floor` of every column; NaN where there are too few clips."""

    def between(first: Features, second: Features) -> list[float]:
        values = metric.compute(first, second)
        return [values[c] for c in columns]

    # Subsets depend on the number of clips alone, so methods over the same samples are drawn alike.
    halves = half_subsets(len(generated), _DRAWS, seed=0)
    references = _digest(metric, reference) if halves else ""
    floor = _floors.get(references, [])
    spread, measured = [], []
    try:
        for first, second in halves:
            truth = metric.merge([reference[i] for i in first])
            spread.append(between(metric.merge([generated[i] for i in first]), truth))
            if not floor:
                measured.append(between(truth, metric.merge([reference[i] for i in second])))
    except Unscored:
        spread = []
    if not spread:
        return {f"{c}.{name}": math.nan for c in columns for name in ("low", "high", "floor")}
    drawn = {f"{c}.half{n}": float(one[i]) for n, one in enumerate(spread) for i, c in enumerate(columns)}
    if not floor:
        floor = _floors[references] = measured
    low, high, middle = np.min(spread, axis=0), np.max(spread, axis=0), np.mean(floor, axis=0)
    return drawn | {
        key: float(value)
        for i, c in enumerate(columns)
        for key, value in ((f"{c}.low", low[i]), (f"{c}.high", high[i]), (f"{c}.floor", middle[i]))
    }


# Distances between halves of the references, by what they were computed from: a second of hashing instead of ten
# more distances for every further method on the same split.
_floors: dict[str, list[list[float]]] = {}


def _digest(metric: SetMetric, states: list[Features]) -> str:
    digest = hashlib.sha256(repr((metric.spec.id, metric.spec.version)).encode())
    for state in states:
        for name, values in sorted(state.items()):
            digest.update(f"{name}{values.shape}{values.dtype}".encode())
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
