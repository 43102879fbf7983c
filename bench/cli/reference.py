"""`bench reference`: keep the scores of a run for the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Home
from bench.cli.verb import say, verb

app = typer.Typer(name="reference", help="Keep or show the scores the gate compares with.", no_args_is_help=True)


@app.command()
@verb
def save(
    name: Annotated[str, typer.Argument(help="How to call it: letters, digits, '.', '_', '-'.")],
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="Run by name or path.")] = "latest",
    rerun: Annotated[
        str | None, typer.Option(help="A run of the same commit and seeds: gives the determinism floor.")
    ] = None,
    into: Annotated[Path, typer.Option(help="Folder of references.")] = Path("reports/reference"),
    home: Home = None,
) -> None:
    """Write scores, digests and noise floors (no media) into reports/reference/NAME and print the folder."""
    from bench.results import reference
    from bench.results.runs import load

    again = load(rerun, home) if rerun else None
    say(str(reference.save(load(run, home), name, again, into)))


@app.command()
@verb
def show(
    name: Annotated[str | None, typer.Argument(help="A reference; without one, all are listed.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of the table.")] = "summary",
) -> None:
    """Print what a reference holds: where it came from, its table and its noise floors."""
    from shutil import get_terminal_size

    from bench.report import changes, text_table
    from bench.results.reference import load_reference
    from bench.results.runs import reference_folders

    if name is None:
        for known, folder in sorted(reference_folders().items()):
            say(f"{known}\t{folder}")
        return
    results, noise = load_reference(name)
    about = {k: results.provenance.get(k) for k in ("command", "version", "commit", "created")}
    say("\n".join(f"{k}: {v}" for k, v in about.items() if v) + "\n")
    say(text_table(results, recipe, get_terminal_size((120, 40)).columns))
    say(changes.noise_text(results, noise), nl=False)


app.command("save")(verb(save))
app.command("show")(verb(show))
