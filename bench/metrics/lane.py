"""The arithmetic networks run in: float32, or bfloat16 on request.

`BENCH_PRECISION=bf16` (`--precision bf16`) makes protocols and features of their own, with `+bf16` behind
their names, so that the two never share a row or a stored feature.
"""

from __future__ import annotations

import os

from bench.errors import UsageError


def lane() -> str:
    """Return the suffix of protocol ids and feature names: empty for float32, or `+bf16`.

    Raises:
        UsageError: `$BENCH_PRECISION` is something else.
    """
    precision = os.environ.get("BENCH_PRECISION", "")
    if precision in ("", "fp32"):
        return ""
    if precision == "bf16":
        return "+bf16"
    raise UsageError(f"Unknown precision '{precision}'.", "Use --precision fp32 or bf16.")
