"""What a run or a scoring prints at its end: the table, what failed, and where the files are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.display import emit_json, errors, output
from bench.core.errors import ExitCode, UsageError
from bench.run.drive import RunResult, command_line

if TYPE_CHECKING:
    from bench.results.runs import Results


def reporter(recipe: str, formats: Sequence[str]) -> Callable[[Path], dict[str, Path]]:
    """Return what writes the report files of a finished run into its folder.

    Raises:
        UsageError: there is no such recipe or format; said now rather than after hours of work.
    """
    from bench import report
    from bench.report import recipes

    report.check_formats(formats)
    recipes.load(recipe)

    def write(folder: Path) -> dict[str, Path]:
        from bench.jobs.features import FeatureBank
        from bench.report import curves
        from bench.results.runs import load
        from bench.store.home import Home

        if load(str(folder)).rows.empty:  # clips were wanted, and no numbers
            return {}
        if "html" in formats:
            curves.write(folder, FeatureBank(Home(folder.parent.parent)).stored)
        return report.write(load(str(folder)), folder, recipe, tuple(formats))

    return write


def finish(result: RunResult, as_json: bool, max_failures: int) -> ExitCode:
    """Print the summary table on stdout and the rest on stderr; return the exit code."""
    from bench.results.runs import load

    if as_json:
        emit_json(
            {
                "folder": result.folder,
                "planned": result.planned,
                "made": result.made,
                "failed": result.failed,
                "interrupted": result.interrupted,
                "report": result.report,
            }
        )
    elif not (results := load(str(result.folder))).rows.empty:
        output.print(_table(results), soft_wrap=True)
    for line in result.failures[:10]:
        errors.print(f"! {line}", soft_wrap=True)
    if len(result.failures) > 10:
        errors.print(f"  and {len(result.failures) - 10} more kinds of failure; see {result.folder}")
    errors.print(f"{result.made} of {result.planned} clips made. Run folder: {result.folder}", soft_wrap=True)
    # The page last: it is what people open.
    for kind, path in sorted(result.report.items(), key=lambda item: item[0] == "html"):
        errors.print(f"  {kind}: {path}", soft_wrap=True)
    if result.interrupted:
        errors.print(f"Interrupted. Resume with: {command_line()}", soft_wrap=True)
        return ExitCode.INTERRUPTED
    return ExitCode.FAILURES if result.failed > max_failures else ExitCode.OK


def _table(results: Results) -> str:
    """Return the summary, or every column when the run has no value for any of the summary's."""
    from bench import report

    try:
        summary = report.build_tables(results, "summary")
    except UsageError:
        summary = []
    measured = any(
        value is not None and value.n_ok for table in summary for row in table.rows for value in row.values
    )
    return report.text_table(results, "summary" if measured else "full", output.width)
