"""Tables and clips as a notebook shows them: plain HTML without scripts or files of its own."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench.core.errors import UsageError
from bench.report.table import SECTION_TITLES, Row, Table, lead, text

PLAYER_LIMIT = 64 << 20
"""Largest file put into a page, in bytes: a notebook keeps what it shows."""

_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4", ".m4v": "video/mp4"}


def document(tables: Sequence[Table]) -> str:
    """Return the tables as HTML."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    heads, firsts = lead(table)
    labels = [*heads, *(f"{c.group}: {c.heading}" if c.group else c.heading for c in table.columns)]
    arrows = [*("" for _ in heads), *(c.arrow for c in table.columns)]
    out = [f"<h4>{escape(table.title)}</h4>", "<table><thead><tr>"]
    out += [f"<th>{escape(f'{label} {arrow}'.rstrip())}</th>" for label, arrow in zip(labels, arrows, strict=True)]
    out.append("</tr></thead><tbody>")
    section = ""
    for row, first in zip(table.rows, firsts, strict=True):
        if row.section != section and row.section != "method":
            out.append(f"<tr><td colspan={len(labels)}><em>{escape(SECTION_TITLES[row.section])}</em></td></tr>")
        section = row.section
        cells = [escape(c) for c in first] + [_cell(table, row, i) for i in range(len(table.columns))]
        out.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    out.append("</tbody></table>")
    said = [f"{n.number}. {n.text}" for n in table.footnotes] + list(table.notes)
    return "".join(out) + "".join(f"<p><small>{escape(line)}</small></p>" for line in said)


def _cell(table: Table, row: Row, index: int) -> str:
    value = row.values[index]
    shown = escape("".join(text(row, index, table.columns[index])))
    if value is not None and value.mark:
        return f"<b>{shown}</b>" if value.mark == "best" else f"<u>{shown}</u>"
    return shown


def player(path: Path) -> str:
    """Return a video element that carries the file itself.

    Raises:
        UsageError: the file is gone, larger than `PLAYER_LIMIT`, or of a type browsers do not play.
    """
    kind = _TYPES.get(path.suffix.lower())
    if kind is None or not path.is_file():
        raise UsageError(f"{path} is not a video that a browser plays.", "Open it with a player of your own.")
    if path.stat().st_size > PLAYER_LIMIT:
        raise UsageError(f"{path} has {path.stat().st_size:,} bytes, too many to keep in a notebook.")
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<video controls loop src="data:{kind};base64,{data}"></video>'
