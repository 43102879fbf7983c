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
    from bench.report.results import load
    from bench.store.home import Home

    results = load(run, Home(home).path)
    rows = results.rows
    counts = Counter(rows["status"])
    by_cell = rows.groupby(["method", "gate"], sort=False)["status"].value_counts().unstack(fill_value=0)
    problems = rows[rows["status"] != "ok"].groupby(["status", "reason"], sort=True).size()
    if json:
        emit_json(
            {
                "command": results.provenance["command"],
                "counts": counts,
                "cells": [{"method": m, "gate": g, **row.to_dict()} for (m, g), row in by_cell.iterrows()],
                "problems": [{"status": s, "reason": r, "numbers": n} for (s, r), n in problems.items()],
            }
        )
        return
    states = [s for s in ("ok", "unscored", "error") if s in by_cell.columns]
    table(
        ("method", "gate", *states),
        [(m, g, *(str(row[s]) for s in states)) for (m, g), row in by_cell.iterrows()],
        title=f"{results.provenance['split']}: {counts['ok']} of {len(rows)} numbers",
    )
    for (state, reason), count in problems.items():
        output.print(f"  {state} ({reason}): {count}")
    output.print(f"Same again, or resume: {results.provenance['command']}", soft_wrap=True)
