"""The `bench` command: one module per verb, nothing heavy imported at start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from bench.cli import (
    cache,
    compare,
    doctor,
    gate,
    listing,
    new,
    plan,
    prepare,
    reference,
    rehearse,
    report,
    run,
    score,
    sensitivity,
    show,
    status,
    verify_metrics,
    vote,
)
from bench.cli.verb import verb
from bench.core import numerics

numerics.pin()

app = typer.Typer(
    name="bench",
    help="""Benchmark talking-head video generation: generate, score, and print tables you can trust.

    Begin with `bench run`: the whole job on an embedded synthetic split, in minutes, without downloads.

    On your own videos: `bench run --split folder:DIR`, or `bench score DIR` if a method has made them.""",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS: dict[str, Callable[..., int | None]] = {
    "run": run.run,
    "plan": plan.plan,
    "score": score.score,
    "report": report.report,
    "sensitivity": sensitivity.sensitivity,
    "compare": compare.compare,
    "gate": gate.gate,
    "list": listing.list_things,
    "show": show.show,
    "status": status.status,
    "prepare": prepare.prepare,
    "rehearse": rehearse.rehearse,
    "verify-metrics": verify_metrics.verify_metrics,
    "doctor": doctor.doctor,
}


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from bench import __version__

        typer.echo(f"bench {__version__}")
        raise typer.Exit


for _name, _function in _VERBS.items():
    app.command(_name)(verb(_function))
app.add_typer(new.app, name="new")
app.add_typer(reference.app, name="reference")
app.add_typer(vote.app, name="vote")
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Run the command line and exit with one of `bench.core.errors.ExitCode`."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    try:
        app(list(arguments), prog_name="bench")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0
