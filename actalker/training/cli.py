"""The `train` verb of `python -m actalker`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Option(help="TOML file that describes the run; see docs/training.md.")],
) -> None:
    """Train a model, or continue a run that was interrupted."""
    from actalker.training.command import train as run
    from actalker.training.config import load_config

    folder = run(load_config(config))
    if folder.is_dir():  # not after a stop by `max_minutes`
        typer.echo(folder)
