"""The fused kernels without a GPU: compiled for CUDA, and their arithmetic run by Triton's interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the triton package is not installed")

_ALIGNED = 16
"""Bytes, or a factor of an integer: what Triton specialises a kernel for."""


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


class Recorder:
    """Stands in for a kernel: keeps the arguments of its launch and computes nothing."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.arguments = kernel, {}

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, num_warps: int, **constants: Any) -> None:
            self.arguments = dict(zip(self.kernel.arg_names, args, strict=False)) | constants

        return launch


@pytest.fixture(scope="module")
def launches():
    """Both kernels with the arguments the full model's finest level gives them, in half precision."""
    from actalker import scan_triton
    from actalker.control import ScanUnit

    recorded = [Recorder(scan_triton._forward_kernel), Recorder(scan_triton._backward_kernel)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_triton, "_forward_kernel", recorded[0])
        patch.setattr(scan_triton, "_backward_kernel", recorded[1])
        unit = ScanUnit(640, 20, 16, "triton").half()
        tokens = torch.randn(1, 5184 + 33, 640, dtype=torch.float16, requires_grad=True)
        unit(tokens, outputs=5184).sum().backward()
    return recorded


def compile_as_launched(launch: Recorder, capability: int) -> Any:
    """Compile a kernel with the types, constants and alignment of its launch, as Triton's launcher would."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = {torch.float16: "*fp16", torch.float32: "*fp32"}
    signature, constants, attributes = {}, {}, {}
    for i, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments[name]
        if isinstance(value, torch.Tensor):
            signature[name] = names[value.dtype]
            aligned = value.data_ptr() % _ALIGNED == 0
        elif launch.kernel.params[i].is_constexpr or value == 1:
            signature[name], constants[name], aligned = "constexpr", value, False
        else:
            signature[name] = "i32"
            aligned = value % _ALIGNED == 0
        if aligned:
            attributes[(i,)] = [["tt.divisibility", _ALIGNED]]
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 1})


def resources(made: Any, folder: Path) -> dict[str, int]:
    """Registers, stack, shared and local memory of a compiled kernel, as CUDA's own tool reads them."""
    from triton import knobs

    path = folder / "kernel.cubin"
    path.write_bytes(made.asm["cubin"])
    command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", said)}


@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_that_run_compile_without_spilling(launches, capability, tmp_path):
    """With the alignment of the real tensors: B and C are slices of one product and not aligned to 16 bytes."""
    assert launches[0].arguments["b_ptr"].data_ptr() % _ALIGNED != 0
    assert launches[0].arguments["u_time"] == 640 and launches[0].arguments["length"] == 5184 + 33
    for launch, registers in zip(launches, (128, 255), strict=True):
        made = compile_as_launched(launch, capability)
        used = resources(made, tmp_path)
        assert used["STACK"] == used["LOCAL"] == 0  # where registers would be spilled to
        assert 0 < used["REG"] <= registers
        print(f"sm_{capability} {launch.kernel.fn.__name__}: {used}, {made.asm['ptx'].count('shfl')} exchanges")
