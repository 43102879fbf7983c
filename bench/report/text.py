"""Tables for the terminal: aligned plain text, split into parts that fit the width."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Collection, Sequence

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

_GAP = "  "
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def width_of(line: str) -> int:
    """Return the number of terminal cells a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line
    )


def _cell(row: Row, index: int, column: Column) -> str:
    value = row.values[index]
    shown = "".join(text(row, index, column))
    if value is not None and value.mark:
        shown = ("*" if value.mark == "best" else "_") + shown
    return shown


def _heading(column: Column) -> str:
    note = str(column.footnote).translate(_SUPERSCRIPT) if column.footnote else ""
    name = f"{column.group}: {column.heading}" if column.group else column.heading
    return printable(f"{name} {column.arrow}".rstrip()) + note


def table(model: Table, width: int = 120, said: Collection[str] = (), reasons: bool = True) -> str:
    """Return one table as text of at most `width` cells (wider only when a single column does not fit).

    Notes in `said` are not repeated; `reasons` explains the dashes here.
    """
    heads, firsts = lead(model)
    left = [i for i, head in enumerate(heads) if head != "n"]
    leading = [heads, *([printable(c) for c in line] for line in firsts)]
    cells = [
        [_heading(c) for c in model.columns],
        *([_cell(r, i, c) for i, c in enumerate(model.columns)] for r in model.rows),
    ]
    lead_widths = [max(width_of(line[i]) for line in leading) for i in range(len(heads))]
    widths = [max(width_of(line[i]) for line in cells) for i in range(len(model.columns))]
    room = max(20, width - sum(lead_widths) - len(_GAP) * len(lead_widths))
    out = [printable(model.title), ""]
    for chosen in _fit(widths, room):
        sizes = [*lead_widths, *(widths[i] for i in chosen)]
        lines = [_line([*leading[n], *(cells[n][i] for i in chosen)], sizes, left) for n in range(len(leading))]
        rule = "─" * max(width_of(line) for line in lines)
        out += [lines[0], rule]
        section = "method"
        for row, line in zip(model.rows, lines[1:], strict=True):
            if all(row.values[i] is None for i in chosen):
                continue
            if row.section != section and SECTION_TITLES[row.section]:
                out.append(f"{_GAP}{SECTION_TITLES[row.section]}")
            section = row.section
            out.append(line)
        out.append("")
    beneath = [
        f"{str(f.number).translate(_SUPERSCRIPT)} {f.protocol}{': ' + f.summary if f.summary else ''}"
        for f in model.footnotes
    ]
    told = model.reasons if reasons else ()
    beneath += _notes([n for n in model.notes if n not in said], told)
    return "\n".join([*out, *_wrap(beneath, width), *_commands(told)]).rstrip() + "\n"


def document(tables: Sequence[Table], width: int = 120) -> str:
    """Return several tables, what they have in common said once at the end."""
    if len(tables) == 1:
        return table(tables[0], width)
    shared = shared_notes(tables)
    parts = [table(t, width, said=shared, reasons=False) for t in tables]
    told = all_reasons(tables)
    end = [*_wrap(_notes(shared, told), width), *_commands(told)]
    return "\n".join(parts) + ("\n" + "\n".join(end) + "\n" if end else "")


def _fit(widths: Sequence[int], room: int) -> list[list[int]]:
    """Split columns into as few parts as fit the room, none wider than needs be, and leave no lone column over."""
    parts = _filled(widths, room)
    while room > max(widths, default=0) and len(narrower := _filled(widths, room - 1)) == len(parts):
        parts, room = narrower, room - 1
    return parts


def _filled(widths: Sequence[int], room: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        if parts[-1] and used + width + len(_GAP) > room:
            parts.append([])
            used = 0
        parts[-1].append(index)
        used += width + len(_GAP)
    return parts


def grid(lines: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Return cells as aligned lines with a rule under the first; columns in `left` are aligned left."""
    sizes = [max(width_of(line[i]) for line in lines) for i in range(len(lines[0]))]
    drawn = [_line(line, sizes, left) for line in lines]
    return [drawn[0], "─" * max(map(width_of, drawn)), *drawn[1:]]


def _line(items: Sequence[str], sizes: Sequence[int], left: Collection[int]) -> str:
    padded = []
    for index, (item, size) in enumerate(zip(items, sizes, strict=True)):
        space = " " * (size - width_of(item))
        padded.append(item + space if index in left else space + item)
    return _GAP.join(padded).rstrip()


def _notes(notes: Sequence[str], reasons: Sequence[Reason]) -> list[str]:
    lines = [note.replace("Bold is best, underlined second", "* is best, _ second") for note in notes]
    return lines + [f"— {reason}" for reason in reasons]


def _commands(reasons: Sequence[Reason]) -> list[str]:
    """Return what to type for what is missing: whole commands on lines of their own, to be copied."""
    typed = commands(r.detail for r in reasons)
    return ["What gets it:", *(f"  {printable(c)}" for c in typed)] if typed else []


def _wrap(lines: Sequence[str], width: int) -> list[str]:
    return [textwrap.fill(printable(line), max(40, width), subsequent_indent="  ") for line in lines]
