"""What a run or a scoring prints at its end: the table, what failed, and where the files are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.display import emit_json, errors, output
from bench.errors import UsageError
from bench.run import RunResult, command_line

if TYPE_CHECKING:
    from bench.report.results import Results


def write_report(folder: Path, recipe: str, formats: Sequence[str]) -> dict[str, Path]:
    """Write the report files of a finished run into its folder."""
    from bench import report
    from bench.execute.features import FeatureBank
    from bench.report import curves
    from bench.report.results import load
    from bench.store.home import Home

    if "html" in formats:
        curves.write(folder, FeatureBank(Home(folder.parent.parent)).stored)
    return report.write(load(str(folder)), folder, recipe, tuple(formats))


def finish(result: RunResult, as_json: bool) -> None:
    """Print the summary table on stdout, and the rest on stderr."""
    from bench.report.results import load

    if as_json:
        emit_json(
            {
                "folder": result.folder,
                "planned": result.planned,
                "failed": result.failed,
                "interrupted": result.interrupted,
                "report": result.report,
            }
        )
    else:
        output.print(_table(load(str(result.folder))), soft_wrap=True)
    for line in result.failures[:10]:
        errors.print(f"! {line}", soft_wrap=True)
    if len(result.failures) > 10:
        errors.print(f"  and {len(result.failures) - 10} more kinds of failure; see {result.folder}")
    done = result.planned - result.failed
    errors.print(f"{done} of {result.planned} clips made. Run folder: {result.folder}", soft_wrap=True)
    # The page last: it is what people open.
    for kind, path in sorted(result.report.items(), key=lambda item: item[0] == "html"):
        errors.print(f"  {kind}: {path}", soft_wrap=True)
    if result.interrupted:
        errors.print(f"Interrupted. Resume with: {command_line()}", soft_wrap=True)


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
