"""Rows of published numbers: shown greyed beside ours, never ranked."""

from __future__ import annotations

from bench.report.table import Column, Row, Value
from bench.results.published import PublishedCell


def rows(cells: list[PublishedCell], columns: list[tuple[str, Column]]) -> tuple[Row, ...]:
    """Return one row per system and gate, with the paper's numbers under the given (name, column) pairs.

    Where the cells are of several papers, every row says which of them it is, and what was tried. A number keeps
    its printed digits when the column prints at the paper's scale, and is converted otherwise. Systems without any
    number under these columns are left out.
    """
    several = len({cell.source.partition(", Table")[0] for cell in cells}) > 1
    found: dict[tuple[str, str], dict[str, PublishedCell]] = {}
    for cell in cells:
        label = f"{cell.system} ({_origin(cell)})" if several else cell.system
        found.setdefault((label, cell.gate), {})[cell.measure] = cell
    result = []
    for (label, gate), by_name in found.items():
        values = tuple(_value(by_name.get(name), column) for name, column in columns)
        if any(values):
            result.append(Row(label, gate, "published", values))
    return tuple(result)


def _origin(cell: PublishedCell) -> str:
    return cell.where if cell.setting == "audio-driven" else f"{cell.where}, {cell.setting}"


def _value(cell: PublishedCell | None, column: Column) -> Value | None:
    if cell is None:
        return None
    number = float(cell.value) / cell.scale
    verbatim = cell.value if cell.scale == column.scale else column.show(number)
    return Value(number, verbatim=verbatim)
