"""Comparisons and gate outcomes as text and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields

from bench.core.printable import printable
from bench.report import markdown, text
from bench.report.table import Column
from bench.results.compare import Change, Difference
from bench.results.gate import VERDICTS, Check, Outcome
from bench.results.reference import Noise
from bench.results.runs import Results
from bench.results.statistics import MIN_CLUSTERS

_SYMBOL = {"fail": "✗", "missing": "!", "inconclusive": "?", "no reference": "·", "pass": "✓"}


def column_of(difference: Difference) -> Column:
    """Return the column a difference is printed with."""
    d = difference
    return Column(d.cell.protocol, d.cell.column, d.label, d.direction, digits=d.digits, scale=d.scale)


def _p(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _gain(difference: Difference) -> tuple[str, str]:
    column = column_of(difference)
    if not math.isfinite(difference.gain):
        return "", ""
    shown = column.show(difference.gain)
    gain = shown if shown.startswith("-") or not float(shown) else f"+{shown}"
    if not math.isfinite(difference.half):
        return gain, ""
    return gain, f"{column.show(difference.low)} … {column.show(difference.high)}"


def _common(differences: Sequence[Difference]) -> str:
    """Return how coverage differs if it does so in every line alike: said once then."""
    said = {d.coverage for d in differences if not d.problem}
    return said.pop() if len(differences) > 1 and len(said) == 1 else ""


def _status(difference: Difference, common: str) -> str:
    d = difference
    if d.problem:
        return d.detail
    if d.identical:
        return "identical"
    few = f"cannot decide: {d.clusters} identities" if 0 < d.clusters < MIN_CLUSTERS else ""
    verdict = ""
    if not few and d.direction != "none" and math.isfinite(d.p_holm) and d.p_holm <= ALPHA:
        verdict = "better" if d.gain > 0 else "worse"
    return "; ".join(s for s in (verdict, d.coverage, few) if s and s != common)


COMPARE_HEAD = ["Method", "Gate", "Metric", "first", "second", "gain", "95 % interval", "p (Holm)", "n", ""]
COMPARE_TEXT = (0, 1, 2, 9)
GATE_HEAD = ["", "Method", "Gate", "Metric", "reference", "this run", "gain", "interval", "p", "rule", "why"]
GATE_TEXT = (0, 1, 2, 3, 9, 10)
ALPHA = 0.05
SHOWN_FAILURES = 3


def _moved(difference: Difference) -> bool:
    """Whether a difference deserves a line: significant, incomplete, or not comparable."""
    decided = difference.kind == "set" or difference.clusters >= MIN_CLUSTERS
    return bool(difference.problem or difference.coverage or (decided and difference.p_holm <= ALPHA))


def _split(differences: Sequence[Difference], everything: bool) -> tuple[list[Difference], str]:
    """Return the differences to print and a sentence about the rest."""
    same = sum(d.identical for d in differences)
    empty = [d for d in differences if d.problem == "no value" and math.isnan(d.old) and math.isnan(d.new)]
    alone = [d for d in differences if d.problem in ("new", "gone")]
    left = [] if everything else [*empty, *alone]
    shown = [d for d in differences if not d.identical and (everything or (_moved(d) and d not in left))]
    quiet = [d for d in differences if not d.identical and d not in shown and d not in left]
    open_ = [d for d in quiet if d.kind == "clip" and d.clusters < MIN_CLUSTERS]
    rest = []
    if len(quiet) > len(open_):
        rest.append(f"{len(quiet) - len(open_)} without a significant change")
    if open_:
        few = max(d.clusters for d in open_)
        rest.append(f"{len(open_)} cannot be decided by {few} identities ({MIN_CLUSTERS} are needed)")
    for problem, side in (("gone", "first"), ("new", "second")):
        if not everything and (only := [d for d in alone if d.problem == problem]):
            methods = ", ".join(dict.fromkeys(printable(d.cell.method) for d in only))
            rest.append(f"{len(only)} only in the {side} ({methods})")
    if empty and not everything:
        rest.append(f"{len(empty)} without a value on either side")
    if same:
        rest.append(f"{same} identical (same clips, same scores)")
    more = " --all lists them." if quiet or left else ""
    return shown, f"Of {len(differences)} numbers: {', '.join(rest)}.{more}" if rest else ""


def _compare_rows(differences: Sequence[Difference]) -> list[list[str]]:
    rows = []
    common = _common(differences)
    for d in differences:
        column = column_of(d)
        arrow = f" {column.arrow}" if column.arrow else ""
        gain, interval = _gain(d)
        rows.append([
            d.cell.method, d.cell.gate, column.heading + arrow, column.show(d.old), column.show(d.new), gain,
            interval, _p(d.p_holm), str(d.n) if d.n else "", _status(d, common),
        ])  # fmt: skip
    return rows


def _change(change: Change, column: Column) -> str:
    gain = column.show(change.gain)
    sign = "" if gain.startswith("-") else "+"
    moved = f"{column.show(change.old)} → {column.show(change.new)} ({sign}{gain})"
    who = f" ({change.identity})" if change.identity != change.sample else ""
    return f"{change.sample}{who}: {moved}"


def _largest(differences: Sequence[Difference], most: int) -> list[tuple[Difference, Change]]:
    """Return the largest losses in units of their column's spread, so that metrics can be mixed."""
    found = []
    for d in differences:
        if d.direction == "none" or not d.worst or d.data is None:
            continue
        spread = float(d.data.residuals.std()) or abs(d.gain) or 1.0
        found += [(change.gain / spread, d, change) for change in d.worst]
    found.sort(key=lambda f: (f[0], f[2].sample, f[1].cell))
    return [(d, change) for _, d, change in found[:most]]


