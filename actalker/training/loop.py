"""The optimiser loop, resumable to the exact step on any number of workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from actalker.errors import CheckpointError, DivergedError
from actalker.gates import GATES, Gates
from actalker.training.checkpoints import Checkpoints
from actalker.training.config import GatesConfig, PhaseConfig, TrainConfig
from actalker.training.data import Window, WindowSampler, step_generator
from actalker.training.ema import Ema
from actalker.training.model import TrainedParts

_DATA, _NOISE = 2, 3
"""Streams of random numbers, see `data.step_generator`."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

Callback = Callable[[int, Mapping[str, float]], None]


def draw_gates(config: GatesConfig, generator: torch.Generator) -> Gates:
    """Draw which control branches are open; never neither (paper §3.4)."""
    weights = torch.tensor([config.audio, config.visual, config.both], dtype=torch.float32)
    choice = int(torch.multinomial(weights, 1, generator=generator))
    return (Gates(True, False), Gates(False, True), Gates(True, True))[choice]


def learning_rate(phase: PhaseConfig, step: int, warm_up: int) -> float:
    """Return the learning rate of step `step` of a phase: linear warm-up, then a cosine to `lr_end`."""
    decayed = phase.lr_end + (phase.lr - phase.lr_end) * (0.5 + 0.5 * math.cos(math.pi * step / phase.steps))
    return decayed * min(1.0, (step + 1) / max(1, warm_up))


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast | nullcontext[None]:
    """The mixed-precision context of a run."""
    dtype = _AUTOCAST.get(config.run.precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _attention(device: torch.device) -> AbstractContextManager[Any]:
    """Plain attention on the CPU: over the short sequences of small models its backward pass is the faster one."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _local_size(gradient: Any) -> Tensor:
    """Sum of the absolute values of this worker's part of a gradient."""
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return torch.linalg.vector_norm(local, 1)


def _any_worker(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds on any worker: one that stopped alone would leave the others waiting for gradients."""
    if not dist.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


Batch = tuple[int, Gates, Window]
"""A micro-batch: its place in the step, its gates and its windows."""


class Loader:
    """The micro-batches of one worker, cut ahead of time in a thread.

    Micro-batch s of a step is a function of (seed, step, s) and belongs to worker s modulo the number of workers:
    neither the number of workers nor the thread decides what is trained on.

    Args:
        config: the run.
        sampler: cuts the windows.
        rank, world: number of this worker and of all.
    """

    def __init__(self, config: TrainConfig, sampler: WindowSampler, rank: int, world: int) -> None:
        self.config, self.sampler, self.rank, self.world = config, sampler, rank, world
        self._executor = ThreadPoolExecutor(1, "windows") if config.data.prefetch else None
        self._ahead: dict[int, Future[list[Batch]]] = {}

    def take(self, step: int) -> list[Batch]:
        """This worker's micro-batches of a step."""
        if self._executor is None:
            return self._cut(step)
        for coming in range(step, min(step + self.config.data.prefetch + 1, self.config.steps)):
            if coming not in self._ahead:
                self._ahead[coming] = self._executor.submit(self._cut, coming)
        return self._ahead.pop(step).result()

    def first(self, step: int) -> list[Batch]:
        """The first micro-batch of a step, whoever it belongs to."""
        return self._cut(step, range(1))

    def close(self) -> None:
        """End the thread; windows cut in vain are dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._ahead.clear()
            self._executor = ThreadPoolExecutor(1, "windows")

    def _cut(self, step: int, slots: range | None = None) -> list[Batch]:
        phase, _ = self.config.phase(step)
        batches = []
        for slot in range(self.rank, phase.accumulation, self.world) if slots is None else slots:
            generator = step_generator(self.config.run.seed, step, slot, _DATA)
            gates = draw_gates(self.config.gates, generator)
            batches.append((slot, gates, self.sampler.draw(phase.batch, phase.frames, gates, generator)))
        return batches


class Trainer:
    """Trains `TrainedParts` on one worker.

    All randomness of a step is a function of (seed, step, micro-batch), and the checkpoint holds parameters,
    optimiser, average and step, so a resumed run continues as if it had not been interrupted: with the same bits
    on one worker, to rounding on another number of them.

    Args:
        config: the run.
        parts: modules to train, on `device`.
        sampler: training windows.
        device: where to train.
        rank: number of this worker.
        wrap: makes the module that is called in each step: DistributedDataParallel, or the same one, sharded.
        world: number of workers.
    """

    def __init__(
        self,
        config: TrainConfig,
        parts: TrainedParts,
        sampler: WindowSampler,
        device: torch.device,
        rank: int = 0,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        world: int = 1,
    ) -> None:
        self.config, self.parts, self.device, self.rank, self.world = config, parts, device, rank, world
        self.loader = Loader(config, sampler, rank, world)
        parts.unet.set_gradient_checkpointing(config.run.gradient_checkpointing)
        if device.type == "cuda" and config.run.precision != "fp32":  # TF32 for what autocast leaves
            torch.set_float32_matmul_precision("high")
        if config.run.compile:
            parts.unet.compile_blocks()
        self.call = wrap(parts) if wrap else parts
        self.sharded = hasattr(self.call, "set_requires_gradient_sync")
        trained = {name: p for name, p in parts.named_parameters() if p.requires_grad}
        self.names, self.parameters = list(trained), list(trained.values())
        decaying = [p for p in self.parameters if p.ndim > 1]
        constant = [p for p in self.parameters if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decaying, "weight_decay": config.optimiser.weight_decay},
                {"params": constant, "weight_decay": 0.0},
            ],
            lr=config.phases[0].lr,
            betas=config.optimiser.betas,
            fused=device.type == "cuda" or None,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.run.precision == "fp16")
        self.ema = Ema(parts, config.optimiser.ema)
        self.step = 0
        self._checkpoints: Checkpoints | None = None

    def train_step(self) -> dict[str, float]:
        """Make one optimiser step; return loss and loss per gate of all workers, gradient norm, learning rate.

        Raises:
            DivergedError: the gradients are not finite; weights and checkpoints are as before this step.
        """
        phase, within = self.config.phase(self.step)
        rate = learning_rate(phase, within, self.config.optimiser.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        self.parts.train()
        batches = self.loader.take(self.step)
        sums = torch.zeros(len(GATES), 2, dtype=torch.float64)
        names = list(GATES)
        rounds = -(-phase.accumulation // self.world)
        # A worker with nothing left takes part with a weight of zero: the others wait for its gradients.
        spare = batches or self.loader.first(self.step)
        for turn in range(rounds):
            real = turn < len(batches)
            slot, gates, window = batches[turn] if real else spare[-1]
            noise = step_generator(self.config.run.seed, self.step, slot, _NOISE)
            with self._gradients(exchange=turn == rounds - 1), _attention(self.device):
                with autocast(self.config, self.device):
                    loss = self.call(window.to(self.device), gates, noise).mean()
                weight = self.world / phase.accumulation if real else 0.0
                self.scaler.scale(loss * weight).backward()
            if real:
                sums[names.index(gates.name)] += torch.tensor([float(loss.detach()), 1.0])
        self._forget_unused()
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        # With a scaled loss that happens at times: the scaler leaves such a step out.
        if not (self.scaler.is_enabled() or math.isfinite(float(norm))):
            raise DivergedError(
                f"the gradients of step {self.step + 1} are not finite: training has diverged",
                "Continue from the last checkpoint with a lower lr in [[phases]].",
            )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.ema.update(self.parts)
        self.step += 1
        if self.world > 1:
            shared = sums.to(self.device, torch.float32 if self.device.type == "mps" else torch.float64)
            dist.all_reduce(shared)
            sums = shared.cpu()
        per_gate = {
            f"loss/{name}": float(total / count) for name, (total, count) in zip(names, sums, strict=True) if count
        }
        total = float(sums[:, 0].sum() / sums[:, 1].sum())
        return {"loss": total, "gradient_norm": float(norm), "lr": rate, **per_gate}

    def _gradients(self, *, exchange: bool) -> AbstractContextManager[Any]:
        """Exchange gradients with the other workers after this backward pass, or add them up first."""
        if self.sharded:
            self.call.set_requires_gradient_sync(exchange)  # type: ignore[operator]
            return nullcontext()
        no_sync = getattr(self.call, "no_sync", nullcontext)
        return nullcontext() if exchange else no_sync()

    def _forget_unused(self) -> None:
        """Leave alone what this step's micro-batches did not use, such as a branch that was closed in all of them.

        How the workers divide the micro-batches decides whether such a gradient is absent or zero.
        """
        used = [p for p in self.parameters if p.grad is not None]
        sizes = torch.stack([_local_size(p.grad) for p in used])
        if self.sharded:
            dist.all_reduce(sizes, dist.ReduceOp.MAX)
        for parameter, size in zip(used, sizes.tolist(), strict=True):
            if size == 0:
                parameter.grad = None

    def run(self, on_log: Callback, on_checkpoint: Callable[[int], None]) -> bool:
        """Train until the last step or the time limit; return True when the last step was made.

        Args:
            on_log: receives the step and means since the last call, every `log_every` steps.
            on_checkpoint: called every `checkpoint_every` steps and at the end.
        """
        run, start = self.config.run, time.monotonic()
        end = min(self.config.steps, run.max_steps or self.config.steps)
        sums: dict[str, list[float]] = {}
        try:
            while self.step < end:
                for name, value in self.train_step().items():
                    sums.setdefault(name, []).append(value)
                done = self.step == end
                if self.step % run.log_every == 0 or done:
                    on_log(self.step, {name: sum(v) / len(v) for name, v in sums.items()})
                    sums.clear()
                late = run.max_minutes > 0 and _any_worker(
                    time.monotonic() - start > 60 * run.max_minutes, self.device
                )
                if self.step % run.checkpoint_every == 0 or done or late:
                    on_checkpoint(self.step)
                if late and not done:
                    return False
        finally:
            self.loader.close()
            if self._checkpoints is not None:
                self._checkpoints.wait()
        return self.step == self.config.steps

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue exactly, as tensors by name."""
        run, scaler = self.config.run, self.scaler.state_dict()
        state = {f"parts.{name}": value for name, value in self.parts.state_dict().items()}
        state |= {f"ema.{name}": value for name, value in self.ema.shadow.items()}
        # One vector instead of a number per tensor: what a checkpoint costs goes by the number of entries.
        steps = torch.zeros(len(self.names))
        for i, name in enumerate(self.names):
            made = self.optimiser.state.get(self.parameters[i], {})
            steps[i] = made.get("step", 0.0)
            state |= {f"optimiser.{name}.{key}": made[key] for key in _MOMENTS if key in made}
        state["optimiser_steps"] = steps
        state["run"] = torch.tensor([self.step, run.seed, self.ema.updates])
        if scaler:
            state["scaler"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        return state

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of this step; a crash while writing leaves the previous one."""
        return self._at(folder).save(self.step, self.state())

    def load(self, folder: Path, step: int | None = None) -> bool:
        """Continue from the folder's last checkpoint, or that of `step`; return False when there is none.

        Raises:
            CheckpointError: it belongs to another model or another seed.
        """
        checkpoints = self._at(folder)
        there = checkpoints.steps()
        if not there or (step is not None and step not in there):
            return False
        step = there[-1] if step is None else step
        names = checkpoints.names(step)
        run, steps = torch.zeros(3, dtype=torch.int64), torch.zeros(len(self.names))
        kept = {name: value for name, value in self.state().items() if not name.startswith(("optimiser", "run"))}
        if "scaler" not in names:
            kept.pop("scaler", None)
        moments = {
            f"optimiser.{name}.{key}": torch.zeros_like(parameter.detach())
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key in _MOMENTS
            if f"optimiser.{name}.{key}" in names
        }
        with torch.no_grad():
            checkpoints.load(step, {**kept, **moments, "optimiser_steps": steps, "run": run})
        made, seed, updates = run.tolist()
        if seed != self.config.run.seed:
            raise CheckpointError(
                f"{checkpoints.path(step)} was made with seed {seed}, the config says {self.config.run.seed}",
                "Use another [run] out folder, or the same seed.",
            )
        for i, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
            mine = {key: moments.get(f"optimiser.{name}.{key}") for key in _MOMENTS}
            if None not in mine.values():
                at = self.device if self.device.type == "cuda" else None  # where the fused optimiser wants it
                self.optimiser.state[parameter] = {"step": steps[i].clone().to(at), **mine}
        if "scaler" in kept:
            scale, growth = kept["scaler"].tolist()
            self.scaler.load_state_dict(
                {**self.scaler.state_dict(), "scale": scale, "_growth_tracker": int(growth)}
            )
        self.step, self.ema.updates = made, updates
        return True

    def _at(self, folder: Path) -> Checkpoints:
        if self._checkpoints is None or self._checkpoints.folder.parent != folder:
            run = self.config.run
            self._checkpoints = Checkpoints(folder, run.keep_checkpoints, run.background_checkpoints)
        return self._checkpoints


@torch.no_grad()
def sample(
    parts: TrainedParts,
    window: Any,
    gates: Gates,
    generator: torch.Generator,
    steps: int | None = None,
) -> Tensor:
    """Generate the latents (b, f, c, h, w) of a window from noise, without guidance."""
    schedule = parts.schedule
    noise = torch.randn(window.clean.shape, generator=generator).to(window.clean)
    x = schedule.start(window.reference.expand_as(noise), noise)
    levels = schedule.levels(steps).float()
    for level, following in pairwise(levels):
        batch = level.expand(len(x)).to(x)
        prediction = parts.predict(x, batch, window, gates).float()
        x = schedule.step(prediction, x, level.to(x), following.to(x))
    return x
