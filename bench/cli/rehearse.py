"""`bench rehearse`: an outside system's real program with stand-in weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options


def rehearse(
    name: Annotated[str, typer.Argument(help="The system, or the folder of its contract.")],
    checkout: Annotated[Path, typer.Option("--checkout", help="Its repository; a copy is used.")],
    python: Annotated[
        Path | None, typer.Option("--python", help="Use this interpreter as it is; nothing is installed into it.")
    ] = None,
    pinned: Annotated[
        bool,
        typer.Option("--pinned", help="Build the authors' environment even if the contract names another."),
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Do not repeat a gate to see what the seed does.")] = False,
    sandbox: options.Sandbox = None,
    home: options.Home = None,
) -> int:
    """Run an outside system's own program with stand-in weights, and compare it with its contract.

    No weights are needed: networks are made from the repository's own classes with random parameters. The record
    is written beside the contract. The system can then be run, with noise for a result, from the home that is
    printed.
    """
    from bench.cli.display import errors, output
    from bench.core.errors import ExitCode
    from bench.store.home import Home
    from bench.systems.contract import find
    from bench.systems.record import sentence
    from bench.systems.rehearsal import Rehearsal

    rehearsal = Rehearsal(find(name), Home(home).ready())
    for line in rehearsal.run(checkout, python, pinned, once):
        errors.print(line, soft_wrap=True, markup=False)
    record = rehearsal.record
    assert record is not None
    for gate, found in record.gates.items():
        output.print(
            f"{gate}: {found.frames} frames {found.size} at {found.fps:g} fps, sound: {found.sound}, "
            f"{found.seconds:g} s, {found.memory_mb} MB",
            soft_wrap=True,
        )
    if record.seed:
        output.print(f"seed: {record.seed}")
    for what, texts in (("network", record.network), ("absent", record.absent), ("warning", record.warnings)):
        for text in texts:
            output.print(f"{what}: {text}", soft_wrap=True, markup=False)
    for text in record.differences:
        output.print(f"differs: {text}", soft_wrap=True, markup=False)
    output.print(f"{rehearsal.contract.name} {sentence(rehearsal.contract)}", soft_wrap=True, markup=False)
    output.print(
        f"With its stand-in weights: bench run --home {rehearsal.home.path} --methods {name}", soft_wrap=True
    )
    return ExitCode.OK if record.verified else ExitCode.FAILURES
