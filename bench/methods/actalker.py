"""ACTalker as methods: the embedded model on synthetic faces, a full-size model folder on real ones."""

from __future__ import annotations

import math
import os
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import MissingError
from bench.keys import file_digest
from bench.methods.base import Video
from bench.spec import Gate, MethodSpec, Sample, WeightRef
from bench.store.home import Home

if TYPE_CHECKING:
    from actalker.pipeline import ACTalkerPipeline

GATES = ("audio", "visual", "audio+visual")
_MODEL = "ACTALKER_MODEL"


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


def _weights(folder: Path) -> tuple[WeightRef, ...]:
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return tuple(WeightRef(str(p.relative_to(folder)), file_digest(p)) for p in files)


def _animate(pipeline: ACTalkerPipeline, sample: Sample, gate: Gate, seed: int) -> Video:
    fps = pipeline.config.fps
    clip = pipeline(
        sample.image,
        audio=sample.audio,
        video=sample.video,
        gate=gate.name,
        seed=seed,
        frames=math.ceil(sample.frames * fps / sample.fps),
        shortest=True,
    )
    return Video(clip.frames, fps=clip.fps)


class EmbeddedACTalker:
    """The small ACTalker that ships with the project, trained on the synthetic world."""

    spec = MethodSpec(
        name="actalker",
        version="1",
        gates=GATES,
        kind="model",
        domains=("synthetic",),
        weights=_weights(_package() / "embedded" / "model"),
        seconds_per_frame=0.1,
        summary="ACTalker, embedded: same classes, small, trained on the synthetic world",
    )
    code_modules = _model_code()

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """See `bench.methods.base.Method.generate`."""
        return _animate(self._pipeline, sample, gate, seed)

    @cached_property
    def _pipeline(self) -> ACTalkerPipeline:
        from actalker import embedded

        return embedded.load()


def model_folder() -> Path:
    """Return where a full-size model is looked for: `$ACTALKER_MODEL`, else `<home>/models/actalker`."""
    chosen = os.environ.get(_MODEL)
    return Path(chosen).expanduser() if chosen else Home().path / "models" / "actalker"


class FullACTalker:
    """A full-size ACTalker, from a folder written by `python -m actalker convert` or by training."""

    spec = MethodSpec(
        name="actalker-full",
        version="1",
        gates=GATES,
        kind="model",
        domains=("real",),
        weights=_weights(model_folder()),
        gpus=1.0,
        memory_gb=22.0,
        seconds_per_frame=4.0,
        summary="ACTalker, full size, from a converted or trained model folder",
    )
    code_modules = _model_code()

    @classmethod
    def state(cls) -> str:
        """Return `ready`, or what is missing and how to get it."""
        folder = model_folder()
        if (folder / "model_index.json").is_file():
            return "ready"
        return f"no model in {folder}; convert checkpoints with `python -m actalker convert`, or set ${_MODEL}"

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """See `bench.methods.base.Method.generate`."""
        return _animate(self._pipeline, sample, gate, seed)

    @cached_property
    def _pipeline(self) -> ACTalkerPipeline:
        from actalker.pipeline import ACTalkerPipeline

        if self.state() != "ready":
            raise MissingError(f"ACTalker cannot start: {self.state()}.", "See docs/actalker.md.")
        return ACTalkerPipeline.from_pretrained(model_folder())
