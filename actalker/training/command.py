"""`python -m actalker train --config FILE`: builds the system, trains it, logs, validates, stores the result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from actalker.errors import CheckpointError, InputError
from actalker.pipeline import ACTalkerPipeline, choose_device
from actalker.training.ablation import ablate, rebuild
from actalker.training.config import TrainConfig
from actalker.training.data import ClipSource, Manifest, Preparation, WindowSampler, prepare_all
from actalker.training.log import Log
from actalker.training.loop import Trainer
from actalker.training.model import TrainedParts
from actalker.training.objective import Dropout
from actalker.training.validation import find_scores, validate


class System(Protocol):
    """A model in training: what is trained, how clips become windows, how latents become pictures."""

    parts: TrainedParts

    @property
    def preparation(self) -> Preparation:
        """Makes training windows."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, c, h, w) of consecutive frames to pictures (n, 3, H, W) in [-1, 1]."""
        ...

    def save(self, folder: Path) -> None:
        """Store the model with its present weights, ready for inference."""
        ...


def build_system(config: TrainConfig) -> System:
    """Build what the config names: `embedded:ENCODER_FOLDER` or a stored pipeline, without what it ablates."""
    objective, masks = config.objective, config.gates.masks
    dropout = Dropout(objective.drop_all, objective.drop_driving, objective.drop_motion)
    kind, _, rest = config.model.partition(":")
    if kind == "embedded":
        from actalker.embedded.build import UNET, EmbeddedSystem

        unet, masks = ablate(config.ablation, UNET, masks)
        return EmbeddedSystem(Path(rest), config.run.seed, dropout, masks, objective.noise_offset, unet)
    if not Path(config.model).is_dir():
        raise InputError(
            f"model {config.model!r} is neither `embedded:FOLDER` nor the folder of a stored pipeline"
        )
    from actalker.training.full import FullSystem

    pipeline = ACTalkerPipeline.from_pretrained(config.model, _device(config), torch.float32)
    unet, masks = ablate(config.ablation, pipeline.unet.config, masks)
    torch.manual_seed(config.run.seed)
    pipeline.unet = rebuild(pipeline.unet, unet)
    return FullSystem(pipeline, dropout, masks, objective.noise_offset, config.lora)


Build = Callable[[TrainConfig], System]


def train(config: TrainConfig, source: ClipSource | None = None, build: Build = build_system) -> Path:
    """Run (or continue) a training run; return the folder of the stored model.

    Args:
        config: the run.
        source: training clips; those of the config's manifest if None.
        build: makes the model in training. With Ray workers both it and `source` are sent to them.
    """
    from actalker.training import distributed

    find_scores(config.run.scores)  # a wrong name is said now, not at the first validation
    config.run.out.mkdir(parents=True, exist_ok=True)
    if config.run.workers:
        distributed.run_on_ray(config, _work, source, build)
    elif distributed.started_by_torchrun():
        distributed.run_as_worker(config, _work, source, build)
    else:
        _work(config, source, build, 0, 1, _device(config), None)
    return config.run.out / "model"


def _device(config: TrainConfig) -> torch.device:
    name = config.run.device
    return choose_device(None if name == "auto" else name)


def export(config: TrainConfig, out: Path, step: int | None = None, build: Build = build_system) -> int:
    """Store the model of a checkpoint, with averaged weights; return its step.

    Args:
        config: the run.
        out: the model folder.
        step: of the checkpoint; default the last one.
        build: makes the model in training.

    Raises:
        CheckpointError: the run has no such checkpoint.
    """
    system = build(config)
    trainer = Trainer(config, system.parts, WindowSampler([], system.preparation), torch.device("cpu"))
    if not trainer.load(config.run.out, step):
        raise CheckpointError(
            f"{config.run.out} has no checkpoint" + ("" if step is None else f" of step {step}"),
            "Train first: python -m actalker train --config FILE",
        )
    with trainer.ema.applied(system.parts):
        _store(system, out)
    return trainer.step


