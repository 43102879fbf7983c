"""Time, FLOPs and memory of one guided UNet evaluation: straightforward against the package's own.

    python tests/performance/actalker_unet.py                    small model, CPU
    python tests/performance/actalker_unet.py --device cuda      the full model at 576x576, 25 frames, fp16
    python tests/performance/actalker_unet.py --count            work of the full model, nothing is run
    ... --dtype bfloat16   precision on CUDA       ... --compile   ours with its blocks compiled

"Straightforward" is `actalker_straightforward.py`: the same modules in the released code's order of work. Both use
the same fused attention and scan; what the released code does besides (index arrays, masks resampled in every
layer) is left out. Counted are TFLOP of matrix products, convolutions and attention (2 per multiply-add, no scan),
operations that start a kernel, and TB they read and write at half precision, each operation on its own.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from actalker_straightforward import four_rows, straightforward
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from actalker.attention import Context
from actalker.conditions import Conditions
from actalker.control import ControlConfig, cast
from actalker.gates import GATES
from actalker.guidance import Guidance, guidance_rows, row_context, stack_contexts
from actalker.masks import box_mask, control_masks
from actalker.unet import ACTalkerUNet, InnerFeatures, UNetConfig

SMALL = UNetConfig(
    channels=(64, 128, 128), heads=(1, 2, 2), attention=(True, True, False), condition=256,
    control=ControlConfig(state=8),
)  # fmt: skip


def conditions_for(gate: str, config: UNetConfig, frames: int, side: int, tokens: int, device: str) -> Conditions:
    gates = GATES[gate]
    face = box_mask((side * 2, side * 2, side * 6, side * 6), side * 8, side * 8)
    mouth = box_mask((side * 3, side * 4, side * 5, side * 6), side * 8, side * 8)
    width = config.condition

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device)

    return Conditions(
        reference=draw(1, 1, 4, side, side),
        identity=draw(1, 1, 1, width),
        audio=draw(1, frames, tokens, width) if gates.audio else None,
        silence=draw(1, 1, tokens, width) if gates.audio else None,
        motion=draw(1, frames, 1, width) if gates.visual else None,
        stillness=draw(1, 1, 1, width) if gates.visual else None,
        masks=control_masks(face, mouth, audio=gates.audio, visual=gates.visual, mode="released"),
    )


def calls(
    unet: ACTalkerUNet,
    gate: str,
    frames: int,
    side: int,
    tokens: int,
    device: str,
    inner: InnerFeatures | None = None,
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    """(straightforward, ours): functions that return the guided prediction."""
    dtype = unet.conv_in.weight.dtype
    torch.manual_seed(0)
    conditions = conditions_for(gate, unet.config, frames, side, tokens, device)
    guidance = Guidance()
    noisy = torch.randn(1, frames, 4, side, side, device=device)
    ids = torch.tensor([[12.5, 12.0, 20.0]], device=device)

    def guided(context: Context, references: torch.Tensor, weights: list[float]) -> torch.Tensor:
        rows = len(weights)
        sample = torch.cat([noisy.expand(rows, -1, -1, -1, -1), references.expand(-1, frames, -1, -1, -1)], 2)
        tokens = (context.identity, context.audio, context.motion)
        context = Context(*(None if t is None else t.to(dtype) for t in tokens))  # type: ignore[arg-type]
        out = unet(sample.to(dtype), 0.5, context, conditions.masks, ids, inner=inner)
        return sum(weight * row for weight, row in zip(weights, out.float(), strict=True))  # type: ignore[return-value]

    z = conditions.reference

    def plain() -> torch.Tensor:
        context, weights = four_rows(guidance, conditions, tokens, 1, frames)
        return guided(context, torch.cat([z * 0, z, z, z]), weights)

    def ours() -> torch.Tensor:
        rows = guidance_rows(guidance, GATES[gate])
        context = stack_contexts([row_context(row, conditions, frames) for row in rows])
        references = torch.cat([z if row.appearance else z * 0 for row in rows])
        return guided(context, references, [row.weight for row in rows])

    return plain, ours


@dataclass
class Work:
    """What a call asks of a device: TFLOP, operations that start a kernel, TB read and written by them."""

    tflop: float = 0.0
    kernels: int = 0
    terabytes: float = 0.0


class _Counter(TorchDispatchMode):
    """Counts operations and the memory they touch, each on its own as eager execution runs them."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        if not func.is_view and name not in _FREE:
            add(self.work, *tree_leaves((args, kwargs, result)))
        return result


