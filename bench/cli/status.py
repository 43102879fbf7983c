"""`bench status`: how far a run is, what failed, and how to go on."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from bench.cli import options


def status(
    run: Annotated[str, typer.Argument(help="Run name or folder; the newest when left out.")] = "latest",
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show a run's numbers by status, its failures by cause, and the command that resumes it."""
    from bench.cli.display import emit_json, output, table
    from bench.results.runs import load

    results = load(run, home)
    rows = results.rows
    counts: Counter[str] = Counter()
    cells: dict[tuple[str, str], Counter[str]] = {}
    problems: Counter[tuple[str, str]] = Counter()
    sizes = rows.groupby(["method", "gate", "status", "reason"], sort=False).size().reset_index(name="size")
    for method, gate, state, reason, size in sizes.itertuples(index=False, name=None):
        counts[state] += size
        cells.setdefault((method, gate), Counter())[state] += size
        if state != "ok":
            problems[state, reason] += size
    if json:
        emit_json(
            {
                "command": results.provenance["command"],
                "counts": counts,
                "cells": [{"method": m, "gate": g, **states} for (m, g), states in cells.items()],
                "problems": [{"status": s, "reason": r, "numbers": n} for (s, r), n in problems.items()],
            }
        )
        return
    known = [s for s in ("ok", "unscored", "error") if counts[s]]
    table(
        ("method", "gate", *known),
        [(m, g, *(str(states[s]) for s in known)) for (m, g), states in cells.items()],
        title=f"{results.provenance['split']}: {counts['ok']} of {len(rows)} numbers",
    )
    for (state, reason), count in sorted(problems.items()):
        output.print(f"  {state} ({reason}): {count}")
    output.print(f"Same again, or resume: {results.provenance['command']}", soft_wrap=True)
