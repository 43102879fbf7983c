"""`bench prepare`: get what metrics, methods and splits need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.core.errors import ExitCode


def prepare(
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Fetch weights of these protocols or families, or `all`.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Build the environments of these outside systems.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", "-s", help="Prepare this data set.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder with what the data set's owners publish.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option("--subset", help="Prepare this list of the data set, e.g. ci (default: test).")
    ] = None,
    checkout: Annotated[
        Path | None, typer.Option("--checkout", help="Use this repository of the system as it is.")
    ] = None,
    python: Annotated[
        Path | None, typer.Option("--python", help="Use this interpreter for the system as it is.")
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--env", help="Make the system's environment with venv, conda or docker (default: as declared)."
        ),
    ] = None,
    accept_licences: Annotated[
        bool, typer.Option("--accept-licences", help="Accept the terms that were printed.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing; only verify.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be done for --methods, and under which licences."),
    ] = False,
    workers: Annotated[int, typer.Option("--workers", "-j", min=1, help="Clips prepared at a time.")] = 1,
    sandbox: options.Sandbox = None,
    home: options.Home = None,
    weights: options.Weights = None,
) -> int:
    """Fetch and verify weights, build environments of outside systems, or prepare a data set.

    Everything can be repeated: what is there and right is kept, what broke off goes on.
    """
    from bench.core.errors import UsageError
    from bench.store.home import Home

    if metrics is None and methods is None and split is None:
        raise UsageError(
            "Nothing to prepare.",
            "Say what: --metrics all, --methods NAME, or --split NAME. See: bench list weights",
        )
    if dry_run and (metrics is not None or split is not None):
        raise UsageError(
            "--dry-run is for --methods.", "Weights and data sets print their terms before a download."
        )
    store = Home(home).ready()
    if weights is not None:
        from bench.weights import use_folder

        use_folder(weights)
    code = ExitCode.OK
    if metrics is not None:
        code = max(code, _weights(options.names(metrics) or [], accept_licences, offline))
    if methods is not None:
        wanted = options.names(methods) or []
        code = max(code, _methods(wanted, store, checkout, python, environment, offline, dry_run))
    if split is not None:
        code = max(code, _split(split, source, store, accept_licences, workers, subset))
    return code


def _weights(metrics: list[str], accept: bool, offline: bool) -> ExitCode:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from bench.cli.display import errors, output
    from bench.core.errors import BenchError, UsageError
    from bench.weights import entry, fetch, needed

    names = needed(metrics)
    if not names:
        raise UsageError(f"No weights are needed by {', '.join(metrics)}.", "See: bench list weights")
    failed = 0
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=errors
    ) as progress:
        bars: dict[str, int] = {}

        def advance(file: str, done: int, total: int | None) -> None:
            if file not in bars:
                bars[file] = progress.add_task(file, total=total)
            progress.update(bars[file], completed=done, total=total)  # type: ignore[arg-type]

        for name in names:
            try:
                path = fetch(name, accept_licence=accept, offline=offline, progress=advance)
            except BenchError as error:
                failed += 1
                errors.print(f"missing {name}: {error}", soft_wrap=True)
            else:
                output.print(f"ok {name}: {path} ({entry(name).licence})", soft_wrap=True)
    return ExitCode.MISSING if failed else ExitCode.OK


def _methods(
    names: list[str],
    home: object,
    checkout: Path | None,
    python: Path | None,
    environment: str | None,
    offline: bool,
    dry_run: bool,
) -> ExitCode:
    from bench.cli.display import errors, output
    from bench.core.errors import BenchError, UsageError
    from bench.store.home import Home
    from bench.systems.prepare import MANAGERS, prepare_method

    assert isinstance(home, Home)
    if environment is not None and environment not in MANAGERS:
        raise UsageError(f"There is no environment kind '{environment}'.", f"Known: {', '.join(MANAGERS)}")
    if len(names) > 1 and (checkout or python):
        raise UsageError("--checkout and --python belong to one system.", "Give one name with --methods.")
    code = ExitCode.OK
    for name in names:
        try:
            steps = prepare_method(name, home, checkout, python, environment, offline, dry_run)  # type: ignore[arg-type]
            for line in steps:
                output.print(line, soft_wrap=True)
        except BenchError as error:
            # The others may still succeed.
            code = max(code, error.exit_code)
            errors.print(f"not ready {error}", soft_wrap=True)
    return code


def _split(
    name: str, source: Path | None, home: object, accept: bool, workers: int, subset: str | None
) -> ExitCode:
    from bench.cli.display import StepProgress, output
    from bench.run.drawing import prepare as prepare_dataset
    from bench.store.home import Home

    assert isinstance(home, Home)
    account = prepare_dataset(name, source, home, accept, workers, StepProgress(name), subset)
    output.print(account.text(), soft_wrap=True)
    return ExitCode.OK if account.kept else ExitCode.FAILURES