def describe(config: TrainConfig, clips: int, world: int = 1, build: Build = build_system) -> list[str]:
    """What a run would do, without doing it: parameters, memory and steps per epoch, a line each.

    Args:
        config: the run.
        clips: training clips.
        world: number of workers.
        build: makes the model in training.
    """
    system = build(config)
    sizes = [(p.numel(), p.requires_grad) for p in system.parts.parameters()]
    total, trained = sum(n for n, _ in sizes), sum(n for n, on in sizes if on)
    share = world if config.run.shard else 1
    # Weight, gradient, two moments, average: single precision each.
    memory = (4 * total + 16 * trained) / share
    phase = config.phases[-1]
    windows = phase.batch * phase.accumulation
    return [
        f"parameters: {total:,} in the trained parts, {trained:,} of them trained",
        f"memory per worker: {_size(memory)} for weights, gradients, optimiser and average"
        + (f", divided over {world} workers" if share > 1 else "")
        + "; activations, codec and encoders come on top",
        f"steps: {config.steps:,}",
        f"steps per epoch: {-(-clips // windows):,}, of {windows} windows each, for {clips:,} clips",
        f"micro-batches per worker and step: {-(-phase.accumulation // world)}",
    ]


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _store(system: System, out: Path) -> None:
    """Write a model folder that is whole at any moment."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    system.save(partial)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _work(
    config: TrainConfig,
    source: ClipSource | None,
    build: Build,
    rank: int,
    world: int,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] | None,
) -> None:
    run, data = config.run, config.data
    system = build(config)
    system.parts.to(device)
    clips = source if source is not None else Manifest(data.train)
    first = rank == 0
    workers: dict[str, Any] = {"rank": rank, "world": world, "report": _Patience() if first else _say_nothing}
    features = prepare_all(clips, system.preparation, config.cache, variants=data.variants, **workers)
    validation = None
    if run.validate_every and data.validation != Path():
        held_out = prepare_all(Manifest(data.validation), system.preparation, config.cache, **workers)
        validation = WindowSampler(held_out, system.preparation)
    sampler = WindowSampler(features, system.preparation)
    for phase in config.phases:
        sampler.require(phase.frames)
    if validation is not None:
        validation.require(config.phases[-1].frames)
    trainer = Trainer(config, system.parts, sampler, device, rank, wrap, world)
    continued = trainer.load(run.out)
    log = Log(run.out, trainer.step, config) if first else None
    if continued and first:
        print(f"continuing {run.out} from step {trainer.step}", flush=True)

    def on_log(step: int, numbers: Mapping[str, float]) -> None:
        if log is not None:
            log.write(step, numbers)

    def on_checkpoint(step: int) -> None:
        trainer.save(run.out)
        done = step == config.steps
        # With sharding every worker must take part in each call of the model.
        if not (first or trainer.sharded):
            return
        with trainer.ema.applied(system.parts):
            if validation is not None and (step % run.validate_every == 0 or done):
                numbers = validate(config, system, validation, step, device, write=first)
                if log is not None:
                    log.write(step, numbers)
            if done or run.export:
                _export_present(config, system, trainer, build, first)

    finished = trainer.run(on_log, on_checkpoint)
    if first and not finished:
        print(f"stopped at step {trainer.step}; the same command continues", flush=True)
    elif finished and not (run.out / "model").exists():
        on_checkpoint(trainer.step)
    if log is not None:
        log.close()


class _Patience:
    """Says every few seconds how far the preparation of the clips is."""

    seconds = 10.0

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            print(f"preparing clips: {done} of {total} done", flush=True)


def _say_nothing(done: int, total: int) -> None:
    pass


def _export_present(config: TrainConfig, system: System, trainer: Trainer, build: Build, first: bool) -> None:
    """Store the model with the weights it has now."""
    if not trainer.sharded:
        _store(system, config.run.out / "model")
        return
    state = {}
    for name, value in system.parts.state_dict().items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        if first:
            state[name] = whole.cpu()
    if first:
        plain = build(replace(config, run=replace(config.run, device="cpu")))
        plain.parts.load_state_dict(state)
        _store(plain, config.run.out / "model")
