"""The selective scan: every backend against an independent implementation, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from actalker.scan import available_backends, selective_scan

BACKENDS = ("reference", "blocked", "chunked")


def independent(u, delta, A, B, C, D, bias):
    """The recurrence in channel-major layout with einsum, as published with Mamba."""
    u, delta, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    delta = torch.nn.functional.softplus(delta + bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        ys.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    return (torch.stack(ys, 2) + u * D[:, None]).transpose(1, 2)


def inputs(b=2, length=37, d=5, n=3, dtype=torch.float64, seed=0, grad=False) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_(grad)

    A = (-torch.rand(d, n, generator=g, dtype=torch.float64) * 4 - 0.1).to(dtype).requires_grad_(grad)
    return (
        draw(b, length, d), draw(b, length, d), A, draw(b, length, n), draw(b, length, n), draw(d), draw(d)
    )  # fmt: skip


def scan(args: tuple[Tensor, ...], **options) -> Tensor:
    u, delta, A, B, C, D, bias = args
    return selective_scan(u, delta, A, B, C, D, delta_bias=bias, **options)


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_direction(backend):
    args = inputs()
    torch.testing.assert_close(scan(args, backend=backend), independent(*args))


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
def test_backward_direction_is_the_flipped_scan(backend):
    u, delta, A, B, C, D, bias = args = inputs()
    flipped = independent(u.flip(1), delta.flip(1), A, B.flip(1), C.flip(1), D, bias).flip(1)
    torch.testing.assert_close(scan(args, backend=backend, reverse=True), flipped)


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_are_a_prefix(backend, reverse):
    args = inputs()
    whole = scan(args, backend="reference", reverse=reverse)
    torch.testing.assert_close(scan(args, backend=backend, reverse=reverse, outputs=9), whole[:, :9])
    assert scan(args, backend=backend, reverse=reverse, outputs=0).shape == (2, 0, 5)


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_invalid_positions_leave_the_state_untouched(backend, reverse):
    u, delta, A, B, C, D, bias = args = inputs(b=1)
    valid = torch.rand(1, u.shape[1], generator=torch.Generator().manual_seed(3)) > 0.3
    kept = valid[0]
    shorter = (u[:, kept], delta[:, kept], A, B[:, kept], C[:, kept], D, bias)
    padded = scan(args, backend=backend, reverse=reverse, valid=valid)
    torch.testing.assert_close(padded[:, kept], scan(shorter, backend="reference", reverse=reverse))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("outputs", [None, 11])
def test_chunked_gradients(reverse, outputs, monkeypatch):
    import actalker.scan as module

    # Small blocks, so that states cross chunk borders and rows are split.
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 120)
    monkeypatch.setattr(module, "_STATE_ELEMENTS", 15)
    gradients = []
    for backend in ("reference", "chunked"):
        args = inputs(grad=True)
        y = scan(args, backend=backend, reverse=reverse, outputs=outputs)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        gradients.append((y, *torch.autograd.grad((y * weights).sum(), args)))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_state_in_single(dtype):
    u, delta, A, B, C, D, bias = inputs(length=500, dtype=torch.float32)
    u, delta, B, C = (t.to(dtype) for t in (u, delta, B, C))
    half = selective_scan(u, delta, A, B, C, D, delta_bias=bias)
    exact = selective_scan(
        u.double(), delta.double(), A.double(), B.double(), C.double(), D.double(), delta_bias=bias.double()
    )
    assert half.dtype == dtype
    # Only the final rounding may differ.
    resolution = torch.finfo(dtype).eps
    assert ((half - exact).abs() <= resolution * exact.abs() + resolution / 8).all()


def test_automatic_choice_is_differentiable():
    args = inputs(grad=True)
    scan(args).sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in args)


def test_blocked_refuses_gradients():
    with pytest.raises(RuntimeError, match="backend='chunked'"):
        scan(inputs(grad=True), backend="blocked")


def test_unknown_backend_lists_the_known_ones():
    with pytest.raises(ValueError, match="known: auto, reference, blocked"):
        scan(inputs(), backend="fast")


def test_shapes_are_checked():
    u, delta, A, B, C, D, _ = inputs()
    with pytest.raises(ValueError, match="shapes do not agree"):
        selective_scan(u, delta, A, B[:, :-1], C, D)
    with pytest.raises(ValueError, match="outputs=99"):
        selective_scan(u, delta, A, B, C, D, outputs=99)


def test_cpu_backends():
    assert available_backends("cpu") == BACKENDS[1:] + BACKENDS[:1]
