"""Interfaces of extractors, clip metrics and set metrics.

A metric sees clips through `ClipView`: probe data, frames in chunks (bounded memory), audio, and features.
Features come from extractors, are computed once per clip, stored, and shared by all metrics and methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.core.spec import ExtractorSpec, MetricSpec

Features = Mapping[str, npt.NDArray[Any]]


class ClipView(Protocol):
    """A decoded clip as metrics see it: 25 fps, rgb24, 16 kHz mono audio.

    Attributes:
        path: the file.
        width, height: pixels, after rotation metadata was applied.
        frames: number of frames at 25 fps.
        fps: always 25.0.
        image: the sample's reference picture, if any.
        truth: `.npz` with the synthetic world's ground truth for the reference clip, if any.
        swapped: clips of the same sample made again, by name (see `bench.core.spec.REMADE`); empty unless a metric
            that needs them is computed.
    """

    path: Path
    width: int
    height: int
    frames: int
    fps: float
    image: Path | None
    truth: Path | None
    swapped: Mapping[str, ClipView]

    def chunks(self, size: int = 32) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield consecutive frames as uint8 arrays of shape (n, height, width, 3), n <= size."""

    def audio(self) -> npt.NDArray[np.int16] | None:
        """Return 16 kHz mono int16 samples cropped to the clip, or None without an audio stream."""

    def features(self, extractor: str) -> Features:
        """Return the named extractor's arrays, computing and storing them on first use.

        Raises:
            Unscored: the extractor has no result for this clip (no face, missing weights, ...).
        """


def resident(clip: ClipView) -> Any:
    """Return all frames as one uint8 tensor (frames, height, width, 3) where they lie on a GPU, else None."""
    return getattr(clip, "resident", None)


class Extractor(Protocol):
    """Computes arrays from one clip. Stateless but for loaded networks; created once per worker."""

    spec: ExtractorSpec

    def extract(self, clip: ClipView) -> Features:
        """Return named arrays (any dtype numpy can save without pickling)."""


class ClipMetric(Protocol):
    """One or more numbers per clip; the table shows the mean over clips.

    A metric that needs more than weights and packages may have a method `require()`, which raises `Unscored` with
    what to do when that is not there. It is asked before anything starts.
    """

    spec: MetricSpec

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return a value for every column key; NaN where only that column has none.

        Two more keys are optional and stored with the row: `n_frames`, the number of frames the value rests
        on, and `coverage`, the fraction of frames that could be used (1.0 when none was left out).

        Raises:
            Unscored: there is no value, with the reason.
        """


class SetMetric(Protocol):
    """One number per set of clips, computed from mergeable states so that any sharding is exact."""

    spec: MetricSpec

    def state(self, clip: ClipView) -> Features:
        """Return the mergeable contribution of one clip (float64 sums or raw features)."""

    def merge(self, states: list[Features]) -> Features:
        """Combine states; associative, and independent of order to rounding."""

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return a value for every column key.

        Raises:
            Unscored: too few clips or frames, with the reason.
        """