def compare_text(
    differences: Sequence[Difference], names: tuple[str, str], most: int = 10, everything: bool = False
) -> str:
    """Return a comparison for the terminal: what moved, then the largest losses with both clips.

    Args:
        differences: from `bench.results.compare.compare`.
        names: how to call the two sides.
        most: how many losses to list.
        everything: print the numbers without a significant change, too.
    """
    shown, rest = _split(differences, everything)
    out = [f"first: {names[0]}   second: {names[1]}   gain: positive is better", ""]
    if shown:
        rows = [[printable(c) for c in row] for row in _compare_rows(shown)]
        out += [*text.grid([COMPARE_HEAD, *rows], COMPARE_TEXT), ""]
    if common := _common(shown):
        out += [f"In every line: {printable(common)}.", ""]
    out += [rest, ""] if rest else []
    largest = _largest(shown, most)
    out += ["Largest losses:"] if largest else []
    for d, change in largest:
        what = f"{d.label} of {d.cell.method} ({d.cell.gate}), {_change(change, column_of(d))}"
        out += [f"  {printable(what)}", *(f"    {printable(p)}" for p in _paths(change))]
    return "\n".join(out).rstrip() + "\n"


def compare_markdown(
    differences: Sequence[Difference], names: tuple[str, str], most: int = 10, everything: bool = False
) -> str:
    """Return a comparison as Markdown; see `compare_text`."""
    shown, rest = _split(differences, everything)
    first, second = map(markdown.escape, names)
    out = [f"First: {first}. Second: {second}. A positive gain is better.", ""]
    if shown:
        rows = [[markdown.escape(c) for c in row] for row in _compare_rows(shown)]
        out += [*markdown.grid([COMPARE_HEAD, *rows], COMPARE_TEXT), ""]
    if common := _common(shown):
        out += [f"In every line: {markdown.escape(common)}.", ""]
    out += [rest, ""] if rest else []
    largest = _largest(shown, most)
    out += ["Largest losses:", ""] if largest else []
    for d, change in largest:
        what = f"{d.label} of {d.cell.method} ({d.cell.gate}), {_change(change, column_of(d))}"
        out.append(_item(what, change))
    return "\n".join(out).rstrip() + "\n"


def _paths(change: Change) -> list[str]:
    return [path for path in (change.old_clip, change.new_clip) if path]


def _item(what: str, change: Change) -> str:
    paths = " → ".join(map(markdown.code, _paths(change)))
    return f"- {markdown.escape(what)}" + (f": {paths}" if paths else "")


def compare_json(differences: Sequence[Difference], names: tuple[str, str]) -> str:
    """Return a comparison as JSON; numbers that do not exist are null."""
    records = []
    for d in differences:
        record = {**d.cell._asdict(), **{f.name: getattr(d, f.name) for f in fields(d)}}
        for hidden in ("cell", "data", "seed", "digits", "scale"):
            record.pop(hidden, None)
        record |= {side: [asdict(c) for c in record[side]] for side in ("worst", "best")}
        records.append(
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        )
    data = {"first": names[0], "second": names[1], "differences": records}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def noise_text(results: Results, noise: Noise) -> str:
    """Return the noise floors of a reference as text; says how to measure them when there are none."""
    cells = sorted({**noise.seed, **noise.determinism})
    if not cells:
        return "No noise floors: save from a run with --repeats 3, or give --rerun RUN.\n"
    lines = [["Method", "Gate", "Metric", "seed", "determinism"]]
    for cell in cells:
        label = str(results.column(cell.protocol, cell.column)["label"])
        floors = [side.get(cell, math.nan) for side in (noise.seed, noise.determinism)]
        shown = [f"{f:.3g}" if math.isfinite(f) else "" for f in floors]
        lines.append([*(printable(c) for c in (cell.method, cell.gate, label)), *shown])
    return (
        "\n".join(
            ["Noise floors (standard deviation of the difference of two runs):", *text.grid(lines, range(3))]
        )
        + "\n"
    )


