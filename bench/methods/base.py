"""What a method is: a spec and a `generate` that turns a sample into a video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.core.errors import BenchError
from bench.core.spec import Cause, Gate, MethodSpec, Sample


class GenerationFailed(BenchError):
    """A method could not make a clip, and it is known why.

    Args:
        cause: decides whether the job is tried again, and whether the failure is recorded as a result.
        message: what happened.
        hint: what to type or look at next.
    """

    def __init__(self, cause: Cause, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.cause = cause

    def __reduce__(self) -> tuple[type, tuple[Cause, str, str]]:
        return type(self), (self.cause, self.message, self.hint)


@dataclass(frozen=True, slots=True)
class Video:
    """Frames on their way to the encoder.

    Attributes:
        frames: iterable of uint8 arrays (height, width, 3), RGB; consumed once, so a generator keeps
            memory bounded.
        fps: frame rate of `frames`.
        audio: int16 mono samples at 16 kHz to mux, or None to mux the sample's driving audio.
        heard: a method that streams says for each frame how many frames' worth of the driving signals it needs
            before that frame can be shown; None for one that needs all of them.
    """

    frames: Iterable[npt.NDArray[np.uint8]]
    fps: float = 25.0
    audio: npt.NDArray[np.int16] | None = None
    heard: Sequence[int] | None = None


class Method(Protocol):
    """A method that runs inside a worker; built once per worker, so it may keep a loaded model.

    Options that its spec declares arrive as keyword arguments of the class, only those that were set; what is an
    instance already gives a changed one by `configured(**settings)`.

    A method that keeps more than memory (a process, a folder) may have `close()`: it is called when the worker is
    done with it.
    """

    spec: MethodSpec

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Animate `sample.image`.

        Inputs closed by the gate arrive as None: `sample.audio` for `visual`, `sample.video` for `audio`.
        `sample.reference` and `sample.truth` arrive only for control rows. The video must have
        `sample.frames` frames (plus or minus one) at `sample.fps`.

        Raises:
            bench.core.spec.Unscored: the sample cannot be used by this method (recorded as an input error).
            GenerationFailed: the method failed for a known cause. Anything else counts as `Cause.METHOD`.
        """


class BatchMethod(Method, Protocol):
    """A method that can make several clips at once cheaper than one by one; its spec says how many (`batch`)."""

    def make_together(self, jobs: Sequence[tuple[Sample, Gate, int]]) -> list[int]:
        """Make the clips of several samples; return the numbers of those that came out good.

        `generate` hands them out when it is called with the same sample, gate and seed next. The others are made
        again alone by the caller: a batch fails for nobody.

        Args:
            jobs: sample (inputs closed by the gate are None), gate (the same for all) and seed.
        """
