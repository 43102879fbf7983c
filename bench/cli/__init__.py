"""The `bench` command: one module per verb, nothing heavy imported at start."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import typer

from bench.cli import cache, doctor, listing, plan, prepare, run, score, show, status
from bench.errors import BenchError, ExitCode
from bench.registry import UnknownName

app = typer.Typer(
    name="bench",
    help="Benchmark talking-head video generation: generate, score, and print tables you can trust.",
    epilog="`bench run` with no arguments does the whole job on an embedded synthetic split, in minutes.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("score")(score.score)
app.command("list")(listing.list_things)
app.command("show")(show.show)
app.command("status")(status.status)
app.command("prepare")(prepare.prepare)
app.command("doctor")(doctor.doctor)
app.add_typer(cache.app, name="cache")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of `bench.errors.ExitCode`."""
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; expected errors become one paragraph on stderr."""
    try:
        result = app(list(arguments), prog_name="bench", standalone_mode=False)
        return int(result) if isinstance(result, int) else ExitCode.OK
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except UnknownName as error:
        _complain(str(error), error.hint)
        return ExitCode.USAGE
    except BenchError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("Interrupted. Finished results are kept.", "Run the same command again to resume.")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) went away: not an error.
        sys.stderr.close()
        return ExitCode.OK


def _complain(message: str, hint: str) -> None:
    print(f"bench: {message}", file=sys.stderr)
    if hint:
        print(f"       {hint}", file=sys.stderr)
