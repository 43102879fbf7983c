"""The training configuration: a TOML file read into frozen dataclasses.

Unknown keys are errors, with the known ones listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from actalker.errors import InputError
from actalker.masks import MaskMode
from actalker.reading import foreign, read_toml
from actalker.training.ablation import Ablation


@dataclass(frozen=True, slots=True)
class PhaseConfig:
    """One stretch of training.

    Attributes:
        steps: optimiser steps.
        batch: clips per micro-batch.
        frames: frames per clip; 1 trains on single frames, which is the fastest way to a first face.
        accumulation: micro-batches per optimiser step, over all workers together; each draws its own gate. What
            they are does not depend on the number of workers; a multiple of it keeps all of them busy.
        lr: peak learning rate; decays to `lr_end` by a cosine over the phase.
        lr_end: learning rate at the end of the phase.
    """

    steps: int
    batch: int = 1
    frames: int = 25
    accumulation: int = 4
    lr: float = 1e-5
    lr_end: float = 1e-5


@dataclass(frozen=True, slots=True)
class GatesConfig:
    """How often each gate is drawn (paper §3.4: one of the three at random), and the masks of joint control."""

    audio: float = 1 / 3
    visual: float = 1 / 3
    both: float = 1 / 3
    masks: MaskMode = "paper"


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """AdamW, warm-up, clipping and averaging."""

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    warm_up: int = 10
    clip: float = 1.0
    ema: float = 0.9999


@dataclass(frozen=True, slots=True)
class ObjectiveConfig:
    """Noise offset and conditioning dropout; the noise levels belong to the model's schedule."""

    noise_offset: float = 0.05
    drop_all: float = 0.05
    drop_driving: float = 0.05
    drop_motion: float = 0.05


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where clips come from.

    Attributes:
        train: manifest of the training clips, see `data.Manifest`.
        validation: manifest of held-out clips, or empty.
        cache: folder for what the frozen encoders computed, by content; default `features` below [run] out.
        variants: copies of each training clip; all but the first are cropped and coloured at random (released data
            set class), which takes that many times the space and preparation.
        prefetch: optimiser steps whose windows are cut ahead of time; 0 cuts them when they are needed.
    """

    train: Path
    validation: Path = Path()
    cache: Path = Path()
    variants: int = 1
    prefetch: int = 2


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Bookkeeping.

    Attributes:
        out: folder for checkpoints, logs and validation clips.
        seed: decides every random number.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `tf32` lets GPUs round the factors of matrix products to 10 bits; `bf16` and `fp16` also compute
            them in that type (autocast), `fp16` with a scaled loss.
        gradient_checkpointing: recompute activations in the backward pass.
        log_every, checkpoint_every, validate_every: in optimiser steps; 0 switches validation off.
        validation_clips: clips generated per gate at each validation.
        keep_checkpoints: how many to keep.
        background_checkpoints: go on training while a checkpoint is written.
        export: also write `model/` at every checkpoint, not only at the end.
        scores: names of `actalker.validation` entry points that score validation clips, e.g. `bench`; one that
            fails is said and left out.
        tensorboard: also write TensorBoard event files (needs the `tensorboard` package).
        wandb: project at Weights & Biases to log to (needs the `wandb` package), or empty.
        workers: Ray Train workers; 0 trains in this process without Ray, or in those of `torchrun`.
        gpus_per_worker: GPUs of each worker.
        max_failures: how often workers are started again, from the last checkpoint, after one died (Ray).
        shard: divide parameters, gradients and optimiser state over the workers (FSDP2) instead of copying them.
        compile: compile the UNet's blocks.
        max_steps: stop (resumably) after this step; 0 means no limit.
        max_minutes: stop (resumably) after this wall time; 0 means no limit.
    """

    out: Path
    seed: int = 0
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    log_every: int = 20
    checkpoint_every: int = 200
    validate_every: int = 0
    validation_clips: int = 2
    keep_checkpoints: int = 2
    background_checkpoints: bool = False
    export: bool = True
    scores: tuple[str, ...] = ()
    tensorboard: bool = False
    wandb: str = ""
    workers: int = 0
    gpus_per_worker: float = 0.0
    max_failures: int = 3
    shard: bool = False
    compile: bool = False
    max_steps: int = 0
    max_minutes: float = 0.0


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Train a low-rank adaptation of the UNet and nothing else (needs the `peft` package).

    Attributes:
        rank: of the matrices; 0 trains the weights themselves.
        alpha: scale times rank; 0 means the rank.
    """

    rank: int = 0
    alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole training run.

    Attributes:
        model: folder of a stored pipeline to start from, or a name `build_system` knows (`embedded`).
        phases: stretches of training, one after the other.
        ablation: train without one part of the control (paper Table 3), see `actalker.training.ablation.ablate`.
    """

    model: str
    data: DataConfig
    run: RunConfig
    phases: tuple[PhaseConfig, ...]
    ablation: Ablation = "none"
    gates: GatesConfig = field(default_factory=GatesConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)

    @property
    def cache(self) -> Path:
        """Folder of the prepared features."""
        return self.run.out / "features" if self.data.cache == Path() else self.data.cache

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> tuple[PhaseConfig, int]:
        """Return the phase of optimiser step `step` and the step within it."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError("the step lies beyond the last phase")


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file; relative paths in it are relative to the working directory.

    Raises:
        InputError: missing file, bad TOML, unknown or missing keys, values of the wrong type.
    """
    if not path.is_file():
        raise InputError(f"no training config at {path}", "For a complete one: bench show doc training")
    with foreign(path, InputError):
        config = _build(TrainConfig, read_toml(path, InputError), str(path))
    if not config.phases or min(p.steps for p in config.phases) < 1:
        raise InputError(f"{path}: [[phases]] needs at least one entry with steps >= 1")
    for i, phase in enumerate(config.phases):
        _check(phase, f"{path}, phases[{i}]")
    for part in (config.data, config.run, config.objective, config.optimiser, config.lora):
        _check(part, str(path))
    gates = config.gates
    if min(gates.audio, gates.visual, gates.both) < 0 or gates.audio + gates.visual + gates.both <= 0:
        raise InputError(f"{path}: [gates] needs non-negative weights with a positive sum")
    return config


