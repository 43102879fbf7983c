"""Compare the Triton kernels with the reference scan on whatever device Triton offers.

With TRITON_INTERPRET=1 they run on the CPU, otherwise on CUDA. Exits with an assertion error when they differ.
"""

from __future__ import annotations

import os

import torch

from actalker.scan import selective_scan

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def compare(batch: int, length: int, channels: int, state: int, reverse: bool, outputs: int | None) -> None:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE).requires_grad_()

    u, delta, D, bias = (
        draw(batch, length, channels),
        draw(batch, length, channels),
        draw(channels),
        draw(channels),
    )
    B, C = draw(batch, length, state), draw(batch, length, state)
    A = (-4 * torch.rand(channels, state, generator=generator) - 0.1).to(DEVICE).requires_grad_()
    results = []
    for backend in ("reference", "triton"):
        y = selective_scan(
            u, delta, A, B, C, D, delta_bias=bias, reverse=reverse, outputs=outputs, backend=backend
        )
        weights = torch.linspace(-1, 1, y.numel(), device=DEVICE).reshape(y.shape)
        results.append((y, *torch.autograd.grad((y * weights).sum(), (u, delta, A, B, C, D, bias))))
    for reference, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=2e-5, atol=2e-5)


if __name__ == "__main__":
    # Lengths below, at and above the chunk of 64; channels that do not fill a block; odd state sizes.
    compare(1, 70, 33, 3, reverse=False, outputs=None)
    compare(2, 64, 5, 4, reverse=True, outputs=None)
    compare(1, 67, 8, 16, reverse=True, outputs=20)
    compare(1, 9, 8, 16, reverse=False, outputs=4)
    with torch.no_grad():
        u = torch.randn(1, 5, 4, device=DEVICE)
        A = -torch.ones(4, 2, device=DEVICE)
        B = torch.randn(1, 5, 2, device=DEVICE)
        expected = selective_scan(u, u, A, B, B, backend="reference")
        torch.testing.assert_close(selective_scan(u, u, A, B, B, backend="triton"), expected, rtol=1e-5, atol=1e-5)
    print("triton agrees with the reference")
