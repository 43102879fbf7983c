"""Tables as GitHub-flavoured Markdown, readable raw as well."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bench.core.printable import printable
from bench.report.table import (
    SECTION_TITLES,
    Column,
    Reason,
    Row,
    Table,
    all_reasons,
    commands,
    lead,
    shared_notes,
    text,
)
from bench.results.runs import plain

COLUMNS_PER_PART = 8


def escape(raw: str) -> str:
    """Return text that renders as itself on one line: Markdown and HTML specials are neutralised."""
    clean = printable(re.sub(r"\s+", " ", raw)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    clean = re.sub(r"([\\`*\[\]|~$])", r"\\\1", clean)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", clean)


def code(raw: str) -> str:
    """Return text as a code span on one line: no backtick of its own can end it."""
    clean = printable(re.sub(r"\s+", " ", raw)).replace("`", "'")
    return f"`{clean}`"


def cell(row: Row, index: int, column: Column) -> str:
    """Return one cell with its mark."""
    value = row.values[index]
    number, addition = (escape(part) for part in text(row, index, column))
    if value is not None and value.mark == "best":
        number = f"**{number}**"
    elif value is not None and value.mark == "second":
        number = f"<u>{number}</u>"
    return number + addition


def _heading(column: Column, grouped: bool) -> str:
    label = escape(f"{column.group} {column.heading}" if grouped and column.group else column.heading)
    note = f"<sup>{column.footnote}</sup>" if column.footnote else ""
    return f"{label} {column.arrow}".rstrip() + note


def _row(row: Row, heads: Sequence[str], table: Table, chosen: Sequence[int]) -> list[str]:
    name, *rest = map(escape, heads)
    if row.section != "method":
        name = f"*{name}*" + (" (published)" if row.section == "published" else "")
    return [name, *rest, *(cell(row, i, table.columns[i]) for i in chosen)]


def lines(model: Table, chosen: Sequence[int]) -> list[list[str]]:
    """Return the heading and every row with the chosen columns, as escaped cells."""
    heads, firsts = lead(model)
    grouped = any(c.group for c in model.columns)
    head = [*heads, *(_heading(model.columns[i], grouped) for i in chosen)]
    return [head, *(_row(row, first, model, chosen) for row, first in zip(model.rows, firsts, strict=True))]


def grid(lines: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Return escaped cells as an aligned Markdown table; columns in `left` are text."""
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(lines[0]))]
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    return ["| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]]]


def table(model: Table, level: int = 3, said: Collection[str] = (), reasons: bool = True) -> str:
    """Return one table with its caption, footnotes, notes and (optionally) the reasons of dashes.

    Args:
        model: the table.
        level: heading level.
        said: notes printed elsewhere, not to be repeated.
        reasons: explain dashes and protocols in full here; in a longer document that is said once, elsewhere.
    """
    out = [f"{'#' * level} {escape(model.title)}", ""]
    if model.caption:
        out += [escape(model.caption), ""]
    left = [i for i, head in enumerate(lead(model)[0]) if head != "n"]
    for chosen in model.parts(COLUMNS_PER_PART):
        head, *body = lines(model, chosen)
        body = [
            line
            for row, line in zip(model.rows, body, strict=True)
            if any(row.values[i] is not None for i in chosen)
        ]
        out += [*grid([head, *body], left), ""]
    titles = [SECTION_TITLES[s] for s in dict.fromkeys(r.section for r in model.rows) if SECTION_TITLES[s]]
    if titles:
        out += ["In italics: " + "; ".join(t[0].lower() + t[1:] for t in titles) + ".", ""]
    if model.footnotes:
        said_once = [(f, f.text if reasons else f.summary) for f in model.footnotes]
        out += [f"{f.number}. {code(f.protocol)}{': ' + escape(about) if about else ''}" for f, about in said_once]
        out.append("")
    out += [f"- {escape(note)}" for note in model.notes if note not in said]
    if reasons and model.reasons:
        out += ["", *_why(model.reasons)]
    return "\n".join(out).rstrip() + "\n"


def _why(reasons: Sequence[Reason]) -> list[str]:
    said = ["Why “—” or fewer results than planned:", "", *(f"- {escape(str(r))}" for r in reasons), ""]
    typed = commands(r.detail for r in reasons)
    return (
        [*said, "What gets it:", "", "```console", *(c.replace("`", "'") for c in typed), "```", ""]
        if typed
        else said
    )


def document(title: str, tables: Sequence[Table], provenance: Mapping[str, Any]) -> str:
    """Return a whole report: split notes, tables, what they have in common, provenance in short."""
    out = [f"# {escape(title)}", ""]
    known = [k for k in ("split", "domain", "version", "commit", "created") if provenance.get(k)]
    if known:
        out += [" · ".join(f"{k}: {escape(str(provenance[k]))}" for k in known), ""]
    if provenance.get("command"):
        out += [code(str(provenance["command"])), ""]
    for note in provenance.get("notes", ()):
        out += [f"> {escape(note)}", ""]
    shared = shared_notes(tables)
    out += [table(t, level=2, said=shared, reasons=False) for t in tables]
    reasons = all_reasons(tables)
    if shared or reasons:
        out += ["## Reading the tables", ""]
    if shared:
        out += [*(f"- {escape(note)}" for note in shared), ""]
    if reasons:
        out += _why(reasons)
    protocols = {f.protocol: f for t in tables for f in t.footnotes}
    if protocols:
        out += ["## Protocols", ""]
        out += [f"- {code(p)}{': ' + escape(f.text) if f.text else ''}" for p, f in protocols.items()]
        out.append("")
    out += _provenance(provenance)
    return "\n".join(out).rstrip() + "\n"


def _provenance(provenance: Mapping[str, Any]) -> list[str]:
    lines = []
    counts = provenance.get("counts")
    if counts:
        lines.append("- Results: " + ", ".join(f"{escape(str(v))} {escape(str(k))}" for k, v in counts.items()))
    hardware = provenance.get("hardware")
    if hardware:
        lines.append("- Hardware: " + escape(plain(hardware)))
    environment = provenance.get("environment") or {}
    named = [f"{k} {environment[k]}" for k in ("python", "platform") if environment.get(k)]
    if named:
        lines.append("- Environment: " + escape(", ".join(named)))
    for item in provenance.get("rejected", ()):
        lines.append(f"- Left out: {escape(str(item.get('item', '')))}: {escape(str(item.get('reason', '')))}")
    return ["## Provenance", "", *lines] if lines else []
