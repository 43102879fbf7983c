"""Compare two sets of results: paired differences with intervals, tests and the samples that changed most.

Only equal sample ids are compared. A difference is always signed so that positive is better; columns without
a direction are signed new minus old and are never tested.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from bench.core.errors import UsageError, did_you_mean
from bench.results import statistics, subsets
from bench.results.runs import Results, distinct, gate_order
from bench.results.summary import Cell, Estimate, Summary

WORST = 5
SAME = 1e-9  # relative difference below which two scores of the same clip count as equal


@dataclass(frozen=True, slots=True)
class Change:
    """How one sample moved.

    Attributes:
        sample, identity: which one.
        old, new: scores, averaged over repeats.
        gain: new minus old, signed so that positive is better.
        old_clip, new_clip: paths of the clips as recorded (a saved reference has none).
    """

    sample: str
    identity: str
    old: float
    new: float
    gain: float
    old_clip: str
    new_clip: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of one number.

    Attributes:
        cell: the number; `label`, `direction`, `digits`, `scale` say how to print it.
        kind: `clip` or `set`.
        old, new: means over the samples both sides scored (the values themselves for set metrics).
        gain: the difference, positive is better; NaN when nothing can be compared.
        low, high: interval of the gain; NaN when there is none.
        interval: `bootstrap`, `clustered-t`, `paired` (sets, over the same subsamples), `subsample`, `noise`
            (the gate, few identities) or `none`.
        p: two-sided p-value; `p_holm` after Holm over the differences that were tested.
        n, clusters: samples and identities compared.
        coverage: how the scored samples differ, empty when they are the same.
        problem: why there is nothing to compare: `new`, `gone`, `protocol`, `no value`; or empty.
        detail: the problem in words.
        identical: every clip is byte-identical and every score equal.
        worst: the samples that lost most, worst first.
        best: the samples that gained most, best first.
        data, seed: gains per identity and the seed of their resampling (clip metrics).
        level: confidence level of the interval.
    """

    cell: Cell
    label: str
    direction: str
    digits: int
    scale: float
    kind: str
    old: float = math.nan
    new: float = math.nan
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    interval: str = "none"
    p: float = math.nan
    p_holm: float = math.nan
    n: int = 0
    clusters: int = 0
    coverage: str = ""
    problem: str = ""
    detail: str = ""
    identical: bool = False
    worst: tuple[Change, ...] = ()
    best: tuple[Change, ...] = ()
    data: statistics.Clusters | None = None
    seed: int = 0
    level: float = 0.95

    @property
    def half(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2


def compare(
    old: Results, new: Results, keep: Callable[[Cell], bool] = lambda cell: True, level: float = 0.95
) -> list[Difference]:
    """Compare every number of `old` and `new` that `keep` accepts.

    Args:
        old, new: what to compare; `old` is usually a reference.
        keep: filter on cells.
        level: confidence level of the intervals.

    Returns:
        One difference per cell found on either side, in table order.
    """
    before, after = Summary(old), Summary(new)
    cells = [c for c in {**before.estimates, **after.estimates} if keep(c)]
    cells.sort(
        key=lambda c: (*c[:3], *new.protocol_order(*c[5:]), *new.method_order(c.method), *gate_order(c.gate))
    )
    clips = _clips(old), _clips(new)
    made = [_difference(cell, before, after, clips, level) for cell in cells]
    tested = [i for i, d in enumerate(made) if math.isfinite(d.p)]
    for index, adjusted in zip(tested, statistics.holm([made[i].p for i in tested]), strict=True):
        made[index] = replace(made[index], p_holm=adjusted)
    return made


def methods_of_one(results: Results, first: str, second: str) -> tuple[Results, Results]:
    """Return two rows of one run as two sets of results that `compare` can pair.

    Under a control signal both support, their numbers are paired; where they share none, or where the names say so
    (`method:gate`), one signal is set against another.

    Args:
        results: the run.
        first, second: method names, optionally with `:` and a gate.

    Raises:
        UsageError: there is no such row, or it is not clear which signals to set against each other.
    """
    rows = results.rows
    sides = []
    for name in (first, second):
        method, _, gate = (name, "", "") if name in set(rows["method"]) else name.rpartition(":")
        gates = sorted(set(rows.loc[rows["method"] == method, "gate"]), key=gate_order)
        if not gates or (gate and gate not in gates):
            known = sorted({f"{m}:{g}" for m, g in zip(rows["method"], rows["gate"], strict=True)})
            raise UsageError(
                f"There is no row '{name}' in {results.name}.{did_you_mean(name, known)}",
                f"Rows: {', '.join(known)}.",
            )
        sides.append((method, [gate] if gate else gates))
    (a, mine), (b, other) = sides
    pairs = [(g, g) for g in mine if g in other] or list(itertools.product(mine, other))
    if len(pairs) > 1 and pairs[0][0] != pairs[0][1]:
        raise UsageError(
            f"{a} and {b} share no control signal.", f"Say which, e.g. --methods {a}:{mine[0]},{b}:{other[0]}"
        )
    label = f"{b} against {a}"
    made: list[Results] = []
    for side, method in enumerate((a, b)):
        parts = [
            rows[(rows["method"] == method) & (rows["gate"] == pair[side])].assign(
                method=label, gate=pair[0] if pair[0] == pair[1] else f"{pair[1]} against {pair[0]}"
            )
            for pair in pairs
        ]
        made.append(replace(results, rows=pd.concat(parts, ignore_index=True), name=method))
    return made[0], made[1]


Clips = Mapping[tuple[str, ...], Mapping[tuple[str, int], tuple[str, str]]]
"""(domain, dataset, split, method, gate) -> (sample, repeat) -> (sha256, path)."""


def _clips(results: Results) -> Clips:
    place = ["domain", "dataset", "split", "method", "gate", "sample", "repeat"]
    names = [*place, "clip_sha256", "clip_path"]
    rows = distinct(results.rows, ["kind", *names])
    once = rows[(rows["kind"] == "clip") & (rows["clip_sha256"] != "")].drop_duplicates(place)
    found: dict[tuple[str, ...], dict[tuple[str, int], tuple[str, str]]] = {}
    for *key, sample, repeat, sha256, path in once[names].itertuples(index=False, name=None):
        found.setdefault(tuple(key), {})[sample, int(repeat)] = (sha256, path)
    return found


def _difference(
    cell: Cell, before: Summary, after: Summary, clips: tuple[Clips, Clips], level: float
) -> Difference:
    a, b = before.get(cell), after.get(cell)
    about = (after if b is not None else before).results.column(cell.protocol, cell.column)
    made = Difference(
        cell, str(about["label"]), str(about["direction"]), int(about["digits"]), float(about["scale"]),
        (b or a).kind if (b or a) else "clip",  # type: ignore[union-attr]
        old=a.value if a else math.nan, new=b.value if b else math.nan, level=level,
    )  # fmt: skip
    if a is None:
        return replace(made, problem="new", detail="not in the first results")
    if b is None:
        return replace(made, problem="gone", detail="not in the second results")
    mismatch = protocol_mismatch(before.results, after.results, cell.protocol)
    if mismatch:
        return replace(made, problem="protocol", detail=mismatch)
    within = before.results.folder is not None and before.results.folder == after.results.folder
    made = replace(made, coverage=_coverage(a, b, within))
    if a.kind == "set":
        return _set_difference(made, a, b, clips, level)
    return _clip_difference(made, a, b, clips, level)


def protocol_mismatch(old: Results, new: Results, protocol: str) -> str:
    """Return how a protocol differs between two results, or an empty string."""
    a, b = old.protocol(protocol), new.protocol(protocol)
    if not a or not b:
        return ""
    for part in ("version", "params", "weights"):
        if a.get(part) != b.get(part):
            return f"{protocol} was scored with other {part}: {a.get(part)} against {b.get(part)}"
    return ""


def _coverage(a: Estimate, b: Estimate, within: bool) -> str:
    """Say how the scored samples differ; empty when both sides scored and missed the same ones.

    Args:
        a, b: the two sides.
        within: they are two methods of one run, and none is the older.
    """
    first, second = ("in the first", "in the second") if within else ("before", "now")
    gone, new = ("in the first only", "in the second only") if within else ("no longer scored", "newly scored")
    if a.kind == "set":
        return "" if a.n_ok == b.n_ok else f"{a.n_ok} clips {first}, {b.n_ok} {second}"
    whole_before, whole_now = (set(e.samples) - set(e.incomplete) for e in (a, b))
    lost = sorted(s for s in a.samples if s not in b.samples or (s in whole_before and s in b.incomplete))
    found = sorted(s for s in b.samples if s not in a.samples or (s in whole_now and s in a.incomplete))
    said = []
    if lost:
        said.append(f"{len(lost)} {_plural(lost)} {gone} ({_few(lost)}{_why(b)})")
    if found:
        said.append(f"{len(found)} {_plural(found)} {new} ({_few(found)})")
    return "; ".join(said)


def _why(estimate: Estimate) -> str:
    reasons = dict.fromkeys(m.reason or m.status for m in estimate.missing)
    return f": {', '.join(reasons)}" if reasons else ": not run"


def _plural(items: list[str]) -> str:
    return "sample" if len(items) == 1 else "samples"


def _few(items: list[str], most: int = 3) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _sign(direction: str) -> float:
    return -1.0 if direction == "lower" else 1.0


def _same_clips(cell: Cell, clips: tuple[Clips, Clips]) -> bool:
    a, b = (side.get(cell[:5], {}) for side in clips)
    return bool(a) and {k: sha for k, (sha, _) in a.items()} == {k: sha for k, (sha, _) in b.items()}


def _set_difference(
    made: Difference, a: Estimate, b: Estimate, clips: tuple[Clips, Clips], level: float
) -> Difference:
    if not (math.isfinite(a.value) and math.isfinite(b.value)):
        return replace(made, problem="no value", detail=_no_value(a, b))
    gain = _sign(made.direction) * (b.value - a.value)
    same = math.isclose(a.value, b.value, rel_tol=SAME, abs_tol=0) and _same_clips(made.cell, clips)
    made = replace(made, gain=gain, n=b.n_ok, identical=same)
    half, interval = subsets.half_width(a.halves, b.halves, level), "paired"
    if math.isnan(half):  # other clips or older rows: the spreads of both sides add; the truth is narrower
        half = math.hypot(a.half, b.half) * statistics.normal_quantile(level) / statistics.normal_quantile(0.95)
        interval = "subsample"
    if math.isfinite(half):
        made = replace(made, low=gain - half, high=gain + half, interval=interval)
    if made.direction != "none" and not same:
        made = replace(made, p=statistics.normal_p(gain, half, level))
    return made


def _clip_difference(
    made: Difference, a: Estimate, b: Estimate, clips: tuple[Clips, Clips], level: float
) -> Difference:
    old = dict(zip(a.samples, a.values.tolist(), strict=True))
    new = dict(zip(b.samples, b.values.tolist(), strict=True))
    owner = dict(zip(a.samples + b.samples, a.identities + b.identities, strict=True))
    common = sorted(old.keys() & new.keys())
    if not common:
        return replace(made, problem="no value", detail=_no_value(a, b))
    sign = _sign(made.direction)
    gains = [sign * (new[s] - old[s]) for s in common]
    data = statistics.clusters(gains, [owner[s] for s in common])
    seed = statistics.seed_from([str(a.seed), str(b.seed)])
    found = statistics.interval(data, seed, level)
    equal = all(math.isclose(old[s], new[s], rel_tol=SAME, abs_tol=1e-12) for s in common)
    same = equal and not made.coverage and _same_clips(made.cell, clips)
    changes = _changes(made.cell, common, old, new, owner, sign, clips)
    return replace(
        made,
        old=sum(old[s] for s in common) / len(common),
        new=sum(new[s] for s in common) / len(common),
        gain=data.mean, low=found.low, high=found.high, interval=found.method,
        p=math.nan if same or made.direction == "none" else statistics.p_value(data, seed),
        n=len(common), clusters=len(data), identical=same,
        worst=tuple(c for c in changes[:WORST] if c.gain < 0),
        best=tuple(c for c in changes[::-1][:WORST] if c.gain > 0),
        data=data, seed=seed,
    )  # fmt: skip


def _no_value(a: Estimate, b: Estimate) -> str:
    sides = [("first", a), ("second", b)]
    return (
        "; ".join(
            f"nothing scored in the {name} results{_why(e)}" for name, e in sides if not math.isfinite(e.value)
        )
        or "no sample was scored on both sides"
    )


def _changes(
    cell: Cell,
    samples: list[str],
    old: Mapping[str, float],
    new: Mapping[str, float],
    owner: Mapping[str, str],
    sign: float,
    clips: tuple[Clips, Clips],
) -> list[Change]:
    paths: list[dict[str, str]] = [{}, {}]
    for side, found in enumerate(clips):
        for (sample, _), (_, path) in sorted(found.get(cell[:5], {}).items()):
            paths[side].setdefault(sample, path)
    changes = [
        Change(s, owner[s], old[s], new[s], sign * (new[s] - old[s]), *(side.get(s, "") for side in paths))
        for s in samples
    ]
    return sorted(changes, key=lambda c: (c.gain, c.sample))
