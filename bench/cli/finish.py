"""What a run or a scoring prints at its end: the table, what failed, and where the files are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.cli.display import emit_json, errors, output
from bench.core.errors import ExitCode, UsageError
from bench.core.printable import printable
from bench.data.folder import few
from bench.data.splits import FOLDER, VIDEOS
from bench.run.drive import command_line

if TYPE_CHECKING:
    from bench.results.runs import Results
    from bench.run.session import Run


def finish(run: Run, as_json: bool, max_failures: int) -> ExitCode:
    """Print the summary table on stdout and the rest on stderr; return the exit code."""
    result = run.outcome
    assert result is not None, "it was just made"
    if as_json:
        emit_json(
            {
                "folder": result.folder,
                "planned": result.planned,
                "made": result.made,
                "failed": result.failed,
                "not_used": [dict(item) for item in run.results.provenance.get("rejected", ())],
                "interrupted": result.interrupted,
                "report": result.report,
                "scores": _scores(run.results),
            }
        )
    elif not run.rows.empty and (not result.interrupted or (run.rows["status"] == "ok").any()):
        output.print(_table(run.results), soft_wrap=True)
    for line in result.failures[:10]:
        errors.print(f"! {line}", soft_wrap=True)
    if len(result.failures) > 10:
        errors.print(f"  and {len(result.failures) - 10} more kinds of failure; see {result.folder}")
    said = f"{result.made} of {result.planned} clips made{_not_used(run.results)}. Run folder: {result.folder}"
    errors.print(said, soft_wrap=True)
    # The page last: it is what people open.
    for kind, path in sorted(result.report.items(), key=lambda item: item[0] == "html"):
        errors.print(f"  {kind}: {path}", soft_wrap=True)
    if result.interrupted:
        errors.print(f"Interrupted. Resume with: {command_line()}", soft_wrap=True)
        return ExitCode.INTERRUPTED
    return ExitCode.FAILURES if result.failed > max_failures else ExitCode.OK


def _not_used(results: Results) -> str:
    """Say beside the count which files of the split could not be used."""
    rejected = [str(item["item"]) for item in results.provenance.get("rejected", ())]
    if not rejected:
        return ""
    whole = len(rejected) + int(results.provenance.get("samples", 0))
    kind = "files" if str(results.provenance.get("split", "")).startswith((FOLDER, VIDEOS)) else "clips"
    names = printable(few(rejected, 4))
    return f"; {len(rejected)} of {whole} {kind} not used: {names} (bench show run {results.name} says why)"


def _scores(results: Results) -> list[dict[str, Any]]:
    """Return one entry per cell of the full tables: what it is about, value, interval, counts."""
    from bench import report
    from bench.report import csv

    try:
        tables = report.build_tables(results, "full", published=False)
    except UsageError:
        return []
    return [dict(zip(csv.FIELDS, record, strict=True)) for record in csv.records(tables)]


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