def _gate_rows(checks: Sequence[Check]) -> list[list[str]]:
    rows = []
    for check in checks:
        d = check.difference
        column = column_of(d)
        rows.append([
            f"{_SYMBOL[check.verdict]} {check.verdict}", d.cell.method, d.cell.gate, d.label,
            column.show(d.old), column.show(d.new), *_gain(d), _p(check.p), check.rule.name, check.why,
        ])  # fmt: skip
    return rows


def headline(outcome: Outcome) -> str:
    """Return one line: `gate: 2 fail, 30 pass (against synthetic)`."""
    counts = ", ".join(f"{outcome.count(v)} {v}" for v in VERDICTS if outcome.count(v))
    return f"gate: {counts or 'nothing to check'} (run {outcome.run} against {outcome.reference})"


def _worst(outcome: Outcome) -> list[tuple[Check, Change]]:
    return [(c, w) for c in outcome.checks if c.verdict == "fail" for w in c.difference.worst]


def _bases(checks: Sequence[Check]) -> list[str]:
    """Return what verdicts on few identities rest on, said once for all checks."""
    return [f"{basis[0].upper()}{basis[1:]}." for basis in sorted({c.basis for c in checks if c.basis})]


def gate_text(outcome: Outcome, verbose: bool = False) -> str:
    """Return an outcome for the terminal.

    Passes are only counted unless `verbose`, and the worst samples are those of the `SHOWN_FAILURES` largest
    losses: one cause often moves dozens of numbers.
    """
    shown = [c for c in outcome.checks if verbose or c.verdict != "pass"]
    out = []
    if shown:
        rows = [[printable(x) for x in row] for row in _gate_rows(shown)]
        out += [*text.grid([GATE_HEAD, *rows], GATE_TEXT), *_bases(shown), ""]
    failed = [c for c in outcome.checks if c.verdict == "fail" and c.difference.worst]
    out += ["Worst samples:"] if failed else []
    for check in failed[:SHOWN_FAILURES]:
        out.append(f"  {printable(check.name)}")
        for change in check.difference.worst:
            out.append(f"    {printable(_change(change, column_of(check.difference)))}")
            out += [f"      {printable(p)}" for p in _paths(change)]
    if len(failed) > SHOWN_FAILURES:
        out.append(f"  The JUnit file (--junit) has those of the other {len(failed) - SHOWN_FAILURES} failures.")
    out += ["", headline(outcome)] if failed else [headline(outcome)]
    if outcome.count("fail"):
        out.append(
            f"If this is meant to be: bench reference save {printable(outcome.reference)} {printable(outcome.run)}"
        )
    return "\n".join(out) + "\n"


def gate_markdown(outcome: Outcome) -> str:
    """Return an outcome as Markdown: everything that did not pass, the worst samples, then what passed."""
    out = [f"### {markdown.escape(headline(outcome))}", ""]
    passed = [c for c in outcome.checks if c.verdict == "pass"]
    if len(passed) < len(outcome.checks):
        shown = [c for c in outcome.checks if c.verdict != "pass"]
        out += [*_gate_grid(shown), "", *_bases(shown), ""]
    worst = _worst(outcome)
    out += [f"<details><summary>Worst samples: {len(worst)}</summary>", ""] if worst else []
    out += [_item(f"{c.name}: {_change(w, column_of(c.difference))}", w) for c, w in worst]
    out += ["", "</details>"] if worst else []
    if passed:
        summary = f"<details><summary>Passed: {len(passed)}</summary>"
        out += ["", summary, "", *_gate_grid(passed), "", "</details>"]
    return "\n".join(out).rstrip() + "\n"


def _gate_grid(checks: Sequence[Check]) -> list[str]:
    rows = [[markdown.escape(x) for x in row] for row in _gate_rows(checks)]
    return markdown.grid([GATE_HEAD, *rows], GATE_TEXT)
