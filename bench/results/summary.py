"""From rows to one estimate per (method, gate, protocol, column): mean, interval, coverage, reasons.

Repeats are averaged first, samples are clustered by identity. Set metrics arrive with their own spread over
half-size subsamples and are never bootstrapped.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.results import statistics, subsets
from bench.results.runs import Results, gate_order
from bench.results.subsets import Halves

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.statistics import Array, Clusters


class Cell(NamedTuple):
    """What one number is about."""

    domain: str
    dataset: str
    split: str
    method: str
    gate: str
    protocol: str
    column: str


class Missing(NamedTuple):
    """Why a value is not there: status, reason and the first detail in order of samples."""

    status: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Estimate:
    """One number of a table, with everything a reader needs to trust it.

    Attributes:
        cell: what it is about.
        kind: `clip` (mean over clips) or `set`.
        value: the mean, or the set metric's value; NaN when nothing was scored.
        low, high: ends of the interval; for set metrics value ± half the subsample spread. NaN without one.
        interval: `bootstrap`, `clustered-t`, `subsample` or `none`.
        n_ok, n_planned: scored and planned results (clips x repeats; clips in the set for set metrics).
        samples: ids of the scored samples, sorted (empty for set metrics).
        identities: identity of each sample.
        values: value of each sample, averaged over repeats, float64.
        covers: digest of what was scored; only estimates with equal `covers` are ranked.
        seed: of its resampling, from what is asked: intervals then move as little as the values.
        coverage: mean share of frames that could be measured; NaN when not reported.
        floor: half-vs-half floor of a set metric; NaN otherwise.
        missing: why results are missing, with how many.
        incomplete: ids of the samples with any missing result (empty for set metrics).
        halves: a set metric's values over subsamples, None without them.
    """

    cell: Cell
    kind: str
    value: float
    low: float
    high: float
    interval: str
    n_ok: int
    n_planned: int
    samples: tuple[str, ...]
    identities: tuple[str, ...]
    values: Array
    covers: str
    seed: int
    coverage: float
    floor: float
    missing: Counter[Missing]
    incomplete: tuple[str, ...] = ()
    halves: Halves | None = None

    @property
    def half(self) -> float:
        """Half the interval, NaN without one."""
        return (self.high - self.low) / 2

    @cached_property
    def n_identities(self) -> int:
        """Number of distinct identities among the scored samples."""
        return len(set(self.identities))

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """Number of the identity of each sample, see `bench.results.statistics.codes_of`."""
        return statistics.codes_of(self.identities)

    @property
    def clusters(self) -> Clusters:
        """The values reduced per identity."""
        return statistics.grouped(self.values, self.codes)

    def cluster_range(self) -> tuple[float, float]:
        """Smallest and largest identity mean: the raw values, shown when identities are too few."""
        data = self.clusters
        means = data.sums / data.counts
        return float(means.min()), float(means.max())


class Summary:
    """All estimates of some results, computed once.

    Args:
        results: the rows.
        intersection: restrict every column to the samples that all methods (not controls) have scored.
    """

    def __init__(self, results: Results, intersection: bool = False) -> None:
        self.results = results
        self.intersection = intersection
        rows = results.rows
        if intersection:
            rows = _common_samples(results)
        self.estimates = _with_intervals([_estimate(cell, block) for cell, block in _blocks(rows)])

    def get(self, cell: Cell) -> Estimate | None:
        """Return an estimate, or None when no such rows were planned."""
        return self.estimates.get(cell)

    def sections(self) -> list[tuple[str, str, str]]:
        """Return every (domain, dataset, split), sorted."""
        return sorted({(c.domain, c.dataset, c.split) for c in self.estimates})

    def rows_of(self, section: tuple[str, str, str] | None = None) -> list[tuple[str, str]]:
        """Return (method, gate) pairs in table order."""
        found = {(c.method, c.gate) for c in self.estimates if section is None or c[:3] == section}
        return sorted(found, key=lambda r: (*self.results.method_order(r[0]), *gate_order(r[1])))

    def columns_of(
        self, section: tuple[str, str, str] | None = None, scored: bool = False
    ) -> list[tuple[str, str]]:
        """Return (protocol, column) pairs in the order of the provenance; only those with any value if asked."""
        found = {
            (c.protocol, c.column)
            for c, estimate in self.estimates.items()
            if (section is None or c[:3] == section) and (estimate.n_ok or not scored)
        }
        return sorted(found, key=lambda c: self.results.protocol_order(*c))

    def separates(self, better: Estimate, worse: Estimate, level: float = 0.95) -> bool:
        """Whether the paired interval of the difference excludes a tie.

        Set metrics are paired by the same subsamples of the same clips, see `bench.results.subsets`. Either way
        ten identities are the least.
        """
        if better.kind == "set":
            noise = subsets.half_width(better.halves, worse.halves, level)
            people = better.halves.identities if better.halves else 0
            return people >= statistics.MIN_CLUSTERS and abs(better.value - worse.value) > noise
        if better.samples != worse.samples or better.n_identities < statistics.MIN_CLUSTERS:
            return False
        difference = statistics.grouped(better.values - worse.values, better.codes)
        seed = statistics.seed_from([str(better.seed), str(worse.seed)])
        found = statistics.interval(difference, seed, level)
        return found.low > 0 or found.high < 0


def _common_samples(results: Results) -> pd.DataFrame:
    """Drop the rows of samples that some method failed on, column by column."""
    import pandas as pd

    place = ["domain", "dataset", "split", "protocol", "column"]
    rows = results.rows[list(dict.fromkeys([*Cell._fields, *_BLOCK_COLUMNS]))]
    pairs = rows[["method", "gate"]].drop_duplicates()
    competes = [results.competes(str(m), str(g)) for m, g in pairs.itertuples(index=False, name=None)]
    competing = pd.MultiIndex.from_frame(pairs[competes])
    competitor = pd.MultiIndex.from_frame(rows[["method", "gate"]]).isin(competing)
    scored = rows.loc[
        competitor & rows["kind"].eq("clip") & rows["status"].eq("ok"), [*place, "method", "gate", "sample"]
    ]
    wanted = scored.drop_duplicates([*place, "method", "gate"]).groupby(place, observed=True).size()
    has = scored.drop_duplicates().groupby([*place, "sample"]).size()
    complete = has.reset_index(name="n").merge(wanted.reset_index(name="all"), on=place)
    keep = complete[complete["n"] == complete["all"]][[*place, "sample"]].assign(common=True)
    marked = rows[[*place, "sample"]].merge(keep, on=[*place, "sample"], how="left")["common"].notna().to_numpy()
    has_methods = pd.MultiIndex.from_frame(rows[place]).isin(wanted.index)
    return rows[marked | rows["kind"].eq("set").to_numpy() | ~has_methods]


Block = dict[str, np.ndarray]
"""The columns of the rows of one cell."""

_BLOCK_COLUMNS = (
    "kind", "sample", "identity", "repeat", "value", "status", "reason", "detail", "n_clips", "coverage",
    "low", "high", "floor", "halves",
)  # fmt: skip


def _blocks(rows: pd.DataFrame) -> Iterable[tuple[Cell, Block]]:
    """Yield the rows of every cell; they are neighbours because rows are sorted."""
    if rows.empty:
        return
    keys = rows[list(Cell._fields)]
    change = np.flatnonzero((keys != keys.shift()).any(axis=1).to_numpy())
    cells = keys.iloc[change].itertuples(index=False, name=None)
    columns = {name: _plain(rows[name]) for name in _BLOCK_COLUMNS}
    for cell, start, end in zip(cells, change, [*change[1:], len(rows)], strict=True):
        yield Cell(*cell), {name: values[start:end] for name, values in columns.items()}


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column for NumPy; equal texts are one object, of a million rows some thousand."""
    if column.dtype.kind in "if":
        return column.to_numpy()
    codes, distinct = column.factorize()
    found: np.ndarray = np.asarray(distinct, dtype=object)[codes]
    return found


