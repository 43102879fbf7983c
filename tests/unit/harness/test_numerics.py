"""The same numbers whatever the machine's load, the executor or the caller's shell say about threads."""

from __future__ import annotations

import os
import subprocess
import sys

PRODUCT = """
from bench.core import numerics
numerics.pin()
import hashlib, os, torch
generator = torch.Generator().manual_seed(0)
left, right = (torch.randn(3, 401, 403, generator=generator) for _ in range(2))
digest = hashlib.sha256((left.mT @ right).sum(0).numpy().tobytes()).hexdigest()
print(torch.get_num_threads(), os.environ["MKL_CBWR"], digest)
"""


def product(**shell: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT], env=os.environ | shell, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_callers_shell_does_not_decide() -> None:
    first = product(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", MKL_CBWR="")
    assert first[:2] == ["1", "AUTO,STRICT"]
    assert product(OMP_NUM_THREADS="2", MKL_NUM_THREADS="2", MKL_CBWR="COMPATIBLE") == first


def test_a_method_computes_with_the_threads_it_declares() -> None:
    import torch

    from bench.core import numerics

    numerics.pin()
    assert torch.get_num_threads() == 1
    with numerics.threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
