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


def ci(
    methods: Annotated[str, typer.Argument(help="What to keep an eye on, as for --methods, e.g. ./nod.py:Nod.")],
    folder: Annotated[Path, typer.Option("--dir", help="The repository.")] = Path(),
) -> None:
    """Write a workflow for GitHub Actions and first rules, for a repository that holds a method."""
    from bench.catalogue import find_method
    from bench.cli.display import output
    from bench.cli.options import names
    from bench.systems.scaffold import CI_RUN, scaffold_ci

    wanted = names(methods) or []
    for name in wanted:
        find_method(name)
    for path in scaffold_ci(wanted, folder):
        output.print(f"wrote {path}", soft_wrap=True)
    run = CI_RUN.format(methods=",".join(wanted))
    output.print("Then keep the scores of today, and how far unchanged code moves:", soft_wrap=True)
    for line in (
        f"{run} --name first",
        f"{run} --name second --fresh",
        "bench reference save mine first --rerun second",
        "git add .github gate.toml reports/reference/mine",
    ):
        output.print(f"  {line}", soft_wrap=True)
    output.print("and set the repository's variable BENCH_PACKAGE: where pip gets this package.", soft_wrap=True)


app.command("method")(verb(method))
app.command("ci")(verb(ci))


@app.callback()
def _group() -> None:
    """Write the skeleton of something new."""
