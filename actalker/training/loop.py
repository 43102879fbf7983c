"""The optimiser loop: one process, resumable to the exact step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from actalker.errors import CheckpointError
from actalker.gates import Gates
from actalker.training.config import GatesConfig, PhaseConfig, TrainConfig
from actalker.training.data import WindowSampler, step_generator
from actalker.training.ema import Ema
from actalker.training.model import TrainedParts

CHECKPOINT = "checkpoint.pt"
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


def _attention(device: torch.device) -> AbstractContextManager[Any]:
    """Plain attention on the CPU: over the short sequences of small models its backward pass is the faster one."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _any_worker(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds on any worker: one that stopped alone would leave the others waiting for gradients."""
    if not dist.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


class Trainer:
    """Trains `TrainedParts` on one worker.

    All randomness of a step is a function of (seed, step, rank), and the checkpoint holds parameters,
    optimiser, average and step, so a resumed run continues as if it had not been interrupted.

    Args:
        config: the run.
        parts: modules to train, on `device`.
        sampler: training windows.
        device: where to train.
        rank: number of this worker.
        wrap: makes the module that is called in each step, e.g. DistributedDataParallel.
    """

    def __init__(
        self,
        config: TrainConfig,
        parts: TrainedParts,
        sampler: WindowSampler,
        device: torch.device,
        rank: int = 0,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        self.config, self.parts, self.sampler, self.device, self.rank = config, parts, sampler, device, rank
        parts.unet.set_gradient_checkpointing(config.run.gradient_checkpointing)
        self.parameters = [p for p in parts.parameters() if p.requires_grad]
        self.call = wrap(parts) if wrap else parts
        decaying = [p for p in self.parameters if p.ndim > 1]
        constant = [p for p in self.parameters if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decaying, "weight_decay": config.optimiser.weight_decay},
                {"params": constant, "weight_decay": 0.0},
            ],
            lr=config.phases[0].lr,
            betas=config.optimiser.betas,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.run.precision == "fp16")
        self.ema = Ema(parts, config.optimiser.ema)
        self.step = 0

    def train_step(self) -> dict[str, float]:
        """Make one optimiser step; return loss, loss per gate, gradient norm and learning rate."""
        phase, within = self.config.phase(self.step)
        generator = step_generator(self.config.run.seed, self.step, self.rank)
        rate = learning_rate(phase, within, self.config.optimiser.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        self.parts.train()
        numbers: dict[str, float] = {}
        total = 0.0
        for micro in range(phase.accumulation):
            gates = draw_gates(self.config.gates, generator)
            window = self.sampler.draw(phase.batch, phase.frames, gates, generator).to(self.device)
            last = micro == phase.accumulation - 1
            no_sync = getattr(self.call, "no_sync", nullcontext)
            with nullcontext() if last else no_sync(), _attention(self.device):
                with self.autocast():
                    loss = self.call(window, gates, generator).mean()
                self.scaler.scale(loss / phase.accumulation).backward()
            value = float(loss.detach())
            total += value / phase.accumulation
            numbers[f"loss/{gates.name}"] = value
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.ema.update(self.parts)
        self.step += 1
        return {"loss": total, "gradient_norm": float(norm), "lr": rate, **numbers}

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """The mixed-precision context of this run."""
        dtype = _AUTOCAST.get(self.config.run.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def run(self, on_log: Callback, on_checkpoint: Callable[[int], None]) -> bool:
        """Train until the last step or the time limit; return True when the last step was made.

        Args:
            on_log: receives the step and means since the last call, every `log_every` steps.
            on_checkpoint: called every `checkpoint_every` steps and at the end.
        """
        run, start = self.config.run, time.monotonic()
        sums: dict[str, list[float]] = {}
        while self.step < self.config.steps:
            for name, value in self.train_step().items():
                sums.setdefault(name, []).append(value)
            done = self.step == self.config.steps
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
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly."""
        return {
            "step": self.step,
            "parts": self.parts.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state_dict(),
            "scaler": self.scaler.state_dict(),
            "seed": self.config.run.seed,
        }

    def save(self, folder: Path) -> Path:
        """Write the checkpoint; a crash while writing leaves the previous one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CHECKPOINT
        partial = path.with_suffix(".partial")
        torch.save(self.state_dict(), partial)
        partial.rename(path)
        return path

    def load(self, folder: Path) -> bool:
        """Continue from the folder's checkpoint; return False when there is none.

        Raises:
            CheckpointError: it belongs to another model or another seed.
        """
        path = folder / CHECKPOINT
        if not path.exists():
            return False
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["seed"] != self.config.run.seed:
            raise CheckpointError(
                f"{path} was made with seed {state['seed']}, the config says {self.config.run.seed}",
                "Use another [run] out folder, or the same seed.",
            )
        try:
            self.parts.load_state_dict(state["parts"])
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit this model: {error}") from error
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema.load_state_dict(state["ema"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        return True


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
