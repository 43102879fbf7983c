"""The one table model every renderer reads: values apart from their display, with marks and footnotes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Mark = Literal["", "best", "second"]
Section = Literal["method", "control", "stand-in", "published"]

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
        identical: the value printed in words, see `bench.core.spec.Column`.
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
    identical: float | None = None

    @property
    def arrow(self) -> str:
        """`↑`, `↓` or nothing."""
        return ARROWS.get(self.direction, "")

    @property
    def heading(self) -> str:
        """Label with scale and unit as papers print them, e.g. `LMD (×10⁻² px)`, without the arrow."""
        if self.gate:
            return self.label
        scale = "" if self.scale == 1 else f"×{_power(1 / self.scale)}"
        about = f"{scale} {self.unit}".strip()
        return f"{self.label} ({about})" if about else self.label

    def show(self, value: float, exponent: bool = False) -> str:
        """Format a value at display scale; NaN is a dash, huge ones (or all, on request) scientific."""
        if not math.isfinite(value):
            return "—"
        if value == self.identical:
            return "identical"
        shown = value * self.scale
        if exponent or abs(shown) >= 1e6:
            return f"{shown:.{max(self.digits - 1, 1)}e}"
        fixed = f"{shown:.{self.digits}f}"
        return fixed.removeprefix("-") if self._vanishes(value) else fixed

    def show_pair(self, value: float, half: float) -> tuple[str, str]:
        """Format a value and its half interval alike; scientific when plain digits would hide both."""
        tiny = value != 0 and self._vanishes(value) and not (half > 0 and not self._vanishes(half))
        return self.show(value, tiny), self.show(half, tiny)

    def _vanishes(self, value: float) -> bool:
        return abs(value * self.scale) < 0.5 * 10.0**-self.digits


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
        planned = max(v.n_planned for v in counted)
        # A cell that has all of the fewer clips it is about, as speed without the first, misses nothing.
        oks = [v.n_ok for v in counted if v.n_planned == planned or v.n_ok < v.n_planned]
        return min(oks), max(oks), planned

    @property
    def n_text(self) -> str:
        """`24/24`, or `20–24/24` when the columns differ; empty for published rows."""
        low, high, planned = self.n
        if not planned:
            return ""
        return f"{high}/{planned}" if low == high else f"{low}–{high}/{planned}"


class Footnote(NamedTuple):
    """A protocol named by columns: its number, id, what it measures, and source and weights."""

    number: int
    protocol: str
    summary: str
    details: str

    @property
    def text(self) -> str:
        """Everything but the id."""
        return "; ".join(part for part in (self.summary, self.details) if part)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why results are missing.

    Attributes:
        code: the reason code, or the cause of an error.
        detail: the explanation, or the most frequent one of the methods concerned, see `told`.
        counts: (method, gate, protocol) -> number of results.
        labels: headings of the columns concerned.
    """

    code: str
    detail: str
    counts: Mapping[tuple[str, str, str], int]
    labels: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What results are grouped by."""
        return self.code, self.detail

    @property
    def total(self) -> int:
        """Number of missing results (of clips x protocols: columns of one protocol fail together)."""
        return sum(self.counts.values())

    @property
    def methods(self) -> tuple[str, ...]:
        """`method (gate)` of everyone concerned."""
        return tuple(dict.fromkeys(f"{method} ({gate})" for method, gate, _ in sorted(self.counts)))

    def __str__(self) -> str:
        noun = "result" if self.total == 1 else "results"
        what = f"{self.code}: {self.total} {noun} of {_some(self.methods)}, in {_some(self.labels)}"
        return what + (f": {self.detail.rstrip('.')}." if self.detail else ".")


APART = ("missing_weights", "missing_package")
"""Reasons whose every explanation is said: it ends with the command that gets what is missing."""


def told(reasons: Iterable[tuple[str, str, str, int]]) -> Mapping[tuple[str, str, str], str]:
    """Choose what is said of each failure: one explanation per reason and method, the most frequent.

    A method may fail in as many words as it has clips; two methods that fail differently keep their own.

    Args:
        reasons: (code, method, detail, count) of everything that is missing.

    Returns:
        (code, method, detail) -> the explanation it is said under.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    for code, method, detail, count in reasons:
        counts.setdefault((code, method), Counter())[detail] += count

    def chosen(found: Counter[str]) -> str:
        first = min(found, key=lambda d: (-found[d], d))
        return first if len(found) == 1 else f"{first.rstrip('.')} (and {len(found) - 1} more like it)"

    return {
        (code, method, detail): detail if code in APART else chosen(found)
        for (code, method), found in counts.items()
        for detail in found
    }


