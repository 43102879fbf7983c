"""`bench verify-metrics`: our numbers beside the packages they re-implement."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.core.errors import ExitCode

if TYPE_CHECKING:
    from bench.metrics.verify import VerifyRow


def verify_metrics(
    clips: Annotated[list[Path], typer.Argument(help="Videos to compare on.")],
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    weights: options.Weights = None,
    json: options.Json = False,
) -> int:
    """Run our metrics and the installed reference packages on the same frames with the same weights.

    Official weights are used where they are installed, otherwise one random state dict: the arithmetic must agree
    with any. Exit code 1 when a difference exceeds its tolerance. With --precision bf16 our bfloat16 networks are
    compared with our float32 ones instead.
    """
    import dataclasses

    from bench.cli.display import emit_json, errors, table
    from bench.metrics.deviation import deviations
    from bench.metrics.verify import verify
    from bench.weights import use_folder

    if weights is not None:
        use_folder(weights)
    compare = verify if precision is options.FP32 else deviations
    rows = compare(clips, options.names(metrics))
    if json:
        emit_json([{k: _or_null(v) for k, v in {**dataclasses.asdict(row), "ok": row.ok}.items()} for row in rows])
    else:
        table(
            ("metric", "ours", "reference", "difference", "allowed", "agree", "speed-up", "note"),
            [
                (
                    row.metric,
                    _number(row.ours),
                    _number(row.reference),
                    _number(row.difference, 2),
                    _number(row.tolerance, 2),
                    {True: "yes", False: "NO", None: ""}[row.ok],
                    _times(row.speedup),
                    row.note,
                )
                for row in rows
            ],
        )
        errors.print(_conclusion(rows), soft_wrap=True)
    return ExitCode.FAILURES if any(row.ok is False for row in rows) else ExitCode.OK


def _conclusion(rows: list[VerifyRow]) -> str:
    judged = [row for row in rows if row.ok is not None]
    measured = sum(math.isnan(row.tolerance) and not math.isnan(row.difference) for row in rows)
    absent = len(rows) - len(judged) - measured
    parts = []
    if judged:
        parts.append(f"{sum(row.ok is True for row in judged)} of {len(judged)} comparisons agree.")
    if measured:
        parts.append(f"{measured} deviations of bfloat16 from float32; whether they matter is for you to judge.")
    if absent:
        parts.append(f"{absent} had nothing to compare with; the note says what to install.")
    if any("random weights" in row.note for row in rows):
        parts.append("With random weights the arithmetic is compared; the numbers themselves mean nothing.")
    return " ".join(parts)


def _or_null(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, digits: int = 6) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def _times(ratio: float) -> str:
    if math.isnan(ratio):
        return ""
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:,.0f}x"
