"""The fused kernels without a GPU: compiled for CUDA, and their arithmetic run by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the triton package is not installed")


def test_arithmetic_in_the_interpreter():
    script = Path(__file__).with_name("triton_in_interpreter.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    """The forward kernel also keeps a channel in a lane: no exchange between lanes, no barrier."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from actalker import scan_triton

    constants = {
        "STATE": 16, "PADDED": 16, "CHANNELS": 32, "CHUNK": 64,
        "REVERSE": True, "SOFTPLUS": True, "KEEP_BORDERS": False,
    }  # fmt: skip
    half = {"u_ptr", "delta_ptr", "b_ptr", "c_ptr", "y_ptr", "gy_ptr", "gu_ptr", "gdelta_ptr"}

    def signature(name: str) -> str:
        if name in constants:
            return "constexpr"
        if not name.endswith("_ptr"):
            return "i32"
        return "*fp16" if name in half else "*fp32"

    for kernel in (scan_triton._forward_kernel, scan_triton._backward_kernel):
        names = kernel.arg_names
        source = ASTSource(
            fn=kernel,
            signature={name: signature(name) for name in names},
            constexprs={name: value for name, value in constants.items() if name in names},
        )
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 1})
        assert "st.local" not in made.asm["ptx"]
        if kernel is scan_triton._forward_kernel:
            assert "shfl" not in made.asm["ptx"] and "bar." not in made.asm["ptx"]
