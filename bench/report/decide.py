"""What the page needs to tell which of two methods is better: means with intervals, paired differences, noise.

A difference is decided by the rule the tables are marked by (`Summary.separates`): the paired interval over
identities excludes a tie, or, for set metrics, the one over the same subsamples of the same clips does. With fewer
than ten identities nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from bench.results import statistics, subsets
from bench.results.reference import measure_noise
from bench.results.statistics import Clusters
from bench.results.summary import Cell, Estimate, Summary

MOST_PAIRS = 6000
"""Bootstrapping a pair costs about a millisecond; columns beyond this many pairs get no differences."""

Pair = tuple[str, str]
"""(method, gate), or (protocol, column)."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The difference of two rows in one column.

    Attributes:
        first, second: (method, gate).
        gain: first minus second, signed so that positive means the first is better (unscaled).
        low, high: 95 % interval of the gain; NaN where identities are too few to tell, or subsamples not the same.
        n, identities: clips and people compared; clips of the smaller set for set metrics, no people where
            subsamples are unknown.
        fair: both sides scored the same clips, so that they are ranked in the tables, too.
    """

    first: Pair
    second: Pair
    gain: float
    low: float
    high: float
    n: int
    identities: int
    fair: bool

    @property
    def winner(self) -> Pair | None:
        """The better row, or None where the interval holds a tie or there is none."""
        if self.low > 0:
            return self.first
        return self.second if self.high < 0 else None


Known = dict[tuple[Cell, Cell], "Paired | None"]
"""Differences of pairs of numbers; None where nothing was scored on both sides."""


def differences(
    summary: Summary,
    section: tuple[str, str, str],
    rows: Sequence[Pair],
    columns: Sequence[Pair],
    known: Known | None = None,
) -> dict[Pair, list[Paired]]:
    """Return the paired differences of all rows, for as many of the directed columns as `MOST_PAIRS` allows.

    Args:
        summary: the estimates.
        section: (domain, dataset, split).
        rows: (method, gate) pairs.
        columns: (protocol, column) pairs, the most important first.
        known: differences of this summary from earlier calls, which are not resampled again; completed here.
    """
    known = {} if known is None else known
    chosen: dict[Pair, list[tuple[Cell, Cell]]] = {}
    batch: dict[tuple[Cell, Cell], tuple[Clusters, int]] = {}
    for protocol, column in columns:
        direction = summary.results.column(protocol, column)["direction"]
        estimates = {
            row: e
            for row in rows
            if (e := summary.get(Cell(*section, *row, protocol, column))) and math.isfinite(e.value)
        }
        pairs = list(combinations(estimates, 2))
        if direction == "none" or not pairs:
            continue
        made = (known[cells] for line in chosen.values() for cells in line)
        if sum(paired is not None for paired in made) + len(pairs) > MOST_PAIRS:
            break
        sign = -1.0 if direction == "lower" else 1.0
        chosen[protocol, column] = [(estimates[a].cell, estimates[b].cell) for a, b in pairs]
        for (a, b), cells in zip(pairs, chosen[protocol, column], strict=True):
            if cells not in known:
                known[cells], clusters, seed = _pair(a, b, estimates[a], estimates[b], sign)
                if clusters is not None:
                    batch[cells] = clusters, seed
        if sum(len(clusters) for clusters, _ in batch.values()) > statistics.BLOCK:
            _resample(batch, known)
    _resample(batch, known)
    return {column: [p for cells in line if (p := known[cells])] for column, line in chosen.items()}


def _resample(batch: dict[tuple[Cell, Cell], tuple[Clusters, int]], known: Known) -> None:
    """Give the differences in `batch` their intervals, and empty it."""
    for cells, interval in zip(batch, statistics.bootstrap(list(batch.values())), strict=True):
        if paired := known[cells]:
            known[cells] = replace(paired, low=interval.low, high=interval.high)
    batch.clear()


def _pair(
    a: Pair, b: Pair, first: Estimate, second: Estimate, sign: float
) -> tuple[Paired | None, Clusters | None, int]:
    """Return the difference without its interval and, where there can be one, what to resample for it."""
    fair = first.covers == second.covers
    if first.kind == "set":
        gain = sign * (first.value - second.value)
        people = first.halves.identities if first.halves else 0
        enough = people >= statistics.MIN_CLUSTERS
        noise = subsets.half_width(first.halves, second.halves, 0.95) if enough else math.nan
        clips = min(first.n_ok, second.n_ok)
        return Paired(a, b, gain, gain - noise, gain + noise, clips, people, fair), None, 0
    if first.samples == second.samples:
        gains, codes = first.values - second.values, first.codes
    else:
        common, mine, other = np.intersect1d(first.samples, second.samples, return_indices=True)
        if not len(common):
            return None, None, 0
        gains = first.values[mine] - second.values[other]
        codes = statistics.codes_of(first.identities[i] for i in mine)
    data = statistics.grouped(sign * gains, codes)
    paired = Paired(a, b, data.mean, math.nan, math.nan, len(gains), len(data), fair)
    enough = len(data) >= statistics.MIN_CLUSTERS
    # The seed of `Summary.separates`, so that the page never contradicts the marks of the tables.
    return paired, data if enough else None, statistics.seed_from([str(first.seed), str(second.seed)])


@dataclass(frozen=True, slots=True)
class Standing:
    """How one row fares against all others over some columns.

    Attributes:
        row: (method, gate).
        better, worse: comparisons that are decided.
        open: comparisons whose interval holds a tie, or that too few identities leave undecided.
        apart: comparisons that are not fair because other clips were scored.
    """

    row: Pair
    better: int
    worse: int
    open: int
    apart: int

    @property
    def total(self) -> int:
        """All comparisons."""
        return self.better + self.worse + self.open + self.apart

    @property
    def share(self) -> float:
        """Comparisons won, an open one counting half, of all fair ones; NaN without any."""
        fair = self.total - self.apart
        return (self.better + self.open / 2) / fair if fair else math.nan


def standings(found: Mapping[Pair, Sequence[Paired]], rows: Sequence[Pair]) -> list[Standing]:
    """Count who is better than whom over the columns of `found`, best first; only `rows` take part."""
    counts = {row: [0, 0, 0, 0] for row in rows}
    for paired in (p for line in found.values() for p in line):
        if paired.first not in counts or paired.second not in counts:
            continue
        for row in (paired.first, paired.second):
            decided = 0 if paired.winner == row else 1 if paired.winner else 2
            counts[row][decided if paired.fair else 3] += 1
    made = [Standing(row, *count) for row, count in counts.items() if sum(count)]
    return sorted(made, key=lambda s: -s.share if math.isfinite(s.share) else math.inf)


def payload(
    summary: Summary, rows: Sequence[Pair], columns: Sequence[Pair], known: Known | None = None
) -> dict[str, Any]:
    """Return means, differences and noise floors, as small as JSON gets.

    Per data set (`sets`) and column: `means[s][m][r]` is [value, low, high, scored, planned, 1 if the ends are
    the range of too few identities], or null; `pairs[s][m]` lists [a, b, gain of a over b, low, high, clips,
    identities, fair]; `noise[m][r]` is the standard deviation of the difference of two runs with other
    seeds, known only where the run has repeats. `known` as in `differences`.
    """
    place = {row: r for r, row in enumerate(rows)}
    sections = summary.sections()
    means, pairs = [], []
    for section in sections:
        lines = [[_mean(summary.get(Cell(*section, *row, *column))) for row in rows] for column in columns]
        means.append([line if any(line) else None for line in lines])
        found = differences(summary, section, rows, columns, known)
        pairs.append([[_packed(p, place) for p in found.get(column, ())] for column in columns])
    return {
        "sets": [" / ".join(section[1:]) for section in sections],
        "means": means,
        "pairs": pairs,
        "noise": _noise(summary, place, columns),
    }


def _packed(p: Paired, place: Mapping[Pair, int]) -> list[float | int | None]:
    ends = map(_short, (p.gain, p.low, p.high))
    return [place[p.first], place[p.second], *ends, p.n, p.identities, int(p.fair)]


def _mean(estimate: Estimate | None) -> list[float | int | None] | None:
    if estimate is None or not math.isfinite(estimate.value):
        return None
    low, high, few = estimate.low, estimate.high, 0
    if estimate.kind == "clip" and estimate.n_identities < statistics.MIN_CLUSTERS:
        (low, high), few = estimate.cluster_range(), 1
    return [*map(_short, (estimate.value, low, high)), estimate.n_ok, estimate.n_planned, few]


def _noise(summary: Summary, place: Mapping[Pair, int], columns: Sequence[Pair]) -> list[dict[int, float]]:
    found: list[dict[int, float]] = [{} for _ in columns]
    repeats = int(summary.results.rows["repeat"].max()) + 1 if len(summary.results.rows) else 1
    index = {column: m for m, column in enumerate(columns)}
    noise = measure_noise(summary.results)
    for cell in noise.seed:
        m, r = index.get((cell.protocol, cell.column)), place.get((cell.method, cell.gate))
        sigma = noise.floor(cell, "seed", (repeats, repeats))
        if m is not None and r is not None and math.isfinite(sigma):
            found[m][r] = max(found[m].get(r, 0.0), float(f"{sigma:.4g}"))
    return found


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
