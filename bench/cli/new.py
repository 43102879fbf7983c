"""`bench new`: skeletons to start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.verb import verb

app = typer.Typer(help="Write the skeleton of something new.", no_args_is_help=True)


class Kind(StrEnum):
    """What a method is made of."""

    PYTHON = "python"
    CONTRACT = "contract"


def method(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and '-'.")],
    kind: Annotated[
        Kind,
        typer.Option("--kind", help="python: a class of yours; contract: an outside system."),
    ] = Kind.PYTHON,
    folder: Annotated[Path, typer.Option("--dir", help="Where to write it.")] = Path(),
) -> None:
    """Write a method and its test; nothing in the harness has to change for it."""
    from bench.cli.display import output
    from bench.systems.scaffold import class_name, scaffold_contract, scaffold_python

    if kind is Kind.PYTHON:
        files = scaffold_python(name, folder)
        next_step = f"bench run --split synthetic-ci --methods {files[0]}:{class_name(name)}"
    else:
        files = scaffold_contract(name, folder)
        next_step = f"bench plan --split synthetic-ci --methods {folder / name}"
    for path in files:
        output.print(f"wrote {path}", soft_wrap=True)
    output.print(f"Test it:  pytest {files[-1]}", soft_wrap=True)
    output.print(f"Then:     {next_step}", soft_wrap=True)


app.command("method")(verb(method))


@app.callback()
def _group() -> None:
    """Write the skeleton of something new."""
