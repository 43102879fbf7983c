"""Comparisons and gate outcomes as text and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields

from bench.compare import Change, Difference
from bench.gate import VERDICTS, Check, Outcome
from bench.report import markdown, text
from bench.report.reference import Noise
from bench.report.results import Results
from bench.report.table import Column

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


def _status(difference: Difference) -> str:
    d = difference
    if d.problem:
        return d.detail
    if d.identical:
        return "identical"
    few = f"only {d.clusters} identities" if d.interval == "clustered-t" else ""
    verdict = ""
    if d.direction != "none" and math.isfinite(d.p_holm) and d.p_holm <= 0.05:
        verdict = "better" if d.gain > 0 else "worse"
    return "; ".join(s for s in (verdict, d.coverage, few) if s)


COMPARE_HEAD = ["Method", "Gate", "Metric", "first", "second", "gain", "95 % interval", "p (Holm)", "n", ""]


def _compare_rows(differences: Sequence[Difference]) -> list[list[str]]:
    rows = []
    for d in differences:
        column = column_of(d)
        arrow = f" {column.arrow}" if column.arrow else ""
        gain, interval = _gain(d)
        rows.append([
            d.cell.method, d.cell.gate, column.heading + arrow, column.show(d.old), column.show(d.new), gain,
            interval, _p(d.p_holm), str(d.n) if d.n else "", _status(d),
        ])  # fmt: skip
    return rows


def _change(change: Change, column: Column) -> str:
    gain = column.show(change.gain)
    sign = "" if gain.startswith("-") else "+"
    moved = f"{column.show(change.old)} → {column.show(change.new)} ({sign}{gain})"
    return f"{change.sample} ({change.identity}): {moved}"


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


def compare_text(differences: Sequence[Difference], names: tuple[str, str], most: int = 10) -> str:
    """Return a comparison for the terminal: one line per number, then the largest losses with both clips."""
    moved = [d for d in differences if not d.identical]
    out = [f"first: {names[0]}   second: {names[1]}   gain: positive is better", ""]
    if moved:
        out += text.grid(
            [COMPARE_HEAD, *([text.printable(c) for c in row] for row in _compare_rows(moved))], 3
        )
    same = len(differences) - len(moved)
    if same:
        out += [
            "",
            f"{same} {'number is' if same == 1 else 'numbers are'} identical: same clips, same scores.",
        ]
    largest = _largest(moved, most)
    if largest:
        out += ["", "Largest losses:"]
    for d, change in largest:
        out.append(f"  {d.label} of {d.cell.method} ({d.cell.gate}), {_change(change, column_of(d))}")
        out += [f"    {path}" for path in (change.old_clip, change.new_clip) if path]
    return "\n".join(line if i < 2 else line.rstrip() for i, line in enumerate(out)) + "\n"


def compare_markdown(differences: Sequence[Difference], names: tuple[str, str], most: int = 10) -> str:
    """Return a comparison as Markdown."""
    moved = [d for d in differences if not d.identical]
    out = [
        f"First: {markdown.escape(names[0])}. Second: {markdown.escape(names[1])}. A positive gain is better.",
        "",
    ]
    if moved:
        lines = [COMPARE_HEAD, *([markdown.escape(c) for c in row] for row in _compare_rows(moved))]
        out += [*markdown.grid(lines, 3), ""]
    if len(moved) < len(differences):
        out += [f"{len(differences) - len(moved)} numbers are identical: same clips, same scores.", ""]
    largest = _largest(moved, most)
    if largest:
        out += ["Largest losses:", ""]
    for d, change in largest:
        what = f"{d.label} of {d.cell.method} ({d.cell.gate}), {_change(change, column_of(d))}"
        paths = " → ".join(f"`{p.replace('`', chr(39))}`" for p in (change.old_clip, change.new_clip) if p)
        out.append(f"- {markdown.escape(what)}" + (f": {paths}" if paths else ""))
    return "\n".join(out).rstrip() + "\n"


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
        lines.append([*(text.printable(c) for c in (cell.method, cell.gate, label)), *shown])
    return (
        "\n".join(["Noise floors (standard deviation of the difference of two runs):", *text.grid(lines, 3)])
        + "\n"
    )


GATE_HEAD = [
    "",
    "Rule",
    "Method",
    "Gate",
    "Metric",
    "reference",
    "this run",
    "gain",
    "interval",
    "tolerance",
    "p",
    "why",
]


def _gate_rows(checks: Sequence[Check]) -> list[list[str]]:
    rows = []
    for check in checks:
        d = check.difference
        column = column_of(d)
        gain, interval = _gain(d)
        tolerance = column.show(check.tolerance) if math.isfinite(check.tolerance) else ""
        rows.append([
            f"{_SYMBOL[check.verdict]} {check.verdict}", check.rule.name, d.cell.method, d.cell.gate, d.label,
            column.show(d.old), column.show(d.new), gain, interval, tolerance, _p(check.p), check.why,
        ])  # fmt: skip
    return rows


def headline(outcome: Outcome) -> str:
    """Return one line: `gate: 2 fail, 30 pass (against synthetic)`."""
    counts = ", ".join(f"{outcome.count(v)} {v}" for v in VERDICTS if outcome.count(v))
    return f"gate: {counts or 'nothing to check'} (run {outcome.run} against {outcome.reference})"


def _worst(outcome: Outcome) -> list[tuple[Check, Change]]:
    return [
        (c, w) for c in outcome.checks if c.verdict in ("fail", "inconclusive") for w in c.difference.worst
    ]


def gate_text(outcome: Outcome, verbose: bool = False) -> str:
    """Return an outcome for the terminal; passes are only counted unless `verbose`."""
    shown = [c for c in outcome.checks if verbose or c.verdict != "pass"]
    out = []
    if shown:
        out += text.grid([GATE_HEAD, *([text.printable(x) for x in row] for row in _gate_rows(shown))], 5)
    for check in shown:
        if check.verdict != "fail" or not check.difference.worst:
            continue
        out += ["", f"Worst samples of {text.printable(check.name)}:"]
        for change in check.difference.worst:
            out.append(f"  {_change(change, column_of(check.difference))}")
            out += [f"    {path}" for path in (change.old_clip, change.new_clip) if path]
    return "\n".join([*(line.rstrip() for line in out), *([""] if out else []), headline(outcome)]) + "\n"


def gate_markdown(outcome: Outcome) -> str:
    """Return an outcome as Markdown: the table of everything that did not pass, worst samples, then passes."""
    out = [f"### {markdown.escape(headline(outcome))}", ""]
    for title, checks in (
        ("", [c for c in outcome.checks if c.verdict != "pass"]),
        ("Passed", [c for c in outcome.checks if c.verdict == "pass"]),
    ):
        if not checks:
            continue
        lines = [GATE_HEAD, *([markdown.escape(x) for x in row] for row in _gate_rows(checks))]
        table = markdown.grid(lines, 5)
        if title:
            table = [f"<details><summary>{title}: {len(checks)}</summary>", "", *table, "", "</details>"]
        out += [*table, ""]
    worst = [(c, w) for c, w in _worst(outcome) if c.verdict == "fail"]
    if worst:
        out += ["Worst samples:", ""]
    for check, change in worst:
        sentence = f"{check.name}: {_change(change, column_of(check.difference))}"
        paths = " → ".join(f"`{p.replace('`', chr(39))}`" for p in (change.old_clip, change.new_clip) if p)
        out.append(f"- {markdown.escape(sentence)}" + (f": {paths}" if paths else ""))
    return "\n".join(out).rstrip() + "\n"
