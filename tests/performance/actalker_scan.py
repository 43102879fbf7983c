"""Selective scan: time of every backend against the plain loop that Mamba publishes as its reference.

python tests/performance/actalker_scan.py                   B=1 D=128 L=4096 N=16, one CPU thread
python tests/performance/actalker_scan.py --device cuda     the model's largest layer, fp16, also with gradients

Where mamba-ssm is installed its kernel is also timed alone, on tensors that already lie as it wants them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from actalker.scan import available_backends, selective_scan


def plain_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Discretise everything, then one einsum per step; (batch, channels, length) as mamba's reference."""
    delta = torch.nn.functional.softplus(delta)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    h = A.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        ys.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    return torch.stack(ys, dim=2) + u * D[:, None]


def best(call: Callable[[], Tensor], device: str, repeats: int = 5) -> tuple[float, Tensor]:
    result = call()
    fastest = float("inf")
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = call()
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest, result


def run(device: str) -> None:
    """Print the table."""
    batch, length, channels, state = (1, 4096, 128, 16) if device == "cpu" else (75, 5184, 640, 16)
    dtype = torch.float32 if device == "cpu" else torch.float16
    torch.manual_seed(0)
    u, delta = (torch.randn(batch, length, channels, device=device, dtype=dtype) for _ in range(2))
    B, C = (torch.randn(batch, length, state, device=device, dtype=dtype) for _ in range(2))
    A = -torch.rand(channels, state, device=device) * 8 - 0.5
    D = torch.rand(channels, device=device)
    print(f"B={batch} D={channels} L={length} N={state} {dtype} {device}, {torch.get_num_threads()} CPU threads")
    reference = expected = None
    if device == "cpu":
        across = [t.transpose(1, 2).contiguous() for t in (u, delta, B, C)]
        reference, looped = best(lambda: plain_loop(across[0], across[1], A, across[2], across[3], D), device, 2)
        expected = looped.transpose(1, 2)
        print(f"plain loop   {reference * 1e3:9.2f} ms")
    for backend in available_backends(device):
        if backend == "reference":
            continue
        for reverse in (False, True):
            taken, y = best(
                lambda backend=backend, reverse=reverse: selective_scan(
                    u, delta, A, B, C, D, reverse=reverse, backend=backend
                ),
                device,
            )
            line = f"{backend:12s} {taken * 1e3:9.2f} ms{' (reverse)' if reverse else ''}"
            if reference is not None and expected is not None and not reverse:
                line += f"   {reference / taken:.1f}x, largest difference {float((y - expected).abs().max()):.1e}"
            print(line, flush=True)
    if device == "cuda":
        kernels(u, delta, A, B, C, D)


def kernels(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> None:
    """Print what the fused kernels take alone, forwards, and forwards and backwards on a third of the rows."""
    calls: dict[str, Callable[[tuple[Tensor, ...]], Tensor]] = {}
    if "triton" in available_backends("cuda"):
        calls["triton"] = lambda x: selective_scan(*x, backend="triton")
    mamba = "mamba_ssm" in available_backends("cuda")
    if mamba:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        calls["mamba-ssm"] = lambda x: selective_scan_fn(*x, delta_softplus=True)
    else:
        print("mamba-ssm is not installed: its kernel is not measured")
    taken: dict[tuple[str, bool], float] = {}
    for name, call in calls.items():
        for gradients in (False, True):
            rows = len(u) // 3 if gradients else len(u)
            inputs = [t[:rows] for t in (u, delta)] + [A] + [t[:rows] for t in (B, C)] + [D]
            if name == "mamba-ssm":
                inputs = [t.transpose(1, 2).contiguous() if t.ndim == 3 else t for t in inputs]
            with torch.inference_mode(False), torch.set_grad_enabled(gradients):
                leaves = tuple(t.clone().requires_grad_(gradients) for t in inputs)

                def once(call=call, leaves=leaves, gradients=gradients) -> Tensor:
                    y = call(leaves)
                    return torch.autograd.grad(y.sum(), leaves)[0] if gradients else y

                taken[name, gradients], _ = best(once, "cuda")
            what = "forward and backward" if gradients else "forward"
            print(f"{name:12s} {taken[name, gradients] * 1e3:9.2f} ms   {what}, {rows} rows", flush=True)
    for gradients in (False, True) if len(calls) == 2 else ():
        ratio = taken["triton", gradients] / taken["mamba-ssm", gradients]
        print(f"triton takes {ratio:.2f} of mamba-ssm's time ({'with' if gradients else 'without'} gradients)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    torch.set_num_threads(1)
    with torch.inference_mode():
        run(device)
