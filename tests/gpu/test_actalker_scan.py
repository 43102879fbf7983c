"""The fused scans on a CUDA device, against the loop in float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from actalker.scan import available_backends, selective_scan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_triton_forward_and_backward():
    script = Path(__file__).parents[1] / "unit" / "actalker" / "triton_in_interpreter.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@torch.no_grad()
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_backend_at_the_models_size(dtype, reverse):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to("cuda", dtype)

    u, delta, B, C = draw(4, 1296, 640), draw(4, 1296, 640), draw(4, 1296, 16), draw(4, 1296, 16)
    A = -(torch.rand(640, 16, generator=generator) * 8 + 0.5).cuda()
    D, bias = torch.rand(640, device="cuda"), torch.rand(640, device="cuda") - 4
    wide = [t.double() for t in (u, delta, A, B, C, D)]
    expected = selective_scan(*wide, delta_bias=bias.double(), reverse=reverse, backend="blocked")
    resolution = max(torch.finfo(dtype).eps, 1e-5)
    for backend in available_backends("cuda"):
        if backend == "reference":
            continue
        y = selective_scan(u, delta, A, B, C, D, delta_bias=bias, reverse=reverse, backend=backend)
        assert y.dtype == dtype
        worst = ((y - expected).abs() / (1 + expected.abs())).max()
        assert worst < 2 * resolution, f"{backend}: {worst}"
