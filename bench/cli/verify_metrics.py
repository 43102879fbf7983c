"""`bench verify-metrics`: our numbers beside the packages they re-implement."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.errors import ExitCode


def verify_metrics(
    clips: Annotated[list[Path], typer.Argument(help="Videos to compare on.")],
    metrics: options.Metrics = None,
    weights: options.Weights = None,
    json: options.Json = False,
) -> int:
    """Run our metrics and the installed reference packages on the same frames with the same weights.

    Official weights are used where they are installed, otherwise one random state dict: the arithmetic must agree
    with any. Exit code 1 when a difference exceeds its tolerance.
    """
    import dataclasses

    from bench.cli.display import emit_json, table
    from bench.metrics.verify import verify
    from bench.weights import use_folder

    if weights is not None:
        use_folder(weights)
    rows = verify(clips, options.names(metrics))
    if json:
        emit_json([dataclasses.asdict(row) for row in rows])
    else:
        table(
            ("metric", "ours", "reference", "difference", "tolerance", "speed-up", "note"),
            [
                (
                    row.metric,
                    _number(row.ours),
                    _number(row.reference),
                    _number(row.difference),
                    _number(row.tolerance),
                    "" if math.isnan(row.speedup) else f"{row.speedup:.1f}x",
                    row.note,
                )
                for row in rows
            ],
        )
    return ExitCode.FAILURES if any(row.ok is False for row in rows) else ExitCode.OK


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
