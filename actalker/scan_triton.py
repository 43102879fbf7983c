"""Fused selective scan for CUDA: Triton kernels, forward and backward.

One warp owns a batch row and 32 channels and walks through time with the channels' states in registers. Which lane
holds which of them is the compiler's choice: with the model's alignment a few lanes share a channel, and the sum
over its states is an exchange between them. Bias, softplus, skip weight and conversion happen on the way, so that
activations are read once and written once, in the precision they have, and (length, channels, state) tensors never
exist. What the next step needs is loaded before the present step is computed.

The forward pass stores the state at every chunk border. The backward pass recomputes the states of one chunk at a
time into a scratch buffer and walks back over it. Sums over channels (for B and C) and over rows (for A, D and the
bias) are written per program and added afterwards, so results do not depend on the order in which programs run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK = 64
_CHANNELS = 32
_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _softplus(v):
    """log(1 + exp(v)) and its derivative; linear above 20."""
    e = tl.exp(tl.minimum(v, 20.0))
    w = 1.0 + e
    # e / (w - 1) makes up for what 1 + e rounded away, which matters for small steps.
    exact = tl.where(w == 1.0, e, tl.log(w) * (e / tl.where(w == 1.0, 1.0, w - 1.0)))
    return tl.where(v > 20.0, v, exact), tl.where(v > 20.0, 1.0, e / w)


@triton.jit
def _time(i, length, REVERSE: tl.constexpr):
    """Position of scan step `i`, kept inside the sequence; 64 bits, because offsets may exceed 2^31."""
    i = tl.minimum(i, length - 1)
    if REVERSE:
        i = length - 1 - i
    return i.to(tl.int64)


@triton.jit
def _forward_kernel(
    u_ptr, delta_ptr, a_ptr, b_ptr, c_ptr, skip_ptr, bias_ptr, y_ptr, border_ptr,
    u_row, u_time, delta_row, delta_time, b_row, b_time, c_row, c_time,
    length, channels, outputs, chunks, blocks,
    STATE: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, KEEP_BORDERS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // blocks).to(tl.int64)
    d = (tl.program_id(0) % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, PADDED)
    on_d, on_n = d < channels, n < STATE
    on = on_n[:, None] & on_d[None, :]
    # (state, channels): the contiguous channels last, as they lie in memory.
    a = tl.load(a_ptr + n[:, None] * channels + d[None, :], mask=on, other=0.0) * _LOG2_E
    skip = tl.load(skip_ptr + d, mask=on_d, other=0.0)
    bias = tl.load(bias_ptr + d, mask=on_d, other=0.0)
    u_ptr += row * u_row + d
    delta_ptr += row * delta_row + d
    b_ptr += row * b_row + n
    c_ptr += row * c_row + n
    h = tl.zeros((PADDED, CHANNELS), dtype=a.dtype)
    t = _time(0, length, REVERSE)
    u = tl.load(u_ptr + t * u_time, mask=on_d, other=0.0)
    raw = tl.load(delta_ptr + t * delta_time, mask=on_d, other=0.0)
    b = tl.load(b_ptr + t * b_time, mask=on_n, other=0.0)
    c = tl.load(c_ptr + t * c_time, mask=on_n, other=0.0)
    for i in range(length):
        if KEEP_BORDERS:  # noqa: SIM102  older compilers cannot combine a constant with a value
            if i % CHUNK == 0:
                border = (row * chunks + i // CHUNK) * STATE
                tl.store(border_ptr + (border + n[:, None]) * channels + d[None, :], h, mask=on)
        t = _time(i, length, REVERSE)
        following = _time(i + 1, length, REVERSE)
        next_u = tl.load(u_ptr + following * u_time, mask=on_d, other=0.0)
        next_raw = tl.load(delta_ptr + following * delta_time, mask=on_d, other=0.0)
        next_b = tl.load(b_ptr + following * b_time, mask=on_n, other=0.0)
        next_c = tl.load(c_ptr + following * c_time, mask=on_n, other=0.0)
        wide = u.to(a.dtype)
        step = raw.to(a.dtype) + bias
        if SOFTPLUS:
            step, _ = _softplus(step)
        h = tl.exp2(step[None, :] * a) * h + (step * wide)[None, :] * b.to(a.dtype)[:, None]
        if t < outputs:
            y = tl.sum(h * c.to(a.dtype)[:, None], axis=0) + skip * wide
            tl.store(y_ptr + (row * outputs + t) * channels + d, y, mask=on_d)
        u, raw, b, c = next_u, next_raw, next_b, next_c


@triton.jit
def _backward_kernel(
    u_ptr, delta_ptr, a_ptr, b_ptr, c_ptr, skip_ptr, bias_ptr, gy_ptr, border_ptr, scratch_ptr,
    gu_ptr, gdelta_ptr, ga_ptr, gb_ptr, gc_ptr, gskip_ptr, gbias_ptr,
    u_row, u_time, delta_row, delta_time, b_row, b_time, c_row, c_time,
    length, channels, outputs, chunks, blocks,
    STATE: tl.constexpr, PADDED: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    row = program // blocks
    local = tl.arange(0, CHANNELS)
    d = (tl.program_id(0) % blocks) * CHANNELS + local
    n = tl.arange(0, PADDED)
    on_d, on_n = d < channels, n < STATE
    on = on_n[:, None] & on_d[None, :]
    a = tl.load(a_ptr + n[:, None] * channels + d[None, :], mask=on, other=0.0)
    skip = tl.load(skip_ptr + d, mask=on_d, other=0.0)
    bias = tl.load(bias_ptr + d, mask=on_d, other=0.0)
    u_ptr += row * u_row + d
    delta_ptr += row * delta_row + d
    b_ptr += row * b_row + n
    c_ptr += row * c_row + n
    # States of one chunk: entry i is the state before the chunk's step i.
    scratch = scratch_ptr + program * CHUNK * PADDED * CHANNELS + n[:, None] * CHANNELS + local[None, :]
    g = tl.zeros((PADDED, CHANNELS), dtype=a.dtype)
    ga = tl.zeros((PADDED, CHANNELS), dtype=a.dtype)
    gskip = tl.zeros((CHANNELS,), dtype=a.dtype)
    gbias = tl.zeros((CHANNELS,), dtype=a.dtype)
    for k in range(chunks):
        chunk = chunks - 1 - k
        first = chunk * CHUNK
        count = tl.minimum(CHUNK, length - first)
        border = (row * chunks + chunk) * STATE
        h = tl.load(border_ptr + (border + n[:, None]) * channels + d[None, :], mask=on, other=0.0)
        for i in range(count):
            tl.store(scratch + i * PADDED * CHANNELS, h)
            t = _time(first + i, length, REVERSE)
            u = tl.load(u_ptr + t * u_time, mask=on_d, other=0.0).to(a.dtype)
            step = tl.load(delta_ptr + t * delta_time, mask=on_d, other=0.0).to(a.dtype) + bias
            b = tl.load(b_ptr + t * b_time, mask=on_n, other=0.0).to(a.dtype)
            if SOFTPLUS:
                step, _ = _softplus(step)
            h = tl.exp2(step[None, :] * (a * _LOG2_E)) * h + (step * u)[None, :] * b[:, None]
        # A lane reads back what another one wrote if the compiler chooses two layouts.
        tl.debug_barrier()
        for j in range(count):
            i = count - 1 - j
            t = _time(first + i, length, REVERSE)
            before = tl.load(scratch + i * PADDED * CHANNELS)
            u = tl.load(u_ptr + t * u_time, mask=on_d, other=0.0).to(a.dtype)
            step = tl.load(delta_ptr + t * delta_time, mask=on_d, other=0.0).to(a.dtype) + bias
            b = tl.load(b_ptr + t * b_time, mask=on_n, other=0.0).to(a.dtype)
            c = tl.load(c_ptr + t * c_time, mask=on_n, other=0.0).to(a.dtype)
            read = tl.where(on_d, t, outputs) < outputs
            gy = tl.load(gy_ptr + (row * outputs + t) * channels + d, mask=read, other=0.0).to(a.dtype)
            slope = tl.full((CHANNELS,), 1.0, dtype=a.dtype)
            if SOFTPLUS:
                step, slope = _softplus(step)
            decay = tl.exp2(step[None, :] * (a * _LOG2_E))
            drive = step * u
            now = decay * before + drive[None, :] * b[:, None]
            part = (program * length + t) * STATE
            g += gy[None, :] * c[:, None]
            tl.store(gc_ptr + part + n, tl.sum(now * gy[None, :], axis=1), mask=on_n)
            tl.store(gb_ptr + part + n, tl.sum(g * drive[None, :], axis=1), mask=on_n)
            gdrive = tl.sum(g * b[:, None], axis=0)
            at = (row * length + t) * channels + d
            tl.store(gu_ptr + at, gy * skip + gdrive * step, mask=on_d)
            g = g * decay
            q = g * before
            gdelta = (tl.sum(q * a, axis=0) + gdrive * u) * slope
            tl.store(gdelta_ptr + at, gdelta, mask=on_d)
            ga += q * step[None, :]
            gskip += gy * u
            gbias += gdelta
        tl.debug_barrier()
    tl.store(ga_ptr + (row * STATE + n[:, None]) * channels + d[None, :], ga, mask=on)
    tl.store(gskip_ptr + row * channels + d, gskip, mask=on_d)
    tl.store(gbias_ptr + row * channels + d, gbias, mask=on_d)


def triton_scan(
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
    """The whole selective scan; arguments as `actalker.scan.selective_scan`, differentiable.

    `A`, `D` and `bias` have the precision to compute in, the others any.
    """
    return _TritonScan.apply(u, delta, A, B, C, D, bias, softplus, reverse, outputs)


class _TritonScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *tensors, softplus, reverse, outputs = args
        u, delta, A, B, C, D, bias = (t if t.stride(-1) == 1 else t.contiguous() for t in tensors)
        batch, length, channels = u.shape
        A = A.t().contiguous()
        keep = any(ctx.needs_input_grad)
        chunks, blocks = triton.cdiv(length, _CHUNK), triton.cdiv(channels, _CHANNELS)
        y = u.new_empty(batch, outputs, channels)
        borders = A.new_empty((batch, chunks, *A.shape) if keep else (1,))
        _forward_kernel[(batch * blocks,)](
            u, delta, A, B, C, D, bias, y, borders, *_strides(u, delta, B, C),
            length, channels, outputs, chunks, blocks,
            **_constants(A, reverse, softplus), KEEP_BORDERS=keep, num_warps=1,
        )  # fmt: skip
        ctx.save_for_backward(u, delta, A, B, C, D, bias, borders)
        ctx.softplus, ctx.reverse, ctx.outputs = softplus, reverse, outputs
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, bias, borders = ctx.saved_tensors
        batch, length, channels = u.shape
        state = A.shape[0]
        constants = _constants(A, ctx.reverse, ctx.softplus)
        chunks, blocks = triton.cdiv(length, _CHUNK), triton.cdiv(channels, _CHANNELS)
        gu, gdelta = u.new_empty(u.shape), delta.new_empty(u.shape)
        ga = A.new_empty(batch, state, channels)
        gb, gc = (A.new_empty(batch, blocks, length, state) for _ in range(2))
        gskip, gbias = (A.new_empty(batch, channels) for _ in range(2))
        scratch = A.new_empty(batch * blocks, _CHUNK, constants["PADDED"], _CHANNELS)
        _backward_kernel[(batch * blocks,)](
            u, delta, A, B, C, D, bias, gy.contiguous(), borders, scratch,
            gu, gdelta, ga, gb, gc, gskip, gbias, *_strides(u, delta, B, C),
            length, channels, ctx.outputs, chunks, blocks,
            **constants, num_warps=1,
        )  # fmt: skip
        sums = ga.sum(0).t(), gb.sum(1).to(B.dtype), gc.sum(1).to(C.dtype), gskip.sum(0), gbias.sum(0)
        return gu, gdelta, *sums, None, None, None


def _strides(*tensors: Tensor) -> list[int]:
    """Row and time strides; a prefix of a longer sequence is read where it lies."""
    return [stride for tensor in tensors for stride in tensor.stride()[:2]]


def _constants(A: Tensor, reverse: bool, softplus: bool) -> dict[str, Any]:
    state = A.shape[0]
    return {
        "STATE": state,
        "PADDED": triton.next_power_of_2(state),
        "CHANNELS": _CHANNELS,
        "CHUNK": _CHUNK,
        "REVERSE": reverse,
        "SOFTPLUS": softplus,
    }
