"""One Table model rendered as Markdown, HTML, LaTeX, CSV, Parquet and JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.declaration import one_of
from bench.core.errors import UsageError, did_you_mean
from bench.core.printable import visible
from bench.store.files import write_bytes

if TYPE_CHECKING:
    from bench.report.table import Table
    from bench.results.runs import Results
    from bench.results.summary import Summary

FORMATS = {
    "md": "report.md",
    "csv": "report.csv",
    "html": "report.html",
    "latex": "report.tex",
    "parquet": "report.parquet",
}
"""Format name -> file name."""


def build_tables(
    results: Results,
    recipe: str | Path = "full",
    intersection: bool = False,
    published: bool = True,
    mark: str = "",
) -> list[Table]:
    """Return the tables of a recipe.

    Args:
        results: rows and provenance, see `bench.results.runs.load`.
        recipe: name of a recipe or path of a `.toml` file.
        intersection: rank on the samples every method has scored.
        published: show the papers' numbers the recipe asks for.
        mark: `interval`, `best` or `none`, overriding the recipe.

    Raises:
        UsageError: unknown or broken recipe, or results without a row for it.
    """
    from bench.results.summary import Summary

    return _tables(Summary(results, intersection), recipe, published, mark)


def _tables(summary: Summary, recipe: str | Path, published: bool, mark: str) -> list[Table]:
    from bench.report import build, recipes

    chosen = recipes.load(recipe)
    if mark:
        one_of(mark, recipes.MARKS, "mark")
    tables = build.tables(summary, chosen, published, mark)
    if not any(row.section != "published" for table in tables for row in table.rows):
        measured = sorted({cell.protocol for cell in summary.estimates})
        raise UsageError(
            f"None of the columns of the recipe '{chosen.name}' was measured in {summary.results.name}.",
            f"It holds: {', '.join(measured) or 'no rows'}. Try --recipe full.",
        )
    return tables


def write(
    results: Results,
    out: Path,
    recipe: str | Path = "full",
    formats: Sequence[str] = ("md", "csv", "html", "latex"),
    media_root: Path | None = None,
    intersection: bool = False,
    published: bool = True,
    mark: str = "",
    copy_media: bool = False,
) -> dict[str, Path]:
    """Write a report into the folder `out` and return the path of each format.

    The same rows give the same bytes. Files are replaced whole, never left half written.

    Args:
        results: rows and provenance.
        out: folder, made when missing.
        recipe, intersection, published, mark: see `build_tables`.
        formats: any of `FORMATS`.
        media_root: folder that relative media paths in the rows are relative to (default: where the
            results were read from).
        copy_media: copy the clips into `out/media`, so that the folder can be zipped and sent. Of a run that is
            not the user's own, only media in its folder and its store are copied.

    Raises:
        UsageError: unknown format or recipe.
    """
    check_formats(formats)
    from bench.results.summary import Summary

    summary = Summary(results, intersection)
    tables = _tables(summary, recipe, published, mark)
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for name in formats:
        data = _render(name, summary, tables, out, media_root, copy_media)
        written[name] = out / FORMATS[name]
        write_bytes(written[name], data, within=out)
    return written


def check_formats(names: Sequence[str]) -> None:
    """Refuse unknown report formats.

    Raises:
        UsageError: naming the known ones.
    """
    for name in names:
        if name not in FORMATS:
            raise UsageError(
                f"There is no report format '{name}'.{did_you_mean(name, list(FORMATS))}",
                f"Formats: {', '.join(FORMATS)}.",
            )


def _render(
    name: str, summary: Summary, tables: list[Table], out: Path, media_root: Path | None, copy_media: bool
) -> bytes:
    results = summary.results
    title = f"Benchmark report: {results.provenance.get('split') or results.name}"
    if name == "md":
        from bench.report import markdown

        return markdown.document(title, tables, results.provenance).encode()
    if name == "csv":
        from bench.report import csv

        return csv.document(tables).encode()
    if name == "parquet":
        from bench.report import csv

        return csv.parquet(tables)
    if name == "latex":
        from bench.report import latex

        return latex.document(tables, results.provenance).encode()
    from bench.report import html

    page = html.document(title, summary, tables, out, media_root or results.folder, copy_media)
    return visible(page).encode()


def text_table(results: Results, recipe: str | Path = "full", width: int = 120, intersection: bool = False) -> str:
    """Return the recipe's tables as plain text for a terminal of `width` cells."""
    from bench.report import text

    tables = build_tables(results, recipe, intersection, published=False)
    return text.document(tables, width)
