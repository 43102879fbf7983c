"""Numbers printed in papers: data files in `reports/published/`, shown greyed and never ranked.

Each CSV is one paper, named by its stem, with one line per cell: `table, system, gate, dataset, setting,
column, direction, value, scale, source, note`. `value` is the text as printed; `scale` is the factor the
paper multiplied the number by (a heading `×10⁻²` means 100).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UsageError, did_you_mean
from bench.core.resources import data_folder

EVERY = "*"
# What papers call the measures that have another name here.
_SAME = {"LSE-C": "Sync-C", "LSE-D": "Sync-D", "Sync-conf": "Sync-C"}
FIELDS = (
    "table", "system", "gate", "dataset", "setting", "column", "direction", "value", "scale", "source",
    "note",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """One number of a paper, with the fields of the CSV; `value` is the printed text.

    `setting` is what was tried: `audio-driven`, `self-reenactment`, `cross-reenactment`, `dubbing` or `ablation`.
    """

    table: str
    system: str
    gate: str
    dataset: str
    setting: str
    column: str
    direction: str
    value: str
    scale: float
    source: str
    note: str

    @property
    def measure(self) -> str:
        """The column under the name it has here."""
        return _SAME.get(self.column, self.column)

    @property
    def where(self) -> str:
        """The paper and its table in short: `FLOAT, Table 1`."""
        return f"{self.source.partition(' (')[0]}, {self.source.rpartition(', ')[2]}"


def papers(folder: Path | None = None) -> list[str]:
    """Return the names of the papers there are numbers of."""
    return sorted(p.stem for p in (folder or data_folder("reports") / "published").glob("*.csv"))


def load(paper: str, table: str = "", folder: Path | None = None) -> list[PublishedCell]:
    """Return the cells of a paper (of one of its tables) in the order of the file.

    Args:
        paper: its name, or `*` for what all papers print of whole systems: no ablations.
        table: one of its tables; all when empty.
        folder: where the files are; those of the benchmark by default.

    Raises:
        UsageError: unknown paper, or a line that does not have the declared fields.
    """
    folder = folder or data_folder("reports") / "published"
    if paper == EVERY:
        return [c for name in papers(folder) for c in load(name, table, folder) if c.setting != "ablation"]
    path = folder / f"{paper}.csv"
    if not path.is_file():
        known = papers(folder)
        raise UsageError(
            f"There are no published numbers called '{paper}'.{did_you_mean(paper, known)}",
            f"Known papers: {', '.join(known) or 'none'}.",
        )
    cells = []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            names, lines = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    if names != FIELDS:
        raise UsageError(f"{path} must have the columns {', '.join(FIELDS)}, in this order.")
    for number, line in enumerate(lines, start=2):
        try:
            float(line["value"])
            cells.append(PublishedCell(**{**line, "scale": float(line["scale"])}))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    return [c for c in cells if not table or c.table == table]


def sources(cells: list[PublishedCell]) -> list[str]:
    """Return one sentence per source: where the numbers come from and what is not known about them."""
    said = dict.fromkeys((c.source, c.note) for c in cells)
    return [f"Published numbers: {source}; {note}." for source, note in said]