_LEAST: Mapping[str, float] = {
    **dict.fromkeys(("batch", "frames", "accumulation", "variants", "log_every", "checkpoint_every"), 1),
    **dict.fromkeys(("validation_clips", "keep_checkpoints"), 1),
    **dict.fromkeys(("prefetch", "seed", "validate_every", "workers", "gpus_per_worker", "max_steps", "rank"), 0),
    **dict.fromkeys(("lr", "lr_end", "max_minutes", "warm_up", "clip", "weight_decay", "alpha"), 0),
}
_SHARES = ("ema", "drop_all", "drop_driving", "drop_motion")


def _check(part: Any, where: str) -> None:
    """Refuse numbers nothing can be done with.

    Raises:
        InputError: naming the key and the least it may be.
    """
    for name in (f.name for f in fields(part)):
        value = getattr(part, name)
        if name in _LEAST and not value >= _LEAST[name]:
            raise InputError(f"{where}, {name}: at least {_LEAST[name]} is needed, got {value}")
        if name in _SHARES and not 0 <= value <= 1:
            raise InputError(f"{where}, {name}: a share between 0 and 1 is needed, got {value}")


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a table, got {values!r}")
    hints, known = get_type_hints(cls), {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{where}: unknown keys {', '.join(unknown)}", f"Known keys: {', '.join(sorted(known))}.")
    made = {name: _value(hints[name], value, f"{where}, {name}") for name, value in values.items()}
    try:
        return cls(**made)
    except TypeError as error:
        missing = str(error).split(":")[-1].strip()
        raise InputError(f"{where}: missing keys {missing}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, where)
    if hint == tuple[PhaseConfig, ...]:
        if not isinstance(value, list):
            raise InputError(f"{where}: expected [[phases]] tables")
        return tuple(_build(PhaseConfig, item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{where}: expected a list of names, got {value!r}")
        return tuple(value)
    if hint == tuple[float, float]:
        return tuple(float(item) for item in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    options = get_args(hint)
    if options and value not in options:
        raise InputError(f"{where}: {value!r} is not one of {', '.join(map(str, options))}")
    if not options and not (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        raise InputError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
