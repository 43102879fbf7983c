"""Compare the Triton kernels with the reference scan on whatever device Triton offers.

With TRITON_INTERPRET=1 they run on the CPU, otherwise on CUDA. Exits with an assertion error when they differ.
"""

from __future__ import annotations

import os

import torch

from actalker.scan import selective_scan

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def compare(
    batch: int,
    length: int,
    channels: int,
    state: int,
    *,
    reverse: bool,
    outputs: int | None = None,
    dtype: torch.dtype = torch.float32,
    large: float = 1.0,
    softplus: bool = True,
    ragged: bool = False,
    prefix: bool = False,
) -> None:
    """Values and all gradients of one case.

    Args:
        dtype: of the activations; parameters and state are single precision.
        large: factor on the raw step sizes, whose softplus is linear above 20 and vanishes far below 0.
        ragged: leave out every third position.
        prefix: hand over a view of longer sequences.
    """
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE)

    def activation(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (draw(*shape) * scale).to(dtype).requires_grad_()

    longer = length + 5 if prefix else length
    whole = [
        activation(batch, longer, channels),
        activation(batch, longer, channels, scale=large),
        activation(batch, longer, state),
        activation(batch, longer, state),
    ]
    D, bias = (draw(channels).requires_grad_() for _ in range(2))
    A = (-4 * torch.rand(channels, state, generator=generator) - 0.1).to(DEVICE).requires_grad_()
    valid = None
    if ragged:
        valid = (torch.arange(length, device=DEVICE) % 3 > 0).expand(batch, -1)
    results = []
    for backend in ("reference", "triton"):
        exact = backend == "reference"
        leaves = [t.detach().float().requires_grad_() if exact else t for t in whole]
        u, delta, B, C = (t[:, :length] for t in leaves)
        step = delta if softplus else delta.abs()
        y = selective_scan(
            u, step, A, B, C, D, delta_bias=bias if softplus else None, softplus=softplus, reverse=reverse,
            outputs=outputs, valid=valid, backend=backend,
        )  # fmt: skip
        weights = torch.linspace(-1, 1, y.numel(), device=DEVICE).reshape(y.shape)
        parameters = (A, D, bias) if softplus else (A, D)
        results.append((y, *torch.autograd.grad((y * weights).sum(), (*leaves, *parameters))))
    tolerance = 2e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    for k, (reference, ours) in enumerate(zip(*results, strict=True)):
        assert torch.isfinite(ours).all(), f"result {k} is not finite"
        # Sums over many positions are compared relative to their size.
        reference, ours = reference.detach(), ours.detach()
        size = max(1.0, float(reference.abs().max()))
        worst = float((ours.float() - reference).abs().max()) / size
        assert worst <= tolerance, f"length {length}, {dtype}, result {k}: {worst:.2e} > {tolerance:.1e}"


if __name__ == "__main__":
    # Lengths below, at and above the chunk of 64; channels that do not fill a block; odd state sizes.
    compare(1, 70, 33, 3, reverse=False)
    compare(2, 64, 5, 4, reverse=True)
    compare(1, 67, 8, 16, reverse=True, outputs=20)
    compare(1, 9, 8, 16, reverse=False, outputs=4)
    compare(1, 1, 3, 1, reverse=True)
    compare(1, 66, 6, 5, reverse=False, prefix=True)
    compare(2, 13, 6, 5, reverse=True, ragged=True)
    compare(1, 13, 6, 5, reverse=True, ragged=True, softplus=False)
    compare(1, 40, 4, 4, reverse=True, large=30.0)
    for dtype in (torch.float16, torch.bfloat16):
        compare(1, 65, 7, 6, reverse=True, dtype=dtype)
    # Small steps, where log(1 + exp) loses its digits when computed as written.
    with torch.no_grad():
        u, B = torch.randn(1, 5, 4, device=DEVICE), torch.randn(1, 5, 2, device=DEVICE)
        A, bias = -torch.ones(4, 2, device=DEVICE), torch.full((4,), -12.0, device=DEVICE)
        expected = selective_scan(*(t.double() for t in (u, u, A, B, B)), delta_bias=bias, backend="reference")
        got = selective_scan(u, u, A, B, B, delta_bias=bias, backend="triton")
        torch.testing.assert_close(got.double(), expected, rtol=5e-6, atol=0)
    print("triton agrees with the reference")
