"""What a difference means on a split: noise floors, reactions, thresholds and verdicts from scored variants.

The base B is the ground truth written like everybody's clip. For clip i and variant v the change is
delta_i(v) = m_i(v) - m_i(B). Invisible variants give the floors, damage ladders the reactions, in floors. Set
metrics have one value per variant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bench.results import statistics
from bench.results.runs import Results
from bench.results.statistics import Array, Clusters

SCHEMA = 1
BASE = "ground-truth"
COUNT = "clip_count"
REACTS = 3.0  # floors
MONOTONE = 0.8
LOST = 0.2  # share of clips without a value that breaks a metric

VERDICTS: Mapping[str, str] = {
    "reacts": "moves by three floors or more, in step with the damage",
    "noise-bound": "moves by one to three floors: visible, but near what invisible changes do",
    "blind": "moves by less than a floor",
    "inverted": "damage improves the score",
    "saturates": "moves by three floors or more, but no further from the third level on",
    "not monotone": "moves, but not in step with the damage",
    "breaks": "more than a fifth of the clips lose their value",
}


@dataclass(frozen=True, slots=True)
class Column:
    """What is known about one number.

    Attributes:
        protocol, column: which number.
        label, direction, unit, digits, scale, kind: how it is shown, see `bench.core.spec.Column`.
        base: its mean under B; `clips` with a value there.
        same: floor for methods written by one encoder; a smaller difference is noise.
        cross: floor for methods from different encoders.
        clip: 95th percentile of what an invisible change does to one clip; NaN for sets.
        worst, worst_cross: the invisible variants behind `same` and `cross`.
        groups: (same, cross) of each group of invisible changes.
    """

    protocol: str
    column: str
    label: str
    direction: str
    unit: str
    digits: int
    scale: float
    kind: str
    base: float
    clips: int
    same: float
    cross: float
    clip: float
    worst: str
    worst_cross: str
    groups: Mapping[str, tuple[float, float]]

    @property
    def key(self) -> tuple[str, str]:
        """Protocol and column."""
        return self.protocol, self.column

    def show(self, value: float) -> str:
        """Format a value of this column as tables do, without sign of zero."""
        if not math.isfinite(value):
            return "—" if math.isnan(value) else "∞"
        return f"{value * self.scale:.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Point:
    """One level of a ladder.

    Attributes:
        level: 1 to 5.
        value: in the ladder's unit.
        mean: over clips with a value here and under B.
        bias, low, high: mean delta with its 95 % interval.
        response: in floors, positive is worse (any change, where the column has no direction); infinite where the
            floor is zero.
        clips: that have a value; `lost` had one under B.
    """

    level: int
    value: float
    mean: float
    bias: float
    low: float
    high: float
    response: float
    clips: int
    lost: int


@dataclass(frozen=True, slots=True)
class Curve:
    """How one number follows one damage ladder.

    Attributes:
        protocol, column, ladder, unit: which.
        points: by level.
        verdict: one of `VERDICTS`.
        threshold: value of the first level from which on the change is surely above the floor; NaN for none.
        range: largest |response|.
        steps: neighbouring levels that can be told apart, B included.
        tau: Kendall's tau-b of level and score (positive: worse with damage), mean over clips.
    """

    protocol: str
    column: str
    ladder: str
    unit: str
    points: tuple[Point, ...]
    verdict: str
    threshold: float
    range: float
    steps: int
    tau: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Everything `bench sensitivity` found on one split."""

    split: str
    clips: tuple[str, ...]
    identities: int
    columns: tuple[Column, ...]
    curves: tuple[Curve, ...]
    seed: int = 0
    notes: tuple[str, ...] = ()
    protocols: Mapping[str, Any] = field(default_factory=dict)

    def curves_of(self, column: Column) -> tuple[Curve, ...]:
        """Return a column's curves, strongest reaction first."""
        mine = [c for c in self.curves if (c.protocol, c.column) == column.key]
        return tuple(sorted(mine, key=lambda c: -c.range if not math.isnan(c.range) else 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-able form; infinities become strings, NaN null."""
        found: dict[str, Any] = _finite({"schema": SCHEMA, **asdict(self)})
        return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def analyse(
    parts: Sequence[Results],
    split: str,
    seed: int = 0,
    said: Sequence[str] = (),
    fewer: Mapping[int, Results] | None = None,
) -> Sensitivity:
    """Turn the rows of scored variants into floors, curves and verdicts.

    Args:
        parts: results that hold the base and variants; each number is compared with the base of its own part.
        split: name of the split.
        seed: for the intervals.
        said: notes of the split that belong beneath the table.
        fewer: results of a variant over so many of the clips, for what set metrics owe to the number of clips.
    """
    columns: list[Column] = []
    curves: list[Curve] = []
    samples: set[str] = set()
    identities: set[str] = set()
    for key in _columns(parts):
        table = _Table.of(parts, *key)
        if table is None:
            continue
        if table.kind == "clip":
            samples |= set(table.samples)
            identities |= set(table.identities)
        column = table.floors()
        columns.append(column)
        curves += table.curves(column, seed)
        if table.kind == "set" and fewer:
            curves += table.counted(column, fewer, seed)
    few = len(identities) < statistics.MIN_CLUSTERS
    notes = (
        (
            f"Only {len(identities)} identities: clips are taken as independent, and other people may react "
            "differently.",
        )
        if few
        else ()
    )
    protocols = {k: v for part in parts for k, v in part.provenance.get("protocols", {}).items()}
    about = {k: {"params": v.get("params"), "weights": v.get("weights")} for k, v in protocols.items()}
    return Sensitivity(
        split, tuple(sorted(samples)), len(identities), tuple(columns), tuple(curves), seed, (*said, *notes), about
    )


def _columns(parts: Sequence[Results]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], tuple[int, int, str, str]] = {}
    for part in parts:
        for protocol, column in set(zip(part.rows["protocol"], part.rows["column"], strict=True)):
            found.setdefault((protocol, column), part.protocol_order(protocol, column))
    return sorted(found, key=lambda key: (key[0], found[key]))


@dataclass(frozen=True, slots=True)
class _Variant:
    """One variant's values of a column: by clip, or a single one with the half-width of its spread."""

    settings: Mapping[str, Any]
    values: Array
    half: float = math.nan


@dataclass(slots=True)
class _Table:
    """All values of one column."""

    key: tuple[str, str]
    about: Mapping[str, Any]
    kind: str
    samples: tuple[str, ...]
    identities: tuple[str, ...]
    base: _Variant
    variants: dict[str, _Variant]

    @classmethod
    def of(cls, parts: Sequence[Results], protocol: str, column: str) -> _Table | None:
        base: _Variant | None = None
        variants: dict[str, _Variant] = {}
        about: Mapping[str, Any] = {}
        kind = "clip"
        samples: tuple[str, ...] = ()
        identities: tuple[str, ...] = ()
        for part in parts:
            rows = part.rows
            mine = rows[(rows["protocol"] == protocol) & (rows["column"] == column)]
            if mine.empty or BASE not in set(mine["method"]):
                continue
            about, kind = part.column(protocol, column), str(mine["kind"].iloc[0])
            reference = mine[mine["method"] == BASE].sort_values("sample")
            if base is None:
                samples, identities = tuple(reference["sample"]), tuple(reference["identity"])
            for method, block in mine.groupby("method", sort=False):
                settings = part.provenance["methods"][method].get("settings", {})
                if kind == "set":
                    half = float((block["high"] - block["low"]).mean() / 2)
                    found = _Variant(settings, block["value"].to_numpy(np.float64), half)
                else:
                    ordered = block.set_index("sample")["value"].reindex(list(samples))
                    found = _Variant(settings, ordered.to_numpy(np.float64))
                if method == BASE:
                    base = found
                else:
                    variants[str(method)] = found
        if base is None or not np.isfinite(base.values).any():
            return None
        return cls((protocol, column), about, kind, samples, identities, base, variants)

    @property
    def sign(self) -> int:
        """+1 where a larger value is worse, -1 where it is better, 0 where there is no direction."""
        return {"lower": 1, "higher": -1}.get(str(self.about["direction"]), 0)

    def _difference(self, variant: _Variant) -> tuple[Array, tuple[str, ...]]:
        """Return the finite deltas of a variant and whom each belongs to."""
        delta = variant.values - self.base.values
        ok = np.isfinite(delta)
        owners = tuple(np.asarray(self._owners())[ok].tolist())
        return delta[ok], owners

    def _owners(self) -> tuple[str, ...]:
        if self.kind == "set":
            return ("set",)
        many = len(set(self.identities)) >= statistics.MIN_CLUSTERS
        return self.identities if many else self.samples

    def floors(self) -> Column:
        """Measure the floors over invisible variants."""
        same: dict[str, float] = {}
        cross: dict[str, float] = {}
        groups: dict[str, tuple[float, float]] = {}
        single: list[float] = []
        for name, variant in self.variants.items():
            if variant.settings.get("variant") != "invisible":
                continue
            delta, owners = self._difference(variant)
            if not len(delta):
                continue
            same[name], cross[name] = self._pair(delta, owners)
            single += np.abs(delta).tolist()
            group = str(variant.settings["group"])
            known = groups.get(group, (0.0, 0.0))
            groups[group] = (max(known[0], same[name]), max(known[1], cross[name]))
        worst = max(same, key=lambda k: same[k], default="")
        worst_cross = max(cross, key=lambda k: cross[k], default="")
        floor = same.get(worst, math.nan)
        if self.kind == "set" and math.isfinite(self.base.half) and self.base.half > floor:
            floor, worst = self.base.half, "sampling"
        return Column(
            *self.key,
            label=str(self.about["label"]),
            direction=str(self.about["direction"]),
            unit=str(self.about["unit"]),
            digits=int(self.about["digits"]),
            scale=float(self.about["scale"]),
            kind=self.kind,
            base=float(np.nanmean(self.base.values)),
            clips=int(np.isfinite(self.base.values).sum()) if self.kind == "clip" else 0,
            same=floor,
            cross=max(cross.get(worst_cross, math.nan), floor),
            clip=float(np.percentile(single, 95)) if single and self.kind == "clip" else math.nan,
            worst=worst if floor > 0 else "",
            worst_cross=worst_cross if floor > 0 or cross.get(worst_cross, 0) > 0 else "",
            groups=groups,
        )

    def _pair(self, delta: Array, owners: tuple[str, ...]) -> tuple[float, float]:
        """Return what an invisible change does to a difference: within one encoder, and across two."""
        if self.kind == "set":
            return (abs(float(delta[0])),) * 2
        data = statistics.clusters(delta, owners)
        if len(data) < 2:
            return (abs(float(delta.mean())),) * 2
        from scipy.special import stdtrit  # loading it takes a second, and every run reads floors

        error = float(stdtrit(len(data) - 1, 0.975)) * statistics.standard_error(data)
        return math.sqrt(2) * error, abs(data.mean) + error

    def curves(self, column: Column, seed: int) -> list[Curve]:
        """Measure every ladder."""
        ladders: dict[str, list[_Variant]] = {}
        for variant in self.variants.values():
            if variant.settings.get("variant") == "damage":
                ladders.setdefault(str(variant.settings["family"]), []).append(variant)
        return [
            self._curve(name, sorted(levels, key=lambda v: int(v.settings["level"])), column, seed)
            for name, levels in ladders.items()
        ]

    def counted(self, column: Column, fewer: Mapping[int, Results], seed: int) -> list[Curve]:
        """Compare a variant over some of the clips with the same over all of them."""
        for name, whole in self.variants.items():
            found = []
            for level, (count, part) in enumerate(sorted(fewer.items(), reverse=True), start=1):
                rows = part.rows
                mine = rows[(rows["protocol"] == self.key[0]) & (rows["column"] == self.key[1])]
                mine = mine[(mine["method"] == name) & np.isfinite(mine["value"])]
                settings = {"level": level, "value": count, "unit": "clips"}
                found += [_Variant(settings, np.array([v])) for v in mine["value"]]
            if found:
                return [replace(self, base=_Variant({}, whole.values))._curve(COUNT, found, column, seed)]
        return []

    def _curve(self, ladder: str, levels: Sequence[_Variant], column: Column, seed: int) -> Curve:
        points = tuple(self._point(variant, column, seed) for variant in levels)
        sizes = [abs(p.response) for p in points if not math.isnan(p.response)]
        largest = max(sizes, default=math.nan)
        tau = self._tau(levels)
        lost = max((p.lost / max(1, p.lost + p.clips) for p in points), default=0.0)
        return Curve(
            *self.key,
            ladder=ladder,
            unit=str(levels[0].settings["unit"]),
            points=points,
            verdict=self._verdict(points, column, largest, tau, lost),
            threshold=_threshold(points, column.same),
            range=largest,
            steps=self._steps(levels, seed),
            tau=tau,
        )

    def _point(self, variant: _Variant, column: Column, seed: int) -> Point:
        delta, owners = self._difference(variant)
        had = int(np.isfinite(self.base.values).sum())
        level, value = int(variant.settings["level"]), float(variant.settings["value"])
        if not len(delta):
            return Point(level, value, math.nan, math.nan, math.nan, math.nan, math.nan, 0, had)
        low, high = self._interval(delta, owners, variant, seed)
        bias = float(delta.mean())
        signed = bias * self.sign if self.sign else abs(bias)
        response = (
            signed / column.same if column.same > 0 else (math.copysign(math.inf, signed) if signed else 0.0)
        )
        ok = np.isfinite(variant.values) & np.isfinite(self.base.values)
        return Point(
            level, value, float(variant.values[ok].mean()), bias, low, high, response, len(delta), had - len(delta)
        )

    def _interval(
        self, delta: Array, owners: tuple[str, ...], variant: _Variant, seed: int
    ) -> tuple[float, float]:
        if self.kind == "set":
            half = math.hypot(*(v for v in (variant.half, self.base.half) if math.isfinite(v)))
            return float(delta[0]) - half, float(delta[0]) + half
        data: Clusters = statistics.clusters(delta, owners)
        found = statistics.interval(data, seed)
        middle = data.mean
        return (found.low, found.high) if math.isfinite(found.low) else (middle, middle)

    def _tau(self, levels: Sequence[_Variant]) -> float:
        """Return the mean over clips of tau-b between level (B is 0) and score, positive where damage is worse."""
        from scipy.stats import kendalltau

        values = np.stack([self.base.values, *(v.values for v in levels)])
        found = []
        for series in values.T:
            ok = np.isfinite(series)
            if ok.sum() > 2 and np.ptp(series[ok]) > 0:
                found.append(float(kendalltau(np.flatnonzero(ok), series[ok]).statistic))
        mean = float(np.mean(found)) if found else 0.0
        return mean * self.sign if self.sign else abs(mean)

    def _steps(self, levels: Sequence[_Variant], seed: int) -> int:
        count = 0
        for before, after in zip([self.base, *levels], levels, strict=False):
            delta = after.values - before.values
            ok = np.isfinite(delta)
            if not ok.any():
                continue
            owners = tuple(np.asarray(self._owners())[ok].tolist())
            low, high = self._interval(delta[ok], owners, after, seed)
            count += low > 0 or high < 0
        return count

    def _verdict(self, points: Sequence[Point], column: Column, largest: float, tau: float, lost: float) -> str:
        if lost > LOST:
            return "breaks"
        if math.isnan(largest) or largest < 1:
            return "blind"
        last = max((p for p in points if not math.isnan(p.response)), key=lambda p: abs(p.response))
        if self.sign and tau <= -0.5 and last.response < 0:
            return "inverted"
        if largest < REACTS:
            return "noise-bound"
        if _saturates(points, column.clip):
            return "saturates"
        return "reacts" if tau >= MONOTONE else "not monotone"


def _saturates(points: Sequence[Point], clip: float) -> bool:
    """Tell whether levels four and five lie no further from the third than an invisible change moves one clip."""
    mean = {p.level: p.mean for p in points}
    return all(abs(mean.get(level, math.nan) - mean.get(3, math.nan)) <= clip for level in (4, 5))


def _threshold(points: Sequence[Point], floor: float) -> float:
    """Return the value of the first level from which on the change is surely above the floor."""
    found = math.nan
    for point in reversed(points):
        sure = min(abs(point.low), abs(point.high)) if point.low * point.high > 0 else 0.0
        if not (sure > floor or (floor == 0 and sure > 0)):
            break
        found = point.value
    return found
