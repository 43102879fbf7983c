"""Fused selective scan for CUDA: Triton kernels, forward and backward.

One program owns a batch row and a block of channels and walks through time with its states in registers, so
the (length, channels, state) tensors of the plain formulation never exist. The forward pass stores the state
at every chunk border; the backward pass recomputes the states of one chunk at a time into a scratch buffer
and walks back over it. Sums over channels (for B and C) and over the batch (for A) are written per program
and added afterwards, so results do not depend on the order in which programs run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK = 64
_CHANNELS = 32


@triton.jit
def _forward_kernel(
    x_ptr,
    step_ptr,
    a_ptr,
    b_ptr,
    c_ptr,
    y_ptr,
    border_ptr,
    length,
    channels,
    outputs,
    chunks,
    STATE: tl.constexpr,
    PADDED: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP_BORDERS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, PADDED)
    on_d, on_n = d < channels, n < STATE
    on = on_d[:, None] & on_n[None, :]
    a = tl.load(a_ptr + d[:, None] * STATE + n[None, :], mask=on, other=0.0)
    h = tl.zeros((CHANNELS, PADDED), dtype=a.dtype)
    for i in range(length):
        if KEEP_BORDERS and i % CHUNK == 0:
            border = (row * chunks + i // CHUNK) * channels
            tl.store(border_ptr + (border + d[:, None]) * STATE + n[None, :], h, mask=on)
        t = length - 1 - i if REVERSE else i
        at = row * length + t
        step = tl.load(step_ptr + at * channels + d, mask=on_d, other=0.0)
        x = tl.load(x_ptr + at * channels + d, mask=on_d, other=0.0)
        b = tl.load(b_ptr + at * STATE + n, mask=on_n, other=0.0)
        h = tl.exp(step[:, None] * a) * h + x[:, None] * b[None, :]
        if t < outputs:
            c = tl.load(c_ptr + at * STATE + n, mask=on_n, other=0.0)
            y = tl.sum(h * c[None, :], axis=1)
            tl.store(y_ptr + (row * outputs + t) * channels + d, y, mask=on_d)


@triton.jit
def _backward_kernel(
    x_ptr,
    step_ptr,
    a_ptr,
    b_ptr,
    c_ptr,
    gy_ptr,
    border_ptr,
    scratch_ptr,
    gx_ptr,
    gstep_ptr,
    ga_ptr,
    gb_ptr,
    gc_ptr,
    length,
    channels,
    outputs,
    chunks,
    blocks,
    STATE: tl.constexpr,
    PADDED: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
    REVERSE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    local = tl.arange(0, CHANNELS)
    d = block * CHANNELS + local
    n = tl.arange(0, PADDED)
    on_d, on_n = d < channels, n < STATE
    on = on_d[:, None] & on_n[None, :]
    a = tl.load(a_ptr + d[:, None] * STATE + n[None, :], mask=on, other=0.0)
    # States of one chunk: entry i is the state before the chunk's step i.
    scratch = scratch_ptr + (row * blocks + block) * CHUNK * CHANNELS * PADDED
    tile = local[:, None] * PADDED + n[None, :]
    g = tl.zeros((CHANNELS, PADDED), dtype=a.dtype)
    ga = tl.zeros((CHANNELS, PADDED), dtype=a.dtype)
    for k in range(chunks):
        chunk = chunks - 1 - k
        first = chunk * CHUNK
        count = tl.minimum(CHUNK, length - first)
        border = (row * chunks + chunk) * channels
        h = tl.load(border_ptr + (border + d[:, None]) * STATE + n[None, :], mask=on, other=0.0)
        for i in range(count):
            tl.store(scratch + i * CHANNELS * PADDED + tile, h)
            t = length - 1 - first - i if REVERSE else first + i
            at = row * length + t
            step = tl.load(step_ptr + at * channels + d, mask=on_d, other=0.0)
            x = tl.load(x_ptr + at * channels + d, mask=on_d, other=0.0)
            b = tl.load(b_ptr + at * STATE + n, mask=on_n, other=0.0)
            h = tl.exp(step[:, None] * a) * h + x[:, None] * b[None, :]
        # Every thread reads back what it wrote itself only if the layouts agree; the barrier makes it safe.
        tl.debug_barrier()
        for j in range(count):
            i = count - 1 - j
            t = length - 1 - first - i if REVERSE else first + i
            at = row * length + t
            before = tl.load(scratch + i * CHANNELS * PADDED + tile)
            step = tl.load(step_ptr + at * channels + d, mask=on_d, other=0.0)
            x = tl.load(x_ptr + at * channels + d, mask=on_d, other=0.0)
            b = tl.load(b_ptr + at * STATE + n, mask=on_n, other=0.0)
            decay = tl.exp(step[:, None] * a)
            part = (row * blocks + block) * length + t
            if t < outputs:
                c = tl.load(c_ptr + at * STATE + n, mask=on_n, other=0.0)
                gy = tl.load(gy_ptr + (row * outputs + t) * channels + d, mask=on_d, other=0.0)
                g += gy[:, None] * c[None, :]
                now = decay * before + x[:, None] * b[None, :]
                tl.store(gc_ptr + part * STATE + n, tl.sum(now * gy[:, None], axis=0), mask=on_n)
            tl.store(gx_ptr + at * channels + d, tl.sum(g * b[None, :], axis=1), mask=on_d)
            tl.store(gb_ptr + part * STATE + n, tl.sum(g * x[:, None], axis=0), mask=on_n)
            g = g * decay
            q = g * before
            tl.store(gstep_ptr + at * channels + d, tl.sum(q * a, axis=1), mask=on_d)
            ga += q * step[:, None]
        tl.debug_barrier()
    tl.store(ga_ptr + (row * channels + d[:, None]) * STATE + n[None, :], ga, mask=on)


def triton_scan(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int) -> Tensor:
    """Σ C h of the selective scan; arguments as `actalker.scan.reference_scan`, differentiable."""
    return _TritonScan.apply(x, step, A, B, C, reverse, outputs)


class _TritonScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, outputs: int
    ) -> Tensor:
        x, step, A, B, C = (t.contiguous() for t in (x, step, A, B, C))
        batch, length, channels = x.shape
        state = A.shape[1]
        keep = any(ctx.needs_input_grad)
        chunks = triton.cdiv(length, _CHUNK)
        y = x.new_empty(batch, outputs, channels)
        borders = x.new_empty((batch, chunks, channels, state) if keep else (1,))
        grid = (batch, triton.cdiv(channels, _CHANNELS))
        _forward_kernel[grid](
            x,
            step,
            A,
            B,
            C,
            y,
            borders,
            length,
            channels,
            outputs,
            chunks,
            STATE=state,
            PADDED=triton.next_power_of_2(state),
            CHANNELS=_CHANNELS,
            CHUNK=_CHUNK,
            REVERSE=reverse,
            KEEP_BORDERS=keep,
            num_warps=1,
        )
        ctx.save_for_backward(x, step, A, B, C, borders)
        ctx.reverse, ctx.outputs = reverse, outputs
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, step, A, B, C, borders = ctx.saved_tensors
        batch, length, channels = x.shape
        state = A.shape[1]
        chunks, blocks = triton.cdiv(length, _CHUNK), triton.cdiv(channels, _CHANNELS)
        padded = triton.next_power_of_2(state)
        gx, gstep = torch.empty_like(x), torch.empty_like(step)
        ga = x.new_empty(batch, channels, state)
        gb = x.new_empty(batch, blocks, length, state)
        gc = x.new_zeros(batch, blocks, length, state)
        scratch = x.new_empty(batch, blocks, _CHUNK, _CHANNELS, padded)
        _backward_kernel[(batch, blocks)](
            x,
            step,
            A,
            B,
            C,
            gy.contiguous(),
            borders,
            scratch,
            gx,
            gstep,
            ga,
            gb,
            gc,
            length,
            channels,
            ctx.outputs,
            chunks,
            blocks,
            STATE=state,
            PADDED=padded,
            CHANNELS=_CHANNELS,
            CHUNK=_CHUNK,
            REVERSE=ctx.reverse,
            num_warps=1,
        )
        return gx, gstep, ga.sum(0), gb.sum(1), gc.sum(1), None, None
