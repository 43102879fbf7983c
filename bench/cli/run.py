"""`bench run`: generate, score, report."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import options


def run(
    split: options.SplitName = "synthetic",
    subset: options.Subset = None,
    methods: options.Methods = None,
    settings: options.Settings = None,
    controls: options.Controls = None,
    gates: options.Gates = None,
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    clips: options.Clips = "canonical",
    fit: options.Fit = "",
    seed: options.Seed = 0,
    repeats: options.Repeats = 1,
    executor: options.Executor = "auto",
    ray_address: options.RayAddress = None,
    workers: options.Workers = None,
    metric_gpus: options.MetricGpus = None,
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
    sandbox: options.Sandbox = None,
    home: options.Home = None,
    weights: options.Weights = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the table.")] = False,
    json: options.Json = False,
) -> int:
    """Generate clips with every method under every gate, score them, and print the table.

    Finished work is never redone: the same command again resumes, or prints the table at once.
    """
    from bench.cli.display import RunProgress, StepProgress, errors
    from bench.cli.finish import finish
    from bench.core.options import parse
    from bench.metrics.precision import cpu_note
    from bench.run import session
    from bench.run.drive import Execution, command_line

    if note := cpu_note(precision):
        errors.print(f"! {note}", soft_wrap=True)
    done = session.run(
        split,
        options.names(methods),
        options.names(metrics),
        settings=parse(settings or ()),
        gates=options.gates(controls, gates),
        subset=subset,
        precision=precision,
        clips=clips,
        fit=fit,
        seed=seed,
        repeats=repeats,
        job_limit=job_limit,
        how=Execution(executor, ray_address, workers, weights, fresh, retry, metric_gpus),
        name=name,
        recipe=recipe,
        formats=options.names(formats) or [],
        home=home,
        command=command_line(),
        progress=None if quiet else RunProgress(),
        step=None if quiet else StepProgress("split"),
        say=lambda line: errors.print(f"! {line}", soft_wrap=True),
    )
    return finish(done, json, max_failures)
