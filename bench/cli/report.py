"""`bench report`: tables and a page from one or more runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Home
from bench.cli.verb import say


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Runs by name or path; default: the latest."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe name or path of your own .toml.")] = "full",
    format: Annotated[
        str, typer.Option(help="Comma-separated: md, html, latex, csv, parquet.")
    ] = "md,html,latex,csv",
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: the run's own.")] = None,
    intersection: Annotated[
        bool, typer.Option("--intersection", help="Rank on the samples that every method has scored.")
    ] = False,
    mark: Annotated[str, typer.Option(help="What is marked as best: interval, best or none.")] = "",
    published: Annotated[bool, typer.Option(help="Show the papers' numbers beside ours.")] = True,
    copy_media: Annotated[
        bool, typer.Option("--copy-media", help="Copy the clips next to the page, to zip it.")
    ] = False,
    home: Home = None,
) -> None:
    """Write tables (Markdown, LaTeX, CSV) and an offline HTML page, and print the paths."""
    from bench import report as reports
    from bench.results import runs as results

    loaded = results.merge([results.load(run, home) for run in runs or ["latest"]])
    formats = [name for name in format.replace(" ", "").split(",") if name]
    folder = out or (loaded.folder if len(runs or "1") == 1 and loaded.folder else Path("reports/out"))
    written = reports.write(
        loaded,
        folder,
        recipe=recipe,
        formats=formats,
        intersection=intersection,
        published=published,
        mark=mark,
        copy_media=copy_media,
    )
    for path in written.values():
        say(str(path))