def _estimate(cell: Cell, block: Block) -> Estimate:
    """Reduce the rows of one cell; clip intervals are added later, all at once."""
    ok = block["status"] == "ok"
    missing = Counter(Missing(*m) for m in zip(*(block[f][~ok].tolist() for f in Missing._fields), strict=True))
    common = _Common(cell, missing, statistics.seed_from(cell), _mean(block["coverage"][ok]))
    if block["kind"][0] == "set":
        return _set_estimate(block, ok, common)
    samples, index = np.unique(block["sample"][ok].astype(str), return_inverse=True)
    values = np.bincount(index, weights=block["value"][ok]) / np.maximum(np.bincount(index), 1)
    owner = dict(zip(block["sample"][ok].tolist(), block["identity"][ok].tolist(), strict=True))
    scored = [f"{s}/{r}" for s, r in zip(block["sample"][ok], block["repeat"][ok], strict=True)]
    return Estimate(
        kind="clip",
        value=float(values.mean()) if len(values) else math.nan,
        n_ok=int(ok.sum()),
        n_planned=len(ok),
        samples=tuple(samples.tolist()),
        identities=tuple(owner[s] or s for s in samples.tolist()),
        values=values,
        covers=_digest([cell.dataset, cell.split, *scored]),
        low=math.nan,
        high=math.nan,
        interval="none",
        floor=math.nan,
        incomplete=tuple(sorted(set(block["sample"][~ok].tolist()))),
        **common._asdict(),
    )


