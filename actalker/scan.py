"""Selective scan (Mamba-1 recurrence) behind one function with interchangeable backends.

For every batch row b, channel d and state n, with Δ = softplus(delta + delta_bias):

    h_t = exp(Δ_t A) h_{t-1} + Δ_t u_t B_t,        y_t = Σ_n C_t h_t + D u_t,        h_{-1} = 0

Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", Eq. 2-4 with the simplified
discretisation of B. Tensors are token-major, (batch, length, channels), so no transposed copies of the
activations are needed; the recurrence itself runs time-major.

Backends:
    reference   a plain Python loop, the definition above; differentiable.
    blocked     in-place over blocks of time that stay in cache; inference on any device.
    chunked     the same forward with a hand-written backward that keeps one state per chunk; training.
    triton      fused CUDA kernels, forward and backward (`actalker.scan_triton`).
    mamba_ssm   the `mamba-ssm` package's kernel, when installed (CUDA).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Backend = Literal["auto", "reference", "blocked", "chunked", "triton", "mamba_ssm"]
BACKENDS: tuple[str, ...] = ("reference", "blocked", "chunked", "triton", "mamba_ssm")

# States per elementwise operation and per block: measured to keep both factors of a block inside a 2 MB
# level-2 cache while one operation is long enough to hide its dispatch cost.
_STATE_ELEMENTS = 32_768
_BLOCK_ELEMENTS = 131_072


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    delta_bias: Tensor | None = None,
    softplus: bool = True,
    reverse: bool = False,
    outputs: int | None = None,
    valid: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Run the selective scan over a batch of sequences.

    Args:
        u: input (batch, length, channels).
        delta: step size before bias and softplus (batch, length, channels).
        A: state matrix (channels, state), negative.
        B: input matrix (batch, length, state).
        C: output matrix (batch, length, state).
        D: skip weight (channels,), or None.
        delta_bias: (channels,), or None.
        softplus: apply softplus (linear above 20) to `delta + delta_bias`.
        reverse: scan from the last position to the first; outputs stay in input order.
        outputs: return only the first `outputs` positions. A forward scan stops there; a reverse scan only
            carries its state through the rest.
        valid: bool (batch, length) or None; False positions leave the state untouched (ragged batches).
        backend: `auto` picks `triton`, else `mamba_ssm`, on CUDA, `chunked` where gradients are needed and
            `blocked` otherwise.

    Returns:
        y (batch, outputs or length, channels) in the dtype of `u`; the state is kept in float32 (float64
        for float64 input).

    Raises:
        ValueError: unknown backend or inconsistent shapes.
        RuntimeError: the backend named cannot run here.
    """
    batch, length, channels = u.shape
    state = A.shape[1]
    if delta.shape != u.shape or A.shape[0] != channels or B.shape != (batch, length, state) or C.shape != B.shape:
        raise ValueError(
            f"selective_scan: shapes do not agree: u {tuple(u.shape)}, delta {tuple(delta.shape)}, "
            f"A {tuple(A.shape)}, B {tuple(B.shape)}, C {tuple(C.shape)}"
        )
    kept = length if outputs is None else outputs
    if not 0 <= kept <= length:
        raise ValueError(f"selective_scan: outputs={outputs} is not between 0 and the length {length}")
    if kept == 0:
        return u[:, :0]
    if not reverse and kept < length:
        u, delta, B, C = u[:, :kept], delta[:, :kept], B[:, :kept], C[:, :kept]
        valid = None if valid is None else valid[:, :kept]
    dtype = u.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    chosen = _choose(backend, u, delta, A, B, C)
    if chosen in _FUSED:
        if valid is not None:
            # The value whose step is zero.
            delta = delta.masked_fill(~valid.unsqueeze(-1), -math.inf if softplus else 0.0)
        zeros = A.new_zeros(channels, dtype=wide)
        D, bias = (zeros if t is None else t.to(wide) for t in (D, delta_bias))
        return _FUSED[chosen](u, delta, A.to(wide), B, C, D, bias, softplus, reverse, kept)
    core = _PLAIN[chosen]
    step = delta.to(wide)
    if delta_bias is not None:
        step = step + delta_bias.to(wide)
    if softplus:
        step = F.softplus(step)
    if valid is not None:
        step = step * valid.unsqueeze(-1)
    wide_u = u.to(wide)
    y = core(step * wide_u, step, A.to(wide), B.to(wide), C.to(wide), reverse, kept)
    if D is not None:
        y = y + D.to(wide) * wide_u[:, :kept]
    return y.to(dtype)


