"""The full-size UNet on a CUDA device: equal to the straightforward path, and faster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_full_size_call_runs_and_prints_its_speed():
    """Runs the benchmark script; its lines are shown with `pytest -s`."""
    script = Path(__file__).parents[1] / "performance" / "actalker_unet.py"
    done = subprocess.run(
        [sys.executable, str(script), "--device", "cuda", "--repeats", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    assert done.stdout.count("TFLOP") == 3


@torch.no_grad()
def test_cuda_equals_cpu(tmp_path):
    from actalker.attention import Context
    from actalker.unet import ACTalkerUNet, UNetConfig

    torch.manual_seed(0)
    config = UNetConfig(channels=(32, 64), heads=(1, 2), attention=(True, True), layers=1, condition=24)
    unet = ACTalkerUNet(config).eval()
    sample, ids = torch.randn(2, 3, 8, 16, 16), torch.tensor([[12.5, 12, 20]])
    tokens = torch.randn(2, 1, 1, 24), torch.randn(2, 3, 4, 24), torch.randn(2, 3, 1, 24)
    expected = unet(sample, 0.3, Context(*tokens), time_ids=ids)
    got = unet.cuda()(sample.cuda(), 0.3, Context(*(t.cuda() for t in tokens)), time_ids=ids.cuda())
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-3)
