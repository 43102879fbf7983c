"""The full-size UNet on a CUDA device: equal to the CPU, and its time and memory.

One command measures what needs a GPU: `python -m pytest -m gpu -s tests/gpu`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SCRIPTS = Path(__file__).parents[1] / "performance"
AUTHORS_PEAK = 22e9 / 2**30
"""GiB the authors state for 576x576 with one gate open."""


@pytest.mark.parametrize("options", [(), ("--compile",), ("--dtype", "bfloat16")], ids=" ".join)
def test_full_size_call(options):
    """Prints time and peak memory of a guided call, straightforward and ours; only memory has a limit here."""
    output = _run("actalker_unet.py", "--repeats", "3", *options)
    lines = [line for line in output.splitlines() if "TFLOP" in line]
    assert len(lines) == 3
    for line in lines:
        peak = re.search(r"peak GiB [\d.]+ -> ([\d.]+)", line)
        difference = re.search(r"difference ([\d.e+-]+)", line)
        assert peak and difference
        assert float(peak[1]) < AUTHORS_PEAK, line
        # Both round at every operation, in another order.
        assert float(difference[1]) < 0.05, line


def test_scan_speed():
    """Prints the time of every backend, and of mamba-ssm's kernel alone where it is installed."""
    assert "triton" in _run("actalker_scan.py")


def _run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), "--device", "cuda", *options], capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@torch.no_grad()
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_cuda_equals_cpu(compiled):
    from actalker.attention import Context
    from actalker.unet import ACTalkerUNet, UNetConfig

    torch.manual_seed(0)
    config = UNetConfig(channels=(32, 64), heads=(1, 2), attention=(True, True), layers=1, condition=24)
    unet = ACTalkerUNet(config).eval()
    sample, ids = torch.randn(2, 3, 8, 16, 16), torch.tensor([[12.5, 12, 20]])
    tokens = torch.randn(2, 1, 1, 24), torch.randn(2, 3, 4, 24), torch.randn(2, 3, 1, 24)
    expected = unet(sample, 0.3, Context(*tokens), time_ids=ids)
    if compiled:
        unet.compile_blocks()
    got = unet.cuda()(sample.cuda(), 0.3, Context(*(t.cuda() for t in tokens)), time_ids=ids.cuda())
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-3)