def available_backends(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Names of the backends that can run on `device`, fastest first for inference."""
    if torch.device(device).type != "cuda":
        return ("blocked", "chunked", "reference")
    fused = tuple(name for name in ("triton", "mamba_ssm") if _installed(name))
    return (*fused, "blocked", "chunked", "reference")


def reference_scan(
    x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int
) -> Tensor:
    """The recurrence as a loop over time. `x` is Δ·u; shapes as in `selective_scan`."""
    decay = torch.exp(step.unsqueeze(-1) * A)
    drive = x.unsqueeze(-1) * B.unsqueeze(-2)
    h = torch.zeros_like(drive[:, 0])
    y: list[Tensor] = [h] * x.shape[1]
    for t in _order(x.shape[1], reverse):
        h = decay[:, t] * h + drive[:, t]
        y[t] = (h * C[:, t].unsqueeze(-2)).sum(-1)
    return torch.stack(y[:outputs], dim=1)


@torch.no_grad()
def blocked_scan(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int) -> Tensor:
    """The recurrence in place over cache-sized blocks; no gradients. Arguments as `reference_scan`."""
    batch, _, channels = x.shape
    y = x.new_empty(batch, outputs, channels)
    rows = _rows_per_pass(A, batch, x.device)
    for first in range(0, batch, rows):
        part = slice(first, first + rows)
        _blocked_rows(x[part], step[part], A, B[part], C[part], reverse, outputs, y[part])
    return y


def _blocked_rows(
    x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int, y: Tensor
) -> None:
    batch, length, channels = x.shape
    state = A.shape[1]
    size = max(1, min(length, _BLOCK_ELEMENTS // (batch * channels * state)))
    decay = x.new_empty(size, batch, state, channels)
    h = torch.empty_like(decay)
    # Time-major views; state before channels, so that every elementwise loop runs over contiguous channels.
    x, step, B, C = (tensor.transpose(0, 1) for tensor in (x, step, B, C))
    A = A.t().contiguous()
    carry = x.new_zeros(batch, state, channels)
    for start, stop in _blocks(length, size, reverse):
        n = stop - start
        a, b = decay[:n], h[:n]
        torch.mul(step[start:stop].unsqueeze(2), A, out=a).exp_()
        torch.mul(x[start:stop].unsqueeze(2), B[start:stop].unsqueeze(3), out=b)
        _recur(a, b, carry, reverse)
        carry.copy_(b[0] if reverse else b[-1])
        kept = min(stop, outputs)
        if kept > start:
            m = kept - start
            y[:, start:kept] = torch.matmul(C[start:kept].unsqueeze(2), b[:m]).squeeze(2).transpose(0, 1)


def chunked_scan(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int) -> Tensor:
    """`blocked_scan` with gradients: keeps one state per chunk and recomputes the others backwards."""
    rows = _rows_per_pass(A, x.shape[0], x.device)
    parts = zip(*(t.split(rows) for t in (x, step, B, C)), strict=True)
    return torch.cat([_ChunkedScan.apply(px, ps, A, pB, pC, reverse, outputs) for px, ps, pB, pC in parts])


class _ChunkedScan(torch.autograd.Function):
    """For h_t = a_t h_{t-1} + b_t: g_t = ∂L/∂h_t + a_{t+1} g_{t+1}, ∂b_t = g_t, ∂a_t = g_t h_{t-1}."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int
    ) -> Tensor:
        batch, length, channels = x.shape
        size = min(length, max(8, _BLOCK_ELEMENTS // (batch * A.numel())))
        y = x.new_empty(batch, outputs, channels)
        tx, ts, tB, tC = (t.transpose(0, 1) for t in (x, step, B, C))
        At = A.t().contiguous()
        carry = x.new_zeros(batch, A.shape[1], channels)
        carries = []
        for start, stop in _blocks(length, size, reverse):
            carries.append(carry)
            a, b = _factors(tx[start:stop], ts[start:stop], At, tB[start:stop])
            _recur(a, b, carry, reverse)
            carry = (b[0] if reverse else b[-1]).clone()
            kept = min(stop, outputs)
            if kept > start:
                part = torch.matmul(tC[start:kept].unsqueeze(2), b[: kept - start])
                y[:, start:kept] = part.squeeze(2).transpose(0, 1)
        ctx.save_for_backward(x, step, A, B, C, torch.stack(carries))
        ctx.reverse, ctx.outputs, ctx.size = reverse, outputs, size
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, step, A, B, C, carries = ctx.saved_tensors
        reverse, outputs = ctx.reverse, ctx.outputs
        length = x.shape[1]
        gx, gs, gB, gC = (torch.zeros_like(t) for t in (x, step, B, C))
        gA = torch.zeros_like(A.t())
        tx, ts, tB, tC = (t.transpose(0, 1) for t in (x, step, B, C))
        At = A.t().contiguous()
        # d L / d h flowing into the current chunk from the chunk scanned after it.
        inflow = x.new_zeros(x.shape[0], A.shape[1], x.shape[2])
        blocks = list(_blocks(length, ctx.size, reverse))
        for (start, stop), carry in zip(reversed(blocks), reversed(carries.unbind(0)), strict=True):
            a, h = _factors(tx[start:stop], ts[start:stop], At, tB[start:stop])
            _recur(a, h, carry, reverse)
            g = torch.zeros_like(h)
            kept = min(stop, outputs)
            if kept > start:
                m = kept - start
                block_gy = gy[:, start:kept].transpose(0, 1)
                torch.mul(block_gy.unsqueeze(2), tC[start:kept].unsqueeze(3), out=g[:m])
                gC[:, start:kept] = torch.matmul(h[:m], block_gy.unsqueeze(3)).squeeze(3).transpose(0, 1)
            order = list(_order(stop - start, not reverse))
            g[order[0]].add_(inflow)
            for later, now in pairwise(order):
                g[now].addcmul_(a[later], g[later])
            last = order[-1]
            inflow = a[last] * g[last]
            gx[:, start:stop] = torch.matmul(tB[start:stop].unsqueeze(2), g).squeeze(2).transpose(0, 1)
            gB[:, start:stop] = torch.matmul(g, tx[start:stop].unsqueeze(3)).squeeze(3).transpose(0, 1)
            q = a.mul_(g)
            if reverse:
                q[:-1].mul_(h[1:])
                q[-1].mul_(carry)
            else:
                q[1:].mul_(h[:-1])
                q[0].mul_(carry)
            gs[:, start:stop] = (q * At).sum(2).transpose(0, 1)
            gA += torch.einsum("tbnd,tbd->nd", q, ts[start:stop])
        return gx, gs, gA.t(), gB, gC, None, None


def _factors(x: Tensor, step: Tensor, At: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Decay exp(ΔA) and drive ΔuB of one block, (time, batch, state, channels)."""
    return (step.unsqueeze(2) * At).exp_(), x.unsqueeze(2) * B.unsqueeze(3)


def _recur(a: Tensor, b: Tensor, carry: Tensor, reverse: bool) -> None:
    """Overwrite the drive `b` with the states h_t = a_t h_{t-1} + b_t."""
    pairs = list(zip(a.unbind(0), b.unbind(0), strict=True))
    for a_t, b_t in reversed(pairs) if reverse else pairs:
        carry = b_t.addcmul_(a_t, carry)


def _order(length: int, reverse: bool) -> range:
    return range(length - 1, -1, -1) if reverse else range(length)


def _blocks(length: int, size: int, reverse: bool) -> list[tuple[int, int]]:
    """Blocks (start, stop) covering [0, length) in scan order."""
    blocks = [(start, min(start + size, length)) for start in range(0, length, size)]
    return blocks[::-1] if reverse else blocks


def _rows_per_pass(A: Tensor, batch: int, device: torch.device) -> int:
    """Batch rows scanned together: all of them on an accelerator, a cache-sized share on the CPU."""
    if device.type != "cpu":
        return batch
    return max(1, min(batch, _STATE_ELEMENTS // A.numel()))


def _choose(backend: Backend, *tensors: Tensor) -> str:
    """The backend a name stands for; `auto` is decided by device, precision and autograd.

    Raises:
        ValueError: unknown name.
        RuntimeError: the backend named cannot compute this.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown scan backend {backend!r}; known: auto, {', '.join(BACKENDS)}")
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if backend == "auto":
        if tensors[0].dtype != torch.float64:
            for name in available_backends(tensors[0].device):
                if name in _FUSED:
                    return name
        return "chunked" if needs_grad else "blocked"
    if backend == "blocked" and needs_grad:
        raise RuntimeError("the blocked scan has no gradients; use backend='chunked' or torch.no_grad()")
    return backend


def _triton_scan(*args: Any) -> Tensor:
    if not _installed("triton"):
        raise RuntimeError("scan backend 'triton' needs the triton package (pip install triton) and CUDA")
    from actalker.scan_triton import triton_scan

    return triton_scan(*args)


def _mamba_ssm_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    bias: Tensor,
    softplus: bool,
    reverse: bool,
    outputs: int,
) -> Tensor:
    """The `mamba-ssm` kernel: (batch, channels, length), forwards only, all activations in one precision."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        raise RuntimeError(
            "scan backend 'mamba_ssm' needs `pip install --no-build-isolation mamba-ssm`"
        ) from error
    sequences = [t.to(u.dtype).transpose(1, 2) for t in (u, delta, B, C)]
    if reverse:
        sequences = [t.flip(-1) for t in sequences]
    u, delta, B, C = (t.contiguous() for t in sequences)
    y = selective_scan_fn(u, delta, A.contiguous(), B, C, D, delta_bias=bias, delta_softplus=softplus)
    return (y.flip(-1) if reverse else y).transpose(1, 2)[:, :outputs]


# Σ C h from Δ·u and Δ in the precision of the state, and the whole scan from what `selective_scan` is given.
_PLAIN: dict[str, Callable[..., Tensor]] = {
    "reference": reference_scan,
    "blocked": blocked_scan,
    "chunked": chunked_scan,
}
_FUSED: dict[str, Callable[..., Tensor]] = {"triton": _triton_scan, "mamba_ssm": _mamba_ssm_scan}


@lru_cache
def _installed(package: str) -> bool:
    return find_spec(package) is not None
