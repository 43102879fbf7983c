"""`bench run`: generate, score, report."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import options


def run(
    split: options.SplitName = "synthetic",
    subset: options.Subset = None,
    methods: options.Methods = None,
    gates: options.Gates = None,
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    seed: options.Seed = 0,
    repeats: options.Repeats = 1,
    executor: options.Executor = "auto",
    ray_address: options.RayAddress = None,
    workers: options.Workers = None,
    name: Annotated[
        str, typer.Option("--name", help="Name of the run folder (default: split and plan digest).")
    ] = "",
    recipe: options.Recipe = "full",
    formats: options.Formats = "md,csv,html,latex",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make every clip again, also those that are finished.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Do jobs again whose result was an error.")] = False,
    max_failures: options.MaxFailures = 0,
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
    from bench.cli.finish import finish, reporter
    from bench.cli.setup import prepare_run
    from bench.run.drive import Execution, command_line, execute
    from bench.store.home import Home

    how = Execution(executor, ray_address, workers, weights, fresh, retry)
    report = reporter(recipe, options.names(formats) or [])
    store = Home(home)
    if weights is not None:
        from bench.weights import use_folder

        use_folder(weights)
    prepared = prepare_run(
        store, split, subset, methods, gates, metrics, precision, seed, repeats, job_limit, quiet=quiet
    )
    result = execute(
        prepared.plan,
        prepared.metrics,
        store,
        how,
        name=name,
        command=command_line(),
        progress=None if quiet else RunProgress(),
        report=report,
    )
    return finish(result, json, max_failures)
