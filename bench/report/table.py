"""The one table model every renderer reads: values apart from their display, with marks and footnotes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Mark = Literal["", "best", "second"]
Section = Literal["method", "control", "published"]

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of numbers.

    Attributes:
        protocol: protocol id the numbers were made with.
        key: column key inside the protocol.
        label: heading.
        direction: `higher`, `lower` or `none`.
        unit, digits, scale: display only; values in the model are unscaled.
        group: heading above neighbouring columns, or empty.
        gate: set in method x gate matrices, where columns are gates.
        split: the split its values come from, when a table spans several.
        footnote: number of the protocol's footnote.
    """

    protocol: str
    key: str
    label: str
    direction: str = "none"
    unit: str = ""
    digits: int = 3
    scale: float = 1.0
    group: str = ""
    gate: str = ""
    split: str = ""
    footnote: int = 0

    @property
    def arrow(self) -> str:
        """`↑`, `↓` or nothing."""
        return ARROWS.get(self.direction, "")

    @property
    def heading(self) -> str:
        """Label with scale and unit as papers print it, e.g. `LMD (×10⁻²) [px]`, without the arrow."""
        scale = "" if self.scale == 1 else f" (×{_power(1 / self.scale)})"
        return f"{self.label}{scale}" + (f" [{self.unit}]" if self.unit else "")

    def show(self, value: float) -> str:
        """Format a value at display scale; huge and tiny numbers go scientific, NaN becomes a dash."""
        if not math.isfinite(value):
            return "—"
        shown = value * self.scale
        if shown != 0 and (abs(shown) >= 1e6 or abs(shown) < 0.5 * 10.0**-self.digits):
            return f"{shown:.{max(self.digits - 1, 1)}e}"
        return f"{shown:.{self.digits}f}"


def _power(scale: float) -> str:
    exponent = math.log10(scale) if scale > 0 else math.nan
    if exponent == round(exponent):
        return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{scale:g}"


@dataclass(frozen=True, slots=True)
class Value:
    """One number with its uncertainty and coverage.

    Attributes:
        value, low, high: unscaled; NaN when absent.
        interval: `bootstrap`, `subsample`, `range` (raw range of identity means: too few identities for an
            interval) or `none`.
        n_ok, n_planned, n_identities: coverage; all zero for published numbers.
        coverage: mean share of measurable frames, NaN when not reported.
        floor: half-vs-half floor of set metrics, NaN otherwise.
        mark: `best`, `second` or nothing.
        verbatim: published numbers exactly as printed; empty for ours.
        reasons: reasons of missing results with counts, most frequent first.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    interval: str = "none"
    n_ok: int = 0
    n_planned: int = 0
    n_identities: int = 0
    coverage: float = math.nan
    floor: float = math.nan
    mark: Mark = ""
    verbatim: str = ""
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def half(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2

    @property
    def scored(self) -> bool:
        """Whether there is a number at all."""
        return math.isfinite(self.value)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a method under a gate, a control, or a published system."""

    label: str
    gate: str
    section: Section
    values: tuple[Value | None, ...]

    @property
    def n(self) -> tuple[int, int, int]:
        """Smallest and largest n_ok and the largest n_planned over the cells."""
        counted = [v for v in self.values if v is not None and v.n_planned]
        if not counted:
            return 0, 0, 0
        oks = [v.n_ok for v in counted]
        return min(oks), max(oks), max(v.n_planned for v in counted)

    @property
    def n_text(self) -> str:
        """`24/24`, or `20–24/24` when the columns differ; empty for published rows."""
        low, high, planned = self.n
        if not planned:
            return ""
        return f"{high}/{planned}" if low == high else f"{low}–{high}/{planned}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be drawn.

    Attributes:
        id: file-name-safe identifier, unique in a report.
        title, caption: plain text.
        columns, rows: as drawn; every row has one value per column (None: not planned).
        footnotes: (number, protocol id, text) of every protocol in the columns.
        notes: sentences to print beneath, e.g. how marks were decided.
        reasons: sentences that explain every dash and every incomplete cell.
        row_heads: headings of the leading columns.
    """

    id: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[tuple[int, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    row_heads: tuple[str, ...] = ("Method", "Gate")

    def parts(self, size: int) -> Iterator[tuple[int, ...]]:
        """Yield column indices in chunks of at most `size`, balanced, without cutting a group if it fits."""
        blocks: list[list[int]] = []
        for index, column in enumerate(self.columns):
            if blocks and column.group and self.columns[blocks[-1][-1]].group == column.group:
                blocks[-1].append(index)
            else:
                blocks.append([index])
        blocks = [b[i : i + size] for b in blocks for i in range(0, len(b), size)]
        wanted = math.ceil(len(self.columns) / max(1, math.ceil(len(self.columns) / size)))
        chunk: list[int] = []
        for block in blocks:
            if chunk and len(chunk) + len(block) > max(wanted, len(block)):
                yield tuple(chunk)
                chunk = []
            chunk += block
        if chunk:
            yield tuple(chunk)


def text(value: Value | None, column: Column) -> tuple[str, str]:
    """Return a cell as (number, addition), both plain text.

    The addition is ` ± half` or ` (low–high)`, followed by ` [n/N]` when not everything was scored. A cell
    that was not planned is empty; a planned one without any value is a dash.
    """
    if value is None:
        return "", ""
    if value.verbatim:
        return value.verbatim, ""
    if not value.scored:
        return "—", ""
    spread = ""
    if value.interval == "range":
        spread = f" ({column.show(value.low)}–{column.show(value.high)})"
    elif math.isfinite(value.half):
        spread = f" ± {column.show(value.half)}"
    partial = f" [{value.n_ok}/{value.n_planned}]" if value.n_ok < value.n_planned else ""
    return column.show(value.value), spread + partial


def plain(value: Value | None, column: Column) -> str:
    """Return a cell as one plain string."""
    return "".join(text(value, column))


def has_gates(table: Table) -> bool:
    """Whether the second row head (the gate) carries information."""
    return len(table.row_heads) > 1 and any(r.gate for r in table.rows)


def head_cells(table: Table, row: Row) -> list[str]:
    """Return the leading cells of a row: label and, where used, gate."""
    return [row.label, row.gate] if has_gates(table) else [row.label]


def sections(rows: Sequence[Row]) -> list[tuple[Section, list[Row]]]:
    """Group rows into methods, controls and published numbers, in that order, leaving out empty ones."""
    order: tuple[Section, ...] = ("method", "control", "published")
    grouped = [(s, [r for r in rows if r.section == s]) for s in order]
    return [(s, r) for s, r in grouped if r]


SECTION_TITLES = {
    "method": "",
    "control": "Controls (not ranked)",
    "published": "Published (protocol unpublished; not ranked)",
}
