"""Tables as GitHub-flavoured Markdown, readable raw as well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.report.table import (
    SECTION_TITLES,
    Column,
    Row,
    Table,
    Value,
    has_gates,
    head_cells,
    sections,
    text,
)

COLUMNS_PER_PART = 7


def escape(raw: str) -> str:
    """Return text that renders as itself: Markdown and HTML specials are neutralised, newlines become spaces."""
    clean = re.sub(r"\s+", " ", raw).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#^{}])", r"\\\1", clean)


def cell(value: Value | None, column: Column) -> str:
    """Return one cell with its mark."""
    number, addition = (escape(part) for part in text(value, column))
    if value is not None and value.mark == "best":
        number = f"**{number}**"
    elif value is not None and value.mark == "second":
        number = f"<u>{number}</u>"
    return number + addition.replace(" ± ", " ±\u00a0")


def _heading(column: Column, grouped: bool) -> str:
    label = escape(f"{column.group} {column.heading}" if grouped and column.group else column.heading)
    note = f"<sup>{column.footnote}</sup>" if column.footnote else ""
    return f"{label} {column.arrow}".rstrip() + note


def _row(row: Row, table: Table, chosen: Sequence[int]) -> list[str]:
    heads = [escape(h) for h in head_cells(table, row)]
    if row.section != "method":
        heads[0] = f"*{heads[0]}*" + (" (published)" if row.section == "published" else "")
    return [*heads, row.n_text, *(cell(row.values[i], table.columns[i]) for i in chosen)]


def _grid(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(lines[0]))]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    return ["| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]]]


def table(model: Table, level: int = 3) -> str:
    """Return one table with its caption, footnotes, notes and the reasons of everything missing."""
    out = [f"{'#' * level} {escape(model.title)}", ""]
    if model.caption:
        out += [escape(model.caption), ""]
    left = 2 if has_gates(model) else 1
    grouped = any(c.group for c in model.columns)
    for chosen in model.parts(COLUMNS_PER_PART):
        head = [*model.row_heads[:left], "n", *(_heading(model.columns[i], grouped) for i in chosen)]
        body = [
            _row(row, model, chosen)
            for _, rows in sections(model.rows) for row in rows
            if any(row.values[i] is not None for i in chosen)
        ]  # fmt: skip
        out += [*_grid([head, *body], left), ""]
    out += _beneath(model)
    return "\n".join(out).rstrip() + "\n"


def _beneath(model: Table) -> list[str]:
    out: list[str] = []
    titles = [SECTION_TITLES[s] for s, _ in sections(model.rows) if SECTION_TITLES[s]]
    if titles:
        out += ["In italics: " + "; ".join(t[0].lower() + t[1:] for t in titles) + ".", ""]
    if model.footnotes:
        out += [
            f"{n}. `{protocol}`{': ' + escape(about) if about else ''}"
            for n, protocol, about in model.footnotes
        ]
        out.append("")
    out += [f"- {escape(note)}" for note in model.notes]
    if model.reasons:
        out += ["", "Why “—” or `[n/N]`:", "", *(f"- {escape(r)}" for r in model.reasons)]
    return [*out, ""]


def document(title: str, tables: Iterable[Table], provenance: Mapping[str, Any]) -> str:
    """Return a whole report: split notes, tables, provenance in short."""
    out = [f"# {escape(title)}", ""]
    facts = [
        f"{k}: {escape(str(provenance[k]))}"
        for k in ("split", "domain", "version", "commit", "created")
        if provenance.get(k)
    ]
    if facts:
        out += [" · ".join(facts), ""]
    if provenance.get("command"):
        out += [f"`{str(provenance['command']).replace('`', chr(39))}`", ""]
    out += [f"> {escape(note)}" for note in provenance.get("notes", ())]
    if provenance.get("notes"):
        out.append("")
    out += [table(t, level=2) for t in tables]
    out += _provenance(provenance)
    return "\n".join(out).rstrip() + "\n"


def _provenance(provenance: Mapping[str, Any]) -> list[str]:
    lines = []
    counts = provenance.get("counts")
    if counts:
        lines.append(
            "- Results: " + ", ".join(f"{escape(str(v))} {escape(str(k))}" for k, v in counts.items())
        )
    hardware = provenance.get("hardware")
    if hardware:
        lines.append("- Hardware: " + escape("; ".join(str(h) for h in hardware)))
    environment = provenance.get("environment") or {}
    named = [f"{k} {environment[k]}" for k in ("python", "platform") if environment.get(k)]
    if named:
        lines.append("- Environment: " + escape(", ".join(named)))
    for item in provenance.get("rejected", ()):
        lines.append(
            f"- Left out: {escape(str(item.get('item', '')))}: {escape(str(item.get('reason', '')))}"
        )
    return ["## Provenance", "", *lines] if lines else []
