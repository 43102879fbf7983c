"""Tables for the terminal: aligned plain text, split into parts that fit the width."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

from bench.report.table import SECTION_TITLES, Column, Table, Value, has_gates, head_cells, plain, sections

_GAP = "  "
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def width_of(text: str) -> int:
    """Return the number of terminal cells a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _printable(text: str) -> str:
    """Replace control characters, so that no name can move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _cell(value: Value | None, column: Column) -> str:
    shown = plain(value, column)
    if value is not None and value.mark:
        shown = ("*" if value.mark == "best" else "_") + shown
    return shown


def _heading(column: Column) -> str:
    note = str(column.footnote).translate(_SUPERSCRIPT) if column.footnote else ""
    name = f"{column.group}: {column.heading}" if column.group else column.heading
    return _printable(f"{name} {column.arrow}".rstrip()) + note


def table(model: Table, width: int = 120) -> str:
    """Return one table as text of at most `width` cells (wider only when a single column does not fit)."""
    groups = sections(model.rows)
    rows = [row for _, part in groups for row in part]
    left = 2 if has_gates(model) else 1
    lead = [
        [*model.row_heads[:left], "n"],
        *([_printable(h) for h in head_cells(model, r)] + [r.n_text] for r in rows),
    ]
    cells = [
        [_heading(c) for c in model.columns],
        *([_cell(v, c) for v, c in zip(r.values, model.columns, strict=True)] for r in rows),
    ]
    lead_widths = [max(width_of(line[i]) for line in lead) for i in range(left + 1)]
    widths = [max(width_of(line[i]) for line in cells) for i in range(len(model.columns))]
    room = max(20, width - sum(lead_widths) - len(_GAP) * len(lead_widths))
    out = [_printable(model.title), ""]
    for chosen in _fit(widths, room):
        sizes = [*lead_widths, *(widths[i] for i in chosen)]
        lines = [_line([*lead[n], *(cells[n][i] for i in chosen)], sizes, left) for n in range(len(lead))]
        rule = "─" * max(width_of(line) for line in lines)
        out += [lines[0], rule]
        at = 1
        for section, part in groups:
            if SECTION_TITLES[section]:
                out.append(f"{_GAP}{SECTION_TITLES[section]}")
            shown = [any(row.values[i] is not None for i in chosen) for row in part]
            out += [lines[at + n] for n, keep in enumerate(shown) if keep]
            at += len(part)
        out.append("")
    return "\n".join(out + _beneath(model, width)).rstrip() + "\n"


def _fit(widths: Sequence[int], room: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        if parts[-1] and used + width + len(_GAP) > room:
            parts.append([])
            used = 0
        parts[-1].append(index)
        used += width + len(_GAP)
    return parts


def _line(items: Sequence[str], sizes: Sequence[int], left: int) -> str:
    padded = []
    for index, (item, size) in enumerate(zip(items, sizes, strict=True)):
        space = " " * (size - width_of(item))
        padded.append(item + space if index < left else space + item)
    return _GAP.join(padded).rstrip()


def _beneath(model: Table, width: int) -> list[str]:
    lines = [
        f"{str(n).translate(_SUPERSCRIPT)} {protocol}{': ' + about if about else ''}"
        for n, protocol, about in model.footnotes
    ]
    lines += [note.replace("Bold is best, underlined second", "* is best, _ second") for note in model.notes]
    lines += [f"why “—” or [n/N]: {reason}" for reason in model.reasons]
    wrapped = [textwrap.fill(_printable(line), max(40, width), subsequent_indent="  ") for line in lines]
    return wrapped
