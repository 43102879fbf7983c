"""Values of set metrics over a cell, with the two spreads that say how far to trust them.

A percentile bootstrap is invalid for Fréchet distances: resampling with replacement raises the estimate so much
that the interval misses its own point. Printed instead: the range over half-size subsamples drawn without
replacement, and the floor, the distance between two halves of the ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bench.metrics.base import ClipView, Features, SetMetric
from bench.spec import Reason, Unscored

_DRAWS = 10


def set_value(metric: SetMetric, pairs: Sequence[tuple[ClipView, ClipView]]) -> Mapping[str, float]:
    """Compute a set metric over `(generated, reference)` clips.

    A pair is left out when either clip has no state (too short, for instance). Besides the metric's columns the
    result has `n_clips`, and for every column `<column>.low`, `.high` (smallest and largest value over
    ten half-size subsamples without replacement) and `.floor` (half against half of the references); these
    are NaN with fewer than four clips.

    Raises:
        Unscored: too few usable clips.
    """
    generated: list[Features] = []
    reference: list[Features] = []
    reasons: list[str] = []
    for clip, truth in pairs:
        try:
            states = metric.state(clip), metric.state(truth)
        except Unscored as error:
            reasons.append(str(error))
            continue
        generated.append(states[0])
        reference.append(states[1])
    if len(generated) < 2:
        because = f": {reasons[0]}" if reasons else ""
        raise Unscored(Reason.INSUFFICIENT_SAMPLES, f"{len(generated)} of {len(pairs)} clips usable{because}")
    values = dict(metric.compute(metric.merge(generated), metric.merge(reference)))
    values["n_clips"] = float(len(generated))
    values["coverage"] = len(generated) / len(pairs)
    columns = [column.key for column in metric.spec.columns]
    low, high, floor = _spread(metric, generated, reference, columns)
    for i, column in enumerate(columns):
        values |= {f"{column}.low": low[i], f"{column}.high": high[i], f"{column}.floor": floor[i]}
    return values


def _spread(
    metric: SetMetric, generated: list[Features], reference: list[Features], columns: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = len(generated)
    unknown = np.full(len(columns), np.nan)
    if count < 4:
        return unknown, unknown, unknown
    # The same subsamples for every method over the same samples, so that differences can be compared.
    draw = np.random.default_rng(count)
    try:
        rows = []
        for _ in range(_DRAWS):
            half = draw.permutation(count)[: count // 2]
            value = metric.compute(
                metric.merge([generated[i] for i in half]), metric.merge([reference[i] for i in half])
            )
            rows.append([value[c] for c in columns])
        order = draw.permutation(count)
        first, second = order[: count // 2], order[count // 2 : 2 * (count // 2)]
        floor = metric.compute(
            metric.merge([reference[i] for i in first]), metric.merge([reference[i] for i in second])
        )
    except Unscored:
        return unknown, unknown, unknown
    table = np.asarray(rows, dtype=np.float64)
    return table.min(axis=0), table.max(axis=0), np.asarray([floor[c] for c in columns])
