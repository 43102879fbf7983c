"""Tables in pieces, so that the page can copy what it shows (some columns, another order) in three formats.

Every cell is escaped here, by the renderer of its format; the page only joins cells to lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.report import csv, latex, markdown
from bench.report.table import SECTION_TITLES, Table, lead


def pieces(table: Table) -> dict[str, Any]:
    """Return the cells of a table under `md`, `tex` and `csv`; the first line of each is its heading.

    `id` names the table, `left` tells which leading columns are text, `sections` the section of each row,
    `titles` the lines that open a section in LaTeX, `head` and `tail` what stands around the LaTeX tabular.
    CSV has value, low and high of every column, unscaled.
    """
    heads, _ = lead(table)
    everything = range(len(table.columns))
    sections = [row.section for row in table.rows]
    head, tail = latex.around(table)
    return {
        "id": table.id,
        "left": [i for i, name in enumerate(heads) if name != "n"],
        "lead": len(heads),
        "sections": sections,
        "titles": {s: latex.escape(SECTION_TITLES[s]) for s in dict.fromkeys(sections) if SECTION_TITLES[s]},
        "head": head,
        "tail": tail,
        "md": markdown.lines(table, everything),
        "tex": latex.lines(table, everything),
        "csv": _csv(table),
    }


def _csv(table: Table) -> list[Sequence[Any]]:
    heads, firsts = lead(table)
    lines: list[Sequence[Any]] = [
        [*heads, *([f"{c.group} {c.label}".strip(), "low", "high"] for c in table.columns)]
    ]
    for row, first in zip(table.rows, firsts, strict=True):
        cells: list[Any] = [csv.inert(name) for name in first]
        for value in row.values:
            ends = (value.value, value.low, value.high) if value else ()
            cells.append([float(f"{v:.8g}") if math.isfinite(v) else None for v in ends] or [None] * 3)
        lines.append(cells)
    return lines
