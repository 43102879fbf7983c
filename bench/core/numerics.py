"""Pinning what decides the last bits of a number, in every process that computes.

One thread per process: a sum split over two threads is added in another order. Work is spread over processes
instead, so nothing is lost where there are several jobs. MKL in its reproducibility mode: otherwise its kernel,
and so the rounding, follows the address at which a matrix happens to lie (Intel oneMKL Developer Guide, "Obtaining
Numerically Reproducible Results"). oneDNN in full precision, whatever the user's shell allows.

What stays open is the machine: a processor with other vector instructions rounds otherwise (docs/metrics.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

ENVIRONMENT = MappingProxyType(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_DYNAMIC": "FALSE",
        "MKL_CBWR": "AUTO,STRICT",
        "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    }
)
"""Read by the libraries when they are loaded, so they must be set before numpy and torch are imported."""


def pin() -> None:
    """Pin this process and those it starts. Early is better: OpenBLAS looks only once, MKL at its first use."""
    os.environ.update(ENVIRONMENT)
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with as many threads as a method declares, the same on every executor and machine.

    Args:
        count: at least 1.
    """
    if count == 1:
        yield
        return
    import torch

    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)
