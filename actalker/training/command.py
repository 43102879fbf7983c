"""`python -m actalker train --config FILE`: builds the system, trains it, logs, validates, stores the result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from actalker.errors import InputError, MissingPackageError
from actalker.gates import GATES
from actalker.media import write_video
from actalker.pipeline import ACTalkerPipeline, choose_device
from actalker.training.ablation import ablate, rebuild
from actalker.training.config import TrainConfig
from actalker.training.data import (
    FPS,
    ClipSource,
    Manifest,
    Preparation,
    WindowSampler,
    prepare_all,
    step_generator,
)
from actalker.training.loop import Trainer, sample
from actalker.training.model import TrainedParts
from actalker.training.objective import Dropout

_VALIDATION_STREAM = 1


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
    return FullSystem(pipeline, dropout, masks, objective.noise_offset)


Build = Callable[[TrainConfig], System]


def train(config: TrainConfig, source: ClipSource | None = None, build: Build = build_system) -> Path:
    """Run (or continue) a training run; return the folder of the stored model.

    Args:
        config: the run.
        source: training clips; those of the config's manifest if None.
        build: makes the model in training. With Ray workers both it and `source` are sent to them.
    """
    config.run.out.mkdir(parents=True, exist_ok=True)
    if config.run.workers:
        from actalker.training.distributed import run_on_ray

        run_on_ray(config, _work, source, build)
    else:
        _work(config, source, build, 0, 1, _device(config), None)
    return config.run.out / "model"


def _device(config: TrainConfig) -> torch.device:
    name = config.run.device
    return choose_device(None if name == "auto" else name)


class _Shard:
    """Every `world`-th clip of a source, so that each worker prepares its own."""

    def __init__(self, source: ClipSource, rank: int, world: int) -> None:
        self.source, self.indices = source, range(rank, len(source), world)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.source[self.indices[index]]


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
    cache = data.cache if data.cache != Path() else None
    clips = _Shard(source if source is not None else Manifest(data.train), rank, world)
    features = prepare_all(clips, system.preparation, cache and cache / f"train_{rank}_of_{world}")
    trainer = Trainer(config, system.parts, WindowSampler(features, system.preparation), device, rank, wrap)
    if trainer.load(run.out) and rank == 0:
        print(f"continuing {run.out} from step {trainer.step}", flush=True)
    if rank:
        trainer.run(lambda *_: None, lambda _: None)
        return
    log = Log(run.out, run.tensorboard)
    validation = None
    if run.validate_every and data.validation != Path():
        held_out = prepare_all(Manifest(data.validation), system.preparation, cache and cache / "validation")
        validation = WindowSampler(held_out, system.preparation)

    def on_checkpoint(step: int) -> None:
        trainer.save(run.out)
        done = step == config.steps
        with trainer.ema.applied(system.parts):
            if validation is not None and (step % run.validate_every == 0 or done):
                log.write(step, validate(config, system, validation, run.out / "clips", step, device))
            if done:
                system.save(run.out / "model")

    finished = trainer.run(log.write, on_checkpoint)
    if not finished:
        print(f"stopped by max_minutes at step {trainer.step}; the same command continues", flush=True)
    elif not (run.out / "model").exists():
        on_checkpoint(trainer.step)
    log.close()


class Log:
    """Numbers per step: printed, appended to `log.jsonl`, and to TensorBoard if asked.

    Raises:
        MissingPackageError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self.path = folder / "log.jsonl"
        self.start = time.monotonic()
        self.writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingPackageError(
                    "TensorBoard logs need the tensorboard package",
                    "pip install 'actalker-bench[train]', or set tensorboard = false in [run].",
                ) from error
            self.writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        line = {"step": step, "seconds": round(time.monotonic() - self.start, 1), **numbers}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shown = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(f"step {step} {shown}", flush=True)
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.writer is not None:
            self.writer.close()


@torch.no_grad()
def validate(
    config: TrainConfig,
    system: System,
    sampler: WindowSampler,
    folder: Path,
    step: int,
    device: torch.device,
) -> dict[str, float]:
    """Generate held-out windows under every gate, write them beside the truth, and return their errors.

    The same windows are used at every validation. Each clip shows truth (left) and result (right).

    Returns:
        `validation/<gate>`: mean over clips of the PSNR in dB; `copy/<gate>`: the same for the reference.
    """
    system.parts.eval()
    frames = config.phases[-1].frames
    numbers = {}
    folder.mkdir(parents=True, exist_ok=True)
    for gates in GATES.values():
        generator = step_generator(config.run.seed, 0, 0, _VALIDATION_STREAM)
        window = sampler.draw(config.run.validation_clips, frames, gates, generator).to(device)
        made = sample(system.parts, window, gates, generator)
        latents = (window.clean, window.reference.expand_as(made), made)
        # Clip by clip: a codec may look at neighbouring frames.
        truth, copy, result = (torch.cat([system.decode(c) for c in x]).clamp(-1, 1).cpu() for x in latents)
        numbers[f"validation/{gates.name}"] = _psnr(truth, result, frames)
        numbers[f"copy/{gates.name}"] = _psnr(truth, copy, frames)
        pair = torch.cat([truth, result], 3).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
        name = gates.name.replace("+", "_")
        write_video(folder / f"{step:07d}_{name}.mp4", iter(pair), FPS)
    return numbers


def _psnr(truth: Tensor, result: Tensor, frames: int) -> float:
    """Mean over clips of the PSNR in dB of pictures (b * frames, 3, H, W) in [-1, 1]."""
    error = ((truth - result) / 2).square().unflatten(0, (-1, frames)).flatten(1).mean(1)
    return float((-10 * error.clamp_min(1e-10).log10()).mean())
