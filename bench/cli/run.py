"""`bench run`: generate, score, report."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import options
from bench.errors import ExitCode


def run(
    split: options.SplitName = "synthetic",
    subset: options.Subset = None,
    methods: options.Methods = None,
    gates: options.Gates = None,
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    seed: options.Seed = 0,
    repeats: options.Repeats = 1,
    executor: Annotated[
        str, typer.Option("--executor", help="ray, inline, or auto (inline for a handful of jobs).")
    ] = "auto",
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="Use this running Ray cluster, e.g. auto or host:6379.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=1, help="CPUs to use on this machine (default: all).")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Name of the run folder (default: split and plan digest).")
    ] = "",
    recipe: Annotated[
        str, typer.Option("--recipe", help="Which tables the report files have; see docs/reports.md.")
    ] = "full",
    formats: Annotated[str, typer.Option("--format", help="Report files to write.")] = "md,csv,html,latex",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make every clip again, also those that are finished.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Do jobs again whose result was an error.")] = False,
    max_failures: Annotated[
        int, typer.Option("--max-failures", min=0, help="Exit with 1 when more clips than this failed.")
    ] = 0,
    job_limit: options.Limit = 3600.0,
    home: options.Home = None,
    weights: options.Weights = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the table.")] = False,
    json: options.Json = False,
) -> int:
    """Generate clips with every method under every gate, score them, and print the table.

    Finished work is never redone: the same command again resumes, or prints the table at once.
    """
    from bench.cli.display import RunProgress
    from bench.cli.finish import finish, write_report
    from bench.cli.setup import prepare_run
    from bench.errors import UsageError
    from bench.run import Execution, command_line, execute
    from bench.store.home import Home

    if executor not in ("auto", "ray", "inline"):
        raise UsageError(f"There is no executor called '{executor}'.", "Known: auto, ray, inline")
    store = Home(home)
    if weights is not None:
        from bench.weights import use_folder

        use_folder(weights)
    prepared = prepare_run(store, split, subset, methods, gates, metrics, precision, seed, repeats, job_limit)
    result = execute(
        prepared.plan,
        prepared.metrics,
        store,
        Execution(executor, ray_address, workers, weights, fresh, retry),  # type: ignore[arg-type]
        name=name,
        command=command_line(),
        progress=None if quiet else RunProgress(),
        report=lambda folder: write_report(folder, recipe, options.names(formats) or []),
    )
    finish(result, json)
    if result.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILURES if result.failed > max_failures else ExitCode.OK