def command_in(detail: str) -> str:
    """Return the command an explanation ends with (`... Run: COMMAND (where to read more)`), or nothing.

    Rows may come from a stranger: only what our own messages begin with is offered to be copied.
    """
    command = " ".join(detail.partition("Run: ")[2].partition(" (")[0].split()).rstrip(".")
    return command if command.startswith(("bench ", "pip install ", "python -m ", "export ")) else ""


def commands(details: Iterable[str]) -> list[str]:
    """Return what to type for everything that is missing, each command once."""
    return list(dict.fromkeys(command for detail in details if (command := command_in(detail))))


def _some(items: Sequence[str], most: int = 4) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def all_reasons(tables: Iterable[Table]) -> tuple[Reason, ...]:
    """Put the reasons of several tables together, most frequent first."""
    merged: dict[tuple[str, str], Reason] = {}
    for reason in (r for table in tables for r in table.reasons):
        known = merged.get(reason.key, Reason(reason.code, reason.detail, {}, ()))
        counts = {p: max(known.counts.get(p, 0), n) for p, n in {**known.counts, **reason.counts}.items()}
        labels = tuple(dict.fromkeys((*known.labels, *reason.labels)))
        merged[reason.key] = Reason(reason.code, known.detail or reason.detail, counts, labels)
    return tuple(sorted(merged.values(), key=lambda r: (-r.total, r.code, r.detail)))


def shared_notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Return the notes that stand under more than one table, to be said once."""
    counts = Counter(note for table in tables for note in table.notes)
    return tuple(note for note, count in counts.items() if count > 1)


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be drawn.

    Attributes:
        id: file-name-safe identifier, unique in a report.
        title, caption: plain text.
        columns, rows: as drawn (methods, then controls, then published); one value per column in every
            row (None: not planned).
        footnotes: every protocol in the columns.
        notes: sentences to print beneath, e.g. how marks were decided.
        reasons: what explains every dash and every incomplete cell.
        row_heads: headings of the leading columns.
    """

    id: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[Footnote, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
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


def text(row: Row, index: int, column: Column) -> tuple[str, str]:
    """Return a cell as (number, addition), both plain text.

    The addition is ` ± half` or ` (low–high)`, followed by ` (n/N)` where the row's own count does not say
    it. A cell that was not planned is empty; a planned one without any value is a dash.
    """
    value = row.values[index]
    if value is None:
        return "", ""
    if value.verbatim:
        return value.verbatim, ""
    if not value.scored:
        return "—", ""
    low, high, _ = row.n
    partial = f" ({value.n_ok}/{value.n_planned})" if low != high and value.n_ok < value.n_planned else ""
    if value.value == column.identical:
        return column.show(value.value), partial
    if value.interval == "range":
        return column.show(value.value), f" ({column.show(value.low)}–{column.show(value.high)}){partial}"
    number, half = column.show_pair(value.value, value.half)
    return number, (f" ± {half}" if math.isfinite(value.half) else "") + partial


def lead(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the headings of the leading columns and, for every row in order, their cells.

    The gate is left out where no row has one, the count where nothing was counted (published numbers).
    """
    gates = len(table.row_heads) > 1 and any(row.gate for row in table.rows)
    counts = any(row.n_text for row in table.rows)
    heads = [*table.row_heads[: 1 + gates], *(["n"] if counts else [])]
    cells = [[row.label, *([row.gate] if gates else []), *([row.n_text] if counts else [])] for row in table.rows]
    return heads, cells


SECTION_TITLES: Mapping[Section, str] = {
    "method": "",
    "control": "Controls (not ranked)",
    "stand-in": "Stand-in weights: real programs, random numbers (not ranked)",
    "published": "Published (protocol unpublished; not ranked)",
}
