"""ACTalker as methods: the embedded model and its ablations on synthetic faces, a full-size model on real ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import MissingError
from bench.core.keys import file_digest
from bench.core.spec import Gate, MethodSpec, Option, Sample, WeightRef
from bench.methods.base import Video
from bench.store.home import Home
from bench.weights import content, folders

if TYPE_CHECKING:
    from actalker.pipeline import ACTalkerPipeline
    from actalker.training.ablation import Ablation

GATES = ("audio", "visual", "audio+visual")
READY = "ready"
_MODEL = "ACTALKER_MODEL"
_INDEX = "model_index.json"
_SMALL = 2**30
"""Bytes of weights below which a model needs no GPU; at full size the UNet alone has 3.5 GB."""


def _package() -> Path:
    spec = find_spec("actalker")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("actalker is not installed")
    return Path(spec.origin).parent


def _model_code() -> tuple[str, ...]:
    """Return the modules behind the model's output: all but training and the command line."""
    root = _package()
    files = [
        p for p in sorted(root.rglob("*.py")) if "training" not in p.parts and p.name not in ("cli.py", "train.py")
    ]
    return tuple(str(p) for p in files)


def _weights(folder: Path, digest: Callable[[Path], str] = content) -> tuple[WeightRef, ...]:
    """Return everything in a model folder that decides its output: weights and settings."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".bin", ".json"))
    return tuple(WeightRef(str(p.relative_to(folder)), digest(p)) for p in files)


def _load(state: str, folder: Path) -> ACTalkerPipeline:
    from actalker.pipeline import ACTalkerPipeline

    if state != READY:
        raise MissingError(f"ACTalker cannot start: {state}.", "See: bench show doc actalker")
    return ACTalkerPipeline.from_pretrained(folder)


_OPTIONS: Mapping[str, Option] = {
    "steps": Option(kind="int", low=1, summary="sampling steps; the model's own number by default"),
    "guidance_appearance": Option(kind="float", summary="guidance scale of the portrait"),
    "guidance_audio": Option(kind="float", summary="guidance scale of the speech"),
    "guidance_motion": Option(kind="float", summary="guidance scale of the driving video"),
    "masks": Option(
        kind="str",
        choices=("paper", "overlap", "released", "none"),
        summary="where speech and driving video act; the model's own mode by default",
    ),
}


def _animate(
    pipeline: ACTalkerPipeline, sample: Sample, gate: Gate, seed: int, settings: Mapping[str, Any]
) -> Video:
    fps = pipeline.config.fps
    count = math.ceil(sample.frames * fps / sample.fps)
    scales = {k.removeprefix("guidance_"): v for k, v in settings.items() if k.startswith("guidance_")}
    clip = pipeline(
        sample.image,
        audio=_lasting(sample.audio, count / fps, 2 / fps) if gate.audio else None,
        video=sample.video,
        gate=gate.name,
        seed=seed,
        frames=count,
        shortest=True,
        steps=settings.get("steps"),
        masks=settings.get("masks"),
        guidance=replace(pipeline.config.sampler.guidance, **scales) if scales else None,
    )
    config = pipeline.config
    return Video(
        clip.frames,
        fps=clip.fps,
        heard=segment_ends(clip.count, config.segment_frames, config.segment_overlap),
    )


def _lasting(audio: Path | None, seconds: float, most: float) -> Any:
    """Return the sound, with silence behind it where at most `most` of `seconds` are missing.

    Clips end with their last frame, which a model with a lower rate shows longer.
    """
    from actalker.components import SAMPLE_RATE
    from actalker.media import read_audio

    if audio is None:
        return None
    waveform = read_audio(audio)
    missing = math.ceil(seconds * SAMPLE_RATE) - len(waveform)
    return np.pad(waveform, (0, missing)) if 0 < missing <= most * SAMPLE_RATE else waveform


def segment_ends(count: int, frames: int, overlap: int) -> list[int]:
    """Return for each of `count` frames the end of the segment it is finished with, as the pipeline cuts them."""
    ends: list[int] = []
    done = 0
    while done < count:
        done = min(count, done + frames - (overlap if done else 0))
        held = overlap if done < count else 0
        ends += [done] * (done - held - len(ends))
    return ends


class EmbeddedACTalker:
    """The small ACTalker that ships with the project, trained on the synthetic world."""

    spec = MethodSpec(
        name="actalker",
        version="1",
        gates=GATES,
        kind="model",
        domains=("synthetic",),
        # Small enough to hash each time; remembering digests would write into the user's home.
        weights=_weights(_package() / "embedded" / "model", file_digest),
        seconds_per_frame=0.1,
        summary="ACTalker, embedded: same classes, small, trained on the synthetic world",
        options=_OPTIONS,
    )
    code_modules = _model_code()

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """See `bench.methods.base.Method.generate`."""
        return _animate(self._pipeline, sample, gate, seed, self.settings)

    @cached_property
    def _pipeline(self) -> ACTalkerPipeline:
        from actalker import embedded

        return embedded.load()


class AblatedACTalker:
    """A row of the paper's Table 3: the embedded model without one part of its control, as a user trained it.

    Args:
        name: the method's name, and that of its folder among the weights.
        ablation: as `actalker.training.ablation` names it.
        summary: one line for `bench list methods`.
        settings: values of `spec.options`.
    """

    code_modules = _model_code()

    def __init__(self, name: str, ablation: Ablation, summary: str, **settings: Any) -> None:
        self.name, self.ablation, self.summary, self.settings = name, ablation, summary, settings
        self.spec = replace(
            EmbeddedACTalker.spec,
            name=self.name,
            weights=_weights(self.folder()),
            default=False,
            summary=f"ablation of actalker: {summary}",
        )

    def configured(self, **settings: Any) -> AblatedACTalker:
        """Return this model with other settings."""
        return AblatedACTalker(self.name, self.ablation, self.summary, **settings)

    def folder(self) -> Path:
        """Return where the model is, or belongs: below `$BENCH_WEIGHTS`, else below `<home>/weights`."""
        places = [folder / self.name for folder in folders()]
        return next((place for place in places if (place / _INDEX).is_file()), places[0])

    def state(self) -> str:
        """Return `ready`, or what is missing and how to get it."""
        if (self.folder() / _INDEX).is_file():
            return READY
        train = f"python -m actalker.embedded.train --ablation {self.ablation}"
        return f"not trained. Run: {train} (bench show doc training)"

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """See `bench.methods.base.Method.generate`."""
        return _animate(self._pipeline, sample, gate, seed, self.settings)

    @cached_property
    def _pipeline(self) -> ACTalkerPipeline:
        return _load(self.state(), self.folder())


NO_PCM = AblatedACTalker(
    "actalker-no-pcm", "no-pcm", "spatial cross-attention in place of the parallel-control Mamba layers"
)
NO_MASK_DROP = AblatedACTalker(
    "actalker-no-mask-drop", "no-mask-drop", "every open signal acts on the whole picture"
)
NO_IDENTITY = AblatedACTalker("actalker-no-identity", "no-identity", "no identity token in the control layers")
WHOLE = AblatedACTalker("actalker-whole", "none", "nothing left out, on the ablations' shorter schedule")


def model_folder() -> Path:
    """Return where a full-size model is looked for: `$ACTALKER_MODEL`, else `<home>/models/actalker`."""
    chosen = os.environ.get(_MODEL)
    return Path(chosen).expanduser() if chosen else Home().path / "models" / "actalker"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker needs for a model, by the size of its weights: a toy runs on a CPU."""

    gpus: float = 1.0
    memory_gb: float = 22.0
    seconds_per_frame: float = 4.0

    @classmethod
    def of(cls, folder: Path) -> Needs:
        """Return what the model in a folder needs; a full-size one where there is none yet."""
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        return cls(gpus=0.0, memory_gb=4.0, seconds_per_frame=0.1) if 0 < size < _SMALL else cls()


_NEEDS = Needs.of(model_folder())


class FullACTalker:
    """A full-size ACTalker, from a folder written by `python -m actalker convert` or by training."""

    spec = MethodSpec(
        name="actalker-full",
        version="1",
        gates=GATES,
        kind="model",
        domains=("real",),
        weights=_weights(model_folder()),
        gpus=_NEEDS.gpus,
        memory_gb=_NEEDS.memory_gb,
        seconds_per_frame=_NEEDS.seconds_per_frame,
        summary="ACTalker, full size, from a converted or trained model folder",
        options=_OPTIONS,
    )
    code_modules = _model_code()

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    @classmethod
    def state(cls) -> str:
        """Return `ready`, or what is missing and how to get it."""
        if (model_folder() / _INDEX).is_file():
            return READY
        return f"not there. Run: python -m actalker convert, or set ${_MODEL} (bench show doc actalker)"

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """See `bench.methods.base.Method.generate`."""
        return _animate(self._pipeline, sample, gate, seed, self.settings)

    @cached_property
    def _pipeline(self) -> ACTalkerPipeline:
        return _load(self.state(), model_folder())
