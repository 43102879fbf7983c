"""`bench compare`: what changed between two runs."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import Home
from bench.cli.verb import say


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Run, reference or folder to compare with.")],
    second: Annotated[
        str | None, typer.Argument(metavar="B", help="Run, reference or folder to look at (default: latest).")
    ] = None,
    metrics: Annotated[str, typer.Option(help="Protocol patterns, comma-separated, e.g. 'sync/*,fid/*'.")] = "*",
    methods: Annotated[
        str,
        typer.Option(
            help="Method patterns, comma-separated. Two names without B: these two within the run, the second"
            " against the first; name:gate sets one control signal against another."
        ),
    ] = "*",
    worst: Annotated[int, typer.Option(min=0, help="How many of the largest losses to list.")] = 10,
    everything: Annotated[bool, typer.Option("--all", help="List what did not change, too.")] = False,
    format: Annotated[str, typer.Option(help="text, md or json.")] = "text",
    home: Home = None,
) -> None:
    """Print paired differences with intervals, and the samples that lost most with both clips' paths.

    Two runs: `bench compare before after`. Two methods of one run: `bench compare latest --methods A,B`.
    """
    from bench.core.declaration import matches, one_of
    from bench.core.errors import UsageError
    from bench.report import changes
    from bench.results import compare as comparison
    from bench.results.runs import load

    one_of(format, ("text", "md", "json"), "--format")
    wanted, who = metrics.split(","), methods.split(",")
    a = load(first, home)
    if second is None and len(who) == 2 and "*" not in methods:
        a, b = comparison.methods_of_one(a, *who)
        who = ["*"]
    else:
        b = load(second or "latest", home)
    found = comparison.compare(
        a, b, keep=lambda cell: matches(cell.protocol, wanted) and matches(cell.method, who)
    )
    if not found:
        raise UsageError(
            f"Nothing in {a.name} or {b.name} matches --metrics {metrics} and --methods {methods}.",
            f"Measured: {', '.join(sorted(set(a.rows['protocol']) | set(b.rows['protocol'])))}.",
        )
    names = (a.name, b.name)
    if format == "json":
        say(changes.compare_json(found, names), nl=False)
    elif format == "md":
        say(changes.compare_markdown(found, names, worst, everything), nl=False)
    else:
        say(changes.compare_text(found, names, worst, everything), nl=False)