_FREE = {"_unsafe_view", "detach", "dropout", "empty", "new_empty", "empty_like", "empty_strided", "_to_copy"}
"""Operations without a kernel in inference; conversions occur here only for constants."""


def add(work: Work, *touched: object) -> None:
    """Count one kernel that reads or writes each of these tensors once; a broadcast dimension costs nothing."""
    work.kernels += 1
    for tensor in touched:
        if isinstance(tensor, torch.Tensor):
            sizes = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
            work.terabytes += math.prod(sizes) * tensor.element_size() / 1e12


def count(call: Callable[[], torch.Tensor], plain: bool) -> Work:
    """Work of a call on the meta device; scan and attention count as one fused kernel each."""
    work = Work()

    def scan(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
             *args: object, outputs: int | None = None, **kwargs: object) -> torch.Tensor:  # fmt: skip
        y = u if outputs is None else u[:, :outputs]
        add(work, u, delta, B, C, y)
        return y

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        add(work, q, k, v, q)
        work.tflop += 4 * q.numel() * k.shape[-2] / 1e12
        return q

    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        stack.enter_context(patch("actalker.control.selective_scan", scan))
        stack.enter_context(patch("torch.nn.functional.scaled_dot_product_attention", attention))
        stack.enter_context(straightforward() if plain else nullcontext())
        stack.enter_context(counter)
        stack.enter_context(_Counter(work))
        call()
    work.tflop += counter.get_total_flops() / 1e12
    return work


def seconds(
    call: Callable[[], torch.Tensor], plain: bool, device: str, repeats: int
) -> tuple[float, float, torch.Tensor]:
    """(best time of a call, peak GiB on CUDA or nan, result)."""
    best, peak = float("inf"), float("nan")
    with straightforward() if plain else nullcontext():
        result = call()
        for _ in range(repeats):
            if device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            result = call()
            if device == "cuda":
                torch.cuda.synchronize()
                peak = torch.cuda.max_memory_allocated() / 2**30
            best = min(best, time.perf_counter() - start)
    return best, peak, result


def run(device: str, only_count: bool, repeats: int, dtype: torch.dtype, compiled: bool) -> None:
    """Print one line per gate."""
    full = only_count or device == "cuda"
    config, frames, side, tokens = (UNetConfig(), 25, 72, 32) if full else (SMALL, 8, 24, 8)
    with torch.device("meta"):
        meta = ACTalkerUNet(config).eval().requires_grad_(False)
    cast(meta, torch.float16)
    unet = None
    if not only_count:
        torch.manual_seed(0)
        with torch.device(device):
            unet = ACTalkerUNet(config).eval().requires_grad_(False)
        if device == "cuda":
            cast(unet, dtype)
    precision = dtype if device == "cuda" else torch.float32
    print(f"{'full' if full else 'small'} model, {frames} frames, {side * 8}x{side * 8} pixels, {device}, "
          f"{precision}, {torch.get_num_threads()} CPU threads, masks 'released'")  # fmt: skip
    for gate in GATES:
        before, after = (
            count(call, plain)
            for call, plain in zip(calls(meta, gate, frames, side, tokens, "meta"), (True, False), strict=True)
        )
        line = f"{gate:13s}"
        for name, unit, digits in (("tflop", "TFLOP", 3), ("kernels", "kernels", 0), ("terabytes", "TB", 3)):
            a, b = getattr(before, name), getattr(after, name)
            line += f"   {unit} {a:.{digits}f} -> {b:.{digits}f} ({a / b:.2f}x less)"
        _, again = calls(meta, gate, frames, side, tokens, "meta", InnerFeatures())
        count(again, False)
        line += f"   inner features known: TFLOP {count(again, False).tflop:.3f}"
        if unet is not None:
            plain, ours = calls(unet, gate, frames, side, tokens, device)
            slow, slow_gib, expected = seconds(plain, True, device, repeats)
            if compiled:
                unet.compile_blocks()
            fast, fast_gib, got = seconds(ours, False, device, repeats)
            for block in unet.modules():
                block._compiled_call_impl = None  # the straightforward path of the next gate runs as written
            worst = float((got - expected).abs().max() / expected.abs().max())
            line += (
                f"   s {slow:7.3f} -> {fast:7.3f} ({slow / fast:.2f}x)   largest relative difference {worst:.1e}"
            )
            if device == "cuda":
                line += f"   peak GiB {slow_gib:.1f} -> {fast_gib:.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    with torch.inference_mode():
        run(options.device, options.count, options.repeats, getattr(torch, options.dtype), options.compile)
