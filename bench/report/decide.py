"""What the page needs to tell which of two methods is better: means with intervals, paired differences, noise.

A difference is decided by the rule the tables are marked by (`Summary.separates`): the paired interval over
identities excludes a tie, or, for set metrics, the one over the same subsamples of the same clips does. With fewer
than ten identities nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def differences(
    summary: Summary, section: tuple[str, str, str], rows: Sequence[Pair], columns: Sequence[Pair]
) -> dict[Pair, list[Paired]]:
    """Return the paired differences of all rows, for as many of the directed columns as `MOST_PAIRS` allows.

    Args:
        summary: the estimates.
        section: (domain, dataset, split).
        rows: (method, gate) pairs.
        columns: (protocol, column) pairs, the most important first.
    """
    found: dict[Pair, list[Paired]] = {}
    batch: list[tuple[Clusters, int]] = []
    waiting: list[tuple[Pair, int]] = []
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
        if sum(map(len, found.values())) + len(pairs) > MOST_PAIRS:
            break
        sign = -1.0 if direction == "lower" else 1.0
        made: list[Paired] = []
        for a, b in pairs:
            paired, clusters, seed = _pair(a, b, estimates[a], estimates[b], sign)
            if paired is None:
                continue
            if clusters is not None:
                waiting.append(((protocol, column), len(made)))
                batch.append((clusters, seed))
            made.append(paired)
        found[protocol, column] = made
    for (key, index), interval in zip(waiting, statistics.bootstrap(batch), strict=True):
        p = found[key][index]
        found[key][index] = Paired(
            p.first, p.second, p.gain, interval.low, interval.high, p.n, p.identities, p.fair
        )
    return found


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
    common, mine, other = np.intersect1d(first.samples, second.samples, return_indices=True)
    if not len(common):
        return None, None, 0
    data = statistics.clusters(
        sign * (first.values[mine] - second.values[other]), [first.identities[i] for i in mine]
    )
    paired = Paired(a, b, data.mean, math.nan, math.nan, len(common), len(data), fair)
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


def payload(summary: Summary, rows: Sequence[Pair], columns: Sequence[Pair]) -> dict[str, Any]:
    """Return means, differences and noise floors, as small as JSON gets.

    Per data set (`sets`) and column: `means[s][m][r]` is [value, low, high, scored, planned, 1 if the ends are
    the range of too few identities], or null; `pairs[s][m]` lists [a, b, gain of a over b, low, high, clips,
    identities, fair]; `noise[m][r]` is the standard deviation of the difference of two runs with other
    seeds, known only where the run has repeats.
    """
    place = {row: r for r, row in enumerate(rows)}
    sections = summary.sections()
    means, pairs = [], []
    for section in sections:
        lines = [[_mean(summary.get(Cell(*section, *row, *column))) for row in rows] for column in columns]
        means.append([line if any(line) else None for line in lines])
        found = differences(summary, section, rows, columns)
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
