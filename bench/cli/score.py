"""`bench score`: numbers for videos made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options


def score(
    folder: Annotated[Path, typer.Argument(help="Folder of videos.")],
    split: Annotated[
        str | None,
        typer.Option(
            "--split", "-s", help="What they are compared with; without it only no-reference metrics run."
        ),
    ] = None,
    subset: options.Subset = None,
    name: Annotated[str, typer.Option("--as", help="Row name (default: the folder's name).")] = "",
    pattern: Annotated[
        str, typer.Option("--pattern", help="File name of a sample's video; {id} stands for the sample.")
    ] = "{id}.mp4",
    gate: Annotated[str, typer.Option("--gate", help="Which signals the maker used.")] = "audio+visual",
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    fit: options.Fit = "",
    sound: Annotated[
        str,
        typer.Option(
            "--sound", help="What videos are heard with: their own sound, or the sample's driving sound."
        ),
    ] = "own",
    recipe: options.Recipe = "full",
    formats: options.Formats = "md,csv,html,latex",
    executor: options.Executor = "auto",
    ray_address: options.RayAddress = None,
    workers: options.Workers = None,
    metric_gpus: options.MetricGpus = None,
    max_failures: options.MaxFailures = 0,
    sandbox: options.Sandbox = None,
    home: options.Home = None,
    weights: options.Weights = None,
    json: options.Json = False,
) -> int:
    """Score a folder of videos from anywhere.

    With --split every file is matched to a sample by --pattern; files without a sample, samples without a
    file and unreadable files are listed and counted. Without it every video is scored on its own.
    """
    from bench.cli.display import RunProgress, StepProgress, errors
    from bench.cli.finish import finish
    from bench.metrics.precision import cpu_note
    from bench.run import session
    from bench.run.drive import Execution, command_line

    if note := cpu_note(precision):
        errors.print(f"! {note}", soft_wrap=True)
    done = session.score(
        folder,
        split,
        options.names(metrics),
        name=name,
        pattern=pattern,
        gate=gate,
        subset=subset,
        precision=precision,
        fit=fit,
        sound=sound,
        how=Execution(executor, ray_address, workers, weights, metric_gpus=metric_gpus),
        recipe=recipe,
        formats=options.names(formats) or [],
        home=home,
        command=command_line(),
        progress=RunProgress(),
        step=StepProgress("split"),
        say=lambda line: errors.print(f"! {line}", soft_wrap=True),
    )
    return finish(done, json, max_failures)
