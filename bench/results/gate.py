"""The regression gate: rules on numbers, verdicts against a reference, an exit code.

A rule names a number and how much of it may be lost. With loss r and its interval [low, high] (its ends are
one-sided bounds at alpha):

* `fail`: r is significantly above zero (Holm over the rules of one family) and larger than the tolerance;
  or the scored samples differ from the reference's;
* `pass`: high is below the tolerance, or every clip is byte-identical and every score equal;
* `inconclusive`: anything else, with the number of identities that would decide;
* `no reference`: the method is not in the reference (neutral);
* `missing`: the reference has nothing to compare with (exit code 4, never a silent pass).

With ten identities and more the interval comes from resampling identities. With fewer it is the measured
noise floor of these very clips, or, without a floor, the clustered t interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.declaration import check_keys, matches, one_of, read_toml, strings
from bench.core.errors import ExitCode, MissingError, UsageError, did_you_mean
from bench.results import statistics
from bench.results.compare import Difference, compare
from bench.results.reference import FLOORS, Noise
from bench.results.runs import Results
from bench.results.summary import Cell

VERDICTS = ("fail", "missing", "inconclusive", "no reference", "pass")


@dataclass(frozen=True, slots=True)
class Rule:
    """How much of a number may be lost.

    Attributes:
        name: shown in reports; default: the patterns.
        protocol, column: patterns of the numbers it covers.
        methods, gates: patterns of the rows it covers.
        controls: whether control rows are covered too.
        tolerance: largest acceptable loss in the unit of the column (unscaled).
        relative: largest acceptable loss as a share of the reference value.
        noise: largest acceptable loss in units of the A/A noise floor, at least 1.
        floor: which noise floor is meant: `seed` (repeats), `determinism` (rerun), `codec` or `codec-cross`
            (sensitivity); empty: `seed` when the reference has it, else `determinism`.
        family: rules of one family share the error rate alpha.
    """

    name: str = ""
    protocol: tuple[str, ...] = ()
    column: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    gates: tuple[str, ...] = ("*",)
    controls: bool = False
    tolerance: float | None = None
    relative: float | None = None
    noise: float | None = None
    floor: str = ""
    family: str = "all"


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file: the error rate of each family, and the rules."""

    rule: tuple[Rule, ...]
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """One rule applied to one number.

    Attributes:
        rule: the rule.
        difference: what was compared; its `gain` is minus the loss.
        tolerance: the largest acceptable loss, in the unit of the column.
        verdict: one of `VERDICTS`.
        why: one sentence.
        basis: what the verdict rests on where identities are too few to resample, else empty.
        p: one-sided p-value of a loss after Holm; NaN when nothing was tested.
        needed: identities that would decide an inconclusive check, None when unknown.
    """

    rule: Rule
    difference: Difference
    tolerance: float
    verdict: str
    why: str
    p: float = math.nan
    needed: int | None = None
    basis: str = ""

    @property
    def message(self) -> str:
        """The sentence with its basis, for where a check stands alone."""
        return f"{self.why} ({self.basis})" if self.basis else self.why

    @property
    def severity(self) -> float:
        """The loss in tolerances; infinite where clips are not covered or nothing may be lost."""
        loss = -self.difference.gain
        if self.why.startswith("coverage") or not math.isfinite(loss):
            return math.inf
        return loss / self.tolerance if self.tolerance > 0 else math.inf

    @property
    def name(self) -> str:
        """`rule: column of method (gate)`."""
        cell = self.difference.cell
        return f"{self.rule.name}: {self.difference.label} of {cell.method} ({cell.gate})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """All checks, worst verdict and largest loss first, with how to call the two sides."""

    checks: tuple[Check, ...]
    reference: str
    run: str
    alpha: float

    def count(self, verdict: str) -> int:
        """Return how many checks have this verdict."""
        return sum(c.verdict == verdict for c in self.checks)

    def exit_code(self, strict: bool = False) -> ExitCode:
        """Return 3 for any failure, 4 for anything missing, 5 for inconclusive under `strict`, else 0."""
        if self.count("fail"):
            return ExitCode.GATE_FAILED
        if self.count("missing"):
            return ExitCode.MISSING
        return ExitCode.INCONCLUSIVE if strict and self.count("inconclusive") else ExitCode.OK


def load_rules(path: Path) -> Rules:
    """Read a `gate.toml`.

    Raises:
        MissingError: there is no such file.
        UsageError: broken TOML, unknown keys or impossible values.
    """
    if not path.exists():
        raise MissingError(
            f"There is no rules file {path}.",
            "`bench new ci` writes first ones, `bench show doc gate` explains them; or give --rules PATH.",
        )
    return parse_rules(read_toml(path), str(path))


def parse_rules(data: Mapping[str, Any], origin: str = "gate.toml") -> Rules:
    """Turn parsed TOML into rules; see `load_rules` for the errors."""
    check_keys(data, Rules, origin)
    alpha = data.get("alpha", 0.05)
    if not (isinstance(alpha, float) and 0 < alpha < 0.5):
        raise UsageError(f"{origin}: alpha is {alpha!r}; it must be a number between 0 and 0.5, such as 0.05.")
    raw = data.get("rule", [])
    if not isinstance(raw, list) or not raw:
        raise UsageError(f"{origin} has no rules.", "Write at least one [[rule]]; see: bench show doc gate")
    return Rules(tuple(_rule(item, f"{origin}, rule {n}") for n, item in enumerate(raw, start=1)), alpha)


def _rule(raw: Mapping[str, Any], where: str) -> Rule:
    check_keys(raw, Rule, where)
    if "protocol" not in raw:
        raise UsageError(f"{where} names no protocol.", 'For example: protocol = "sync/*"')
    patterns = [k for k in ("protocol", "column", "methods", "gates") if k in raw]
    lists = {k: strings(raw[k], f"{where}: {k}") for k in patterns}
    limits = [k for k in ("tolerance", "relative", "noise") if k in raw]
    if len(limits) != 1:
        raise UsageError(
            f"{where} must give one of tolerance, relative and noise, not {' and '.join(limits) or 'none'}.",
            "tolerance = 0.1 (the column's unit), relative = 0.02 (a share), noise = 2 (times the floor).",
        )
    limit = raw[limits[0]]
    least = 1.0 if limits[0] == "noise" else 0.0
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not least <= limit < math.inf:
        raise UsageError(f"{where}: {limits[0]} is {limit!r}; it must be a number of at least {least:g}.")
    for key, kind in (("name", str), ("family", str), ("floor", str), ("controls", bool)):
        if key in raw and not isinstance(raw[key], kind):
            raise UsageError(f"{where}: {key} must be a {kind.__name__}, not {raw[key]!r}.")
    if raw.get("floor"):
        one_of(raw["floor"], FLOORS, f"{where}: floor")
    rule = Rule(**{**raw, **lists})
    return replace(rule, name=rule.name or " ".join((*rule.protocol, *(c for c in rule.column if c != "*"))))


def gate(
    new: Results, reference: Results, rules: Rules, noise: Noise | None = None, intersection: bool = False
) -> Outcome:
    """Judge a run against a reference.

    Args:
        new: the run.
        reference: what it must not fall behind.
        rules: see `load_rules`.
        noise: the reference's noise floors, None when it has none.
        intersection: compare the common samples instead of failing when coverage differs.

    Raises:
        UsageError: a rule is tighter than the noise floor it is about.
        MissingError: a rule speaks of a noise floor the reference does not have.
    """
    noise = noise or Noise()

    def covered(cell: Cell) -> bool:
        return any(_covers(rule, cell, reference, new) for rule in rules.rule)

    # The ends of a 1 - 2 alpha interval are one-sided bounds at alpha: one for "worse", one for "not worse".
    differences = compare(reference, new, keep=covered, level=1 - 2 * rules.alpha)
    judged = [d for d in differences if d.direction != "none"]
    pairs = [(r, d) for r in rules.rule for d in judged if _covers(r, d.cell, reference, new)]
    limits = [_limit(rule, d, noise, reference, new) for rule, d in pairs]
    _refuse_tight(pairs, limits)
    pairs = [(rule, _by_noise(d, floor)) for (rule, d), (_, floor) in zip(pairs, limits, strict=True)]
    known = set(zip(reference.rows["method"], reference.rows["gate"], strict=True))
    adjusted = _holm_by_family(pairs, intersection)
    checks = [
        _judge(
            Check(rule, d, tolerance, "inconclusive", "", adjusted.get(index, math.nan)),
            rules.alpha,
            known=(d.cell.method, d.cell.gate) in known,
            intersection=intersection,
        )
        for index, ((rule, d), (tolerance, _)) in enumerate(zip(pairs, limits, strict=True))
    ]
    used = {id(r) for r, _ in pairs}
    measured = sorted(set(reference.rows["protocol"]) | set(new.rows["protocol"]))
    checks += [_unused(r, measured) for r in rules.rule if id(r) not in used]
    checks.sort(key=lambda c: (VERDICTS.index(c.verdict), -c.severity))
    return Outcome(tuple(checks), reference.name, new.name, rules.alpha)


def _covers(rule: Rule, cell: Cell, *sides: Results) -> bool:
    return (
        matches(cell.method, rule.methods)
        and matches(cell.protocol, rule.protocol)
        and matches(cell.column, rule.column)
        and matches(cell.gate, rule.gates)
        and (rule.controls or all(s.competes(cell.method, cell.gate) for s in sides))
    )


def _limit(rule: Rule, d: Difference, noise: Noise, reference: Results, new: Results) -> tuple[float, float]:
    """Return (tolerance, relevant noise floor), both in the unit of the column; NaN when unknown."""
    floor = noise.floor(d.cell, rule.floor, (_repeats(reference), _repeats(new)))
    if rule.tolerance is not None:
        return float(rule.tolerance), floor
    if rule.relative is not None:
        return abs(d.old) * rule.relative, floor
    assert rule.noise is not None
    if d.problem or math.isfinite(floor):
        return rule.noise * floor, floor
    wanted = f"the {rule.floor} floor" if rule.floor else "a noise floor"
    raise MissingError(
        f"The rule '{rule.name}' is in units of {wanted}, which the reference '{reference.name}' "
        f"does not have for {d.label} of {d.cell.method} ({d.cell.gate}).",
        "Save the reference from a run with --repeats 3 (seed) or with --rerun RUN (determinism).",
    )


def _by_noise(d: Difference, floor: float) -> Difference:
    """Judge a split with fewer than ten identities on its own clips, by the measured noise floor.

    So few people say nothing about others, but the floor says how far these very clips move without a
    change: a loss beyond it is a loss.
    """
    if d.kind == "set" or d.problem or d.clusters >= statistics.MIN_CLUSTERS or not math.isfinite(floor):
        return d
    half = statistics.normal_quantile(d.level) * floor
    return replace(d, low=d.gain - half, high=d.gain + half, interval="noise", data=None)


def _repeats(results: Results) -> int:
    return int(results.rows["repeat"].max()) + 1 if len(results.rows) else 1


def _refuse_tight(pairs: Sequence[tuple[Rule, Difference]], limits: Sequence[tuple[float, float]]) -> None:
    tight = [
        f"'{rule.name}' allows a loss of {limit:.3g} where the floor is {floor:.3g} "
        f"({d.label} of {d.cell.method}, {d.cell.gate})"
        for (rule, d), (limit, floor) in zip(pairs, limits, strict=True)
        if math.isfinite(floor) and limit < floor
    ]
    if tight:
        more = f" ({len(tight) - 3} more)" if len(tight) > 3 else ""
        raise UsageError(
            f"These rules are tighter than the noise of an unchanged method: {'; '.join(tight[:3])}{more}.",
            "Widen the tolerance, write noise = 2 instead, or score more repeats.",
        )


def _holm_by_family(pairs: Sequence[tuple[Rule, Difference]], intersection: bool) -> dict[int, float]:
    """Return the adjusted one-sided p-value of a loss for every pair that is tested."""
    families: dict[str, list[tuple[int, float]]] = {}
    for index, (rule, d) in enumerate(pairs):
        if d.problem or d.identical or (d.coverage and not intersection):
            continue
        if d.data is not None:
            loss = statistics.Clusters(-d.data.sums, d.data.counts)
            p = statistics.p_value(loss, d.seed, "greater")
        else:
            # The interval's level does not matter for p: only the ratio of estimate and width does.
            p = statistics.normal_p(-d.gain, d.half, d.level, "greater")
        families.setdefault(rule.family, []).append((index, p))
    adjusted: dict[int, float] = {}
    for members in families.values():
        values = statistics.holm([p for _, p in members])
        adjusted |= {index: p for (index, _), p in zip(members, values, strict=True)}
    return adjusted


def _judge(check: Check, alpha: float, known: bool, intersection: bool) -> Check:
    d, tolerance = check.difference, check.tolerance
    if d.problem == "new" and not known:
        return replace(check, verdict="no reference", why="the method is not in the reference")
    if d.problem == "new":
        return replace(check, verdict="missing", why="the reference has no such number; save a new reference")
    if d.problem == "gone":
        return replace(check, verdict="fail", why="coverage: in the reference, but not in this run")
    if d.problem == "protocol":
        return replace(check, verdict="missing", why=f"{d.detail}; save a new reference")
    if not math.isfinite(d.old):
        return replace(check, verdict="missing", why=f"the reference has no value: {d.detail}")
    if d.coverage and not intersection:
        return replace(check, verdict="fail", why=f"coverage: {d.coverage}")
    if d.problem:
        return replace(check, verdict="fail", why=f"coverage: {d.detail}")
    if d.identical:
        return replace(check, verdict="pass", why="byte-identical clips, equal scores")
    loss, low, high = -d.gain, -d.high, -d.low
    if d.kind == "clip" and d.clusters < statistics.MIN_CLUSTERS:
        few = f"only {d.clusters} {'identity' if d.clusters == 1 else 'identities'}"
        check = replace(check, basis=f"{few}, judged by their noise floor" if d.interval == "noise" else few)
    if low > 0 and check.p <= alpha and loss > tolerance:
        return replace(check, verdict="fail", why=f"lost {_g(loss)}, more than {_g(tolerance)}")
    if high < tolerance or (high <= tolerance and loss <= 0):
        return replace(check, verdict="pass", why=f"the loss is below {_g(tolerance)}")
    margin = tolerance - loss if loss <= tolerance else loss
    needed = statistics.clusters_needed(d.clusters, d.half, margin) if d.kind == "clip" else None
    decide = f"; about {needed} identities would decide" if needed else ""
    return replace(
        check, needed=needed,
        why=f"the loss may be anything from {_g(low)} to {_g(high)}, tolerance {_g(tolerance)}{decide}",
    )  # fmt: skip


def _g(value: float) -> str:
    return f"{value:.3g}"


def _unused(rule: Rule, measured: list[str]) -> Check:
    hints = [did_you_mean(p, measured) for p in rule.protocol if not any(matches(m, (p,)) for m in measured)]
    nothing = Difference(Cell("", "", "", "", "", " ".join(rule.protocol), ""), "", "none", 3, 1.0, "clip")
    return Check(
        rule, nothing, math.nan, "missing", "matches no number of the reference or of this run" + "".join(hints)
    )