class _Common(NamedTuple):
    """What clip and set estimates share."""

    cell: Cell
    missing: Counter[Missing]
    seed: int
    coverage: float


def _mean(values: np.ndarray) -> float:
    """Mean of the finite values, NaN without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _set_estimate(block: Block, ok: np.ndarray, common: _Common) -> Estimate:
    """One row per repeat; the value is their mean, the spread that of one repeat."""
    values = block["value"][ok]
    value = _mean(values)
    # Half-size subsamples are more biased than the full set: their spread is used, not their place.
    half = _mean((block["high"] - block["low"])[ok] / 2)
    clips = int(block["n_clips"].max())
    # Clips that were planned and are not there are not covered.
    shares = zip(block["n_clips"], block["coverage"], strict=True)
    planned = max((round(count / share) for count, share in shares if share > 0), default=0)
    halves = _mean_halves([subsets.read(text) for text in block["halves"][ok]])
    return Estimate(
        kind="set",
        value=value,
        n_ok=int(block["n_clips"][ok].min()) if ok.any() else 0,
        n_planned=max(clips, planned),
        samples=(),
        identities=(),
        values=values,
        covers=_digest([*common.cell[:3], str(clips), str(ok.all()), str(halves.of if halves else "")]),
        halves=halves,
        low=value - half,
        high=value + half,
        interval="subsample" if math.isfinite(half) else "none",
        floor=_mean(block["floor"][ok]),
        **common._asdict(),
    )


def _mean_halves(repeats: Sequence[Halves | None]) -> Halves | None:
    """Average a set metric's subsample values over repeats; None where they are not of the same subsets."""
    known = [h for h in repeats if h is not None]
    if not known or len(known) < len(repeats) or len({(h.of, len(h.values)) for h in known}) > 1:
        return None
    return replace(known[0], values=tuple(np.mean([h.values for h in known], axis=0).tolist()))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _with_intervals(raw: Sequence[Estimate]) -> dict[Cell, Estimate]:
    """Attach cluster intervals to clip estimates, and to set estimates how many clips were planned."""
    clips = [e for e in raw if e.kind == "clip" and len(e.values)]
    found = statistics.bootstrap([(e.clusters, e.seed) for e in clips])
    planned: dict[tuple[str, ...], int] = {}
    for e in raw:
        if e.kind == "clip":
            planned[e.cell[:5]] = max(planned.get(e.cell[:5], 0), e.n_planned)
    done = {
        e.cell: replace(e, low=i.low, high=i.high, interval=i.method) for e, i in zip(clips, found, strict=True)
    }
    done |= {
        e.cell: replace(e, n_planned=max(e.n_planned, planned.get(e.cell[:5], 0))) for e in raw if e.kind == "set"
    }
    return {e.cell: done.get(e.cell, e) for e in raw}
