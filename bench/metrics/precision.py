"""The arithmetic networks run in: float32, or bfloat16 on request (`--precision bf16`).

Whatever is computed in bfloat16 is a protocol or feature of its own, with `+bf16` behind its name, so the two
never share a row or a stored feature, and a worker learns the precision from the name alone.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

from bench.core.spec import ExtractorSpec, MetricSpec


class Precision(StrEnum):
    """Arithmetic of metric networks."""

    FP32 = "fp32"
    BF16 = "bf16"

    @property
    def suffix(self) -> str:
        """What protocol ids and feature names end with: nothing for float32."""
        return "" if self is Precision.FP32 else f"+{self}"


def with_bf16(*kinds: type[Any]) -> tuple[type[Any], ...]:
    """Return metric or extractor classes and, after them, their variants in bfloat16.

    A class reads its `precision` when it loads its network; its spec is written for float32.
    """
    return (*kinds, *(_in_bf16(kind) for kind in kinds))


def _in_bf16(kind: type[Any]) -> type[Any]:
    def prepare(self: Any) -> None:
        kind.__init__(self)
        self.spec = _renamed(self.spec)

    members = {
        "__doc__": f"{kind.__doc__} In bfloat16.",
        "__init__": prepare,
        "__module__": kind.__module__,
        "precision": Precision.BF16,
    }
    return type(f"{kind.__name__}Bf16", (kind,), members)


def _renamed(spec: MetricSpec | ExtractorSpec) -> MetricSpec | ExtractorSpec:
    suffix = Precision.BF16.suffix
    params = {**spec.params, "precision": Precision.BF16.value}
    if isinstance(spec, ExtractorSpec):
        return replace(spec, name=spec.name + suffix, params=params)
    return replace(
        spec,
        id=spec.id + suffix,
        features=tuple(name + suffix for name in spec.features),
        params=params,
        default=False,
        summary=f"{spec.summary.removesuffix('.')}; networks in bfloat16.",
    )


def cpu_note(precision: Precision) -> str:
    """Return what to say of a precision before hours are spent in it on this CPU; empty when it costs nothing.

    Without units of its own for bfloat16 (avx512_bf16, amx_bf16) a processor takes a multiple of float32's time.
    """
    import time

    import torch

    if precision is Precision.FP32 or torch.cuda.is_available():
        return ""
    taken = []
    for kind in (torch.float32, torch.bfloat16):
        picture = torch.ones(1, 64, 64, 64, dtype=kind)
        kernel = torch.ones(64, 64, 3, 3, dtype=kind)
        rounds = []
        for _ in range(3):
            start = time.perf_counter()
            torch.nn.functional.conv2d(picture, kernel)
            rounds.append(time.perf_counter() - start)
        taken.append(min(rounds))
    factor = taken[1] / taken[0]
    if factor < 1.2:
        return ""
    return (
        f"bf16 is slow here: this CPU has no hardware for it; a convolution takes {factor:.1f} times as long as"
        " in fp32. It is meant for GPUs."
    )
