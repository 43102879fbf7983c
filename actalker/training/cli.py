"""The `start`, `train` and `export` verbs of `python -m actalker`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from actalker.reading import shown

_CONFIG = typer.Option(help="TOML file that describes the run; see `bench show doc training`.")


def train(
    config: Annotated[Path, _CONFIG],
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of every random number, instead of the file's.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=0, help="Stop, resumably, after this step of the whole run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print parameters, memory per worker and steps per epoch, and stop.")
    ] = False,
) -> None:
    """Train a model, or continue a run that was interrupted."""
    from actalker.training.command import describe
    from actalker.training.command import train as run
    from actalker.training.config import load_config
    from actalker.training.data import Manifest

    settings = load_config(config)
    if seed is not None:
        settings = replace(settings, run=replace(settings.run, seed=seed))
    if max_steps is not None:
        settings = replace(settings, run=replace(settings.run, max_steps=max_steps))
    if dry_run:
        clips = len(Manifest(settings.data.train)) * settings.data.variants
        typer.echo("\n".join(describe(settings, clips, max(1, settings.run.workers))))
        return
    folder = run(settings)
    first = os.environ.get("RANK", "0") == "0"  # of the processes torchrun started
    if first and folder.is_dir():  # not after a stop before the first checkpoint
        typer.echo(shown(str(folder)))


def export(
    config: Annotated[Path, _CONFIG],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    step: Annotated[int | None, typer.Option(help="Checkpoint to take; default the last one.")] = None,
) -> None:
    """Store the model of a run's checkpoint for `generate`."""
    from actalker.training.command import export as store
    from actalker.training.config import load_config

    made = store(load_config(config), out, step)
    typer.echo(shown(f"{out}: the model after step {made}"))


def start(
    videos: Annotated[Path, typer.Option(help="Folder of talking clips with sound.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    model: Annotated[
        Path | None, typer.Option(help="Model folder to start from; default a toy with random weights.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.04, help="How much of each clip to use; default all.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 200,
) -> None:
    """Make a run from a folder of videos: manifest, configuration and, without a model, a toy to train."""
    from actalker.training.start import start as make

    made = make(videos, out, model, seconds, steps, lambda message: typer.echo(shown(message), err=True))
    typer.echo(shown(str(made)))
