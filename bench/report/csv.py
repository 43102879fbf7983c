"""Tables as tidy rows: one line per cell, numbers unscaled and unrounded."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator

from bench.report.table import Table

FIELDS = (
    "table", "section", "method", "gate", "protocol", "column", "label", "direction", "unit", "split",
    "value", "low", "high", "interval", "n_ok", "n_planned", "n_identities", "coverage", "floor",
    "mark", "missing",
)  # fmt: skip


def records(tables: Iterable[Table]) -> Iterator[tuple[object, ...]]:
    """Yield one record per planned cell, in table order, with the columns of `FIELDS`."""
    for table in tables:
        for row in table.rows:
            for column, value in zip(table.columns, row.values, strict=True):
                if value is None:
                    continue
                missing = "; ".join(f"{reason} {count}" for reason, count in value.reasons)
                label = column.group if column.gate else column.label
                yield (
                    table.id, row.section, row.label, column.gate or row.gate, column.protocol, column.key,
                    label, column.direction, column.unit, column.split, _number(value.value),
                    _number(value.low), _number(value.high), value.interval, value.n_ok,
                    value.n_planned, value.n_identities,
                    _number(value.coverage), _number(value.floor), value.mark, missing,
                )  # fmt: skip


def _number(value: float) -> float | None:
    """Ten significant digits: more is rounding noise that differs between machines."""
    return float(f"{value:.10g}") if math.isfinite(value) else None


def document(tables: Iterable[Table]) -> str:
    """Return CSV text with a header line; cells a spreadsheet would run are quoted."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FIELDS)
    for record in records(tables):
        writer.writerow([inert(v) if isinstance(v, str) else v for v in record])
    return stream.getvalue()


def inert(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def parquet(tables: Iterable[Table]) -> bytes:
    """Return the same records as a Parquet file."""
    import pandas as pd

    stream = io.BytesIO()
    pd.DataFrame.from_records(list(records(tables)), columns=list(FIELDS)).to_parquet(stream, index=False)
    return stream.getvalue()
