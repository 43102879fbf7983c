"""Frame-to-frame change of the picture, without a reference and without a network.

A frozen clip gets the best possible value of both protocols, so read them beside a measure of motion
(`pose/intensity`) and beside the ground-truth row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView

Frames = npt.NDArray[np.uint8]

MIN_FRAMES = 3
_SOURCE = "Huang et al., VBench: comprehensive benchmark suite for video generative models, 2024"


def change(before: Frames, after: Frames) -> float:
    """Return the mean absolute difference of two uint8 frames, in [0, 255]."""
    difference = np.maximum(before, after) - np.minimum(before, after)
    return int(difference.sum(dtype=np.int64)) / difference.size


def interpolation_error(before: Frames, frame: Frames, after: Frames) -> float:
    """Return the mean absolute difference of a frame from the average of its neighbours, in [0, 255]."""
    residual = np.add(before, after, dtype=np.int16)
    residual -= 2 * frame.astype(np.int16)
    return int(np.abs(residual, out=residual).sum(dtype=np.int64)) / (2 * residual.size)


def _frames(clip: ClipView) -> Iterator[Frames]:
    if clip.frames < MIN_FRAMES:
        raise Unscored(Reason.TOO_SHORT, f"{clip.frames} frame(s); at least {MIN_FRAMES} are needed")
    for chunk in clip.chunks():
        yield from chunk


def _similarity(errors: list[float]) -> float:
    return (255 - float(np.mean(errors))) / 255


class Flicker:
    """One minus the mean absolute difference of adjacent frames."""

    spec = MetricSpec(
        id="flicker/mae",
        version="1",
        kind="clip",
        columns=(Column("flicker", "Flicker", "higher", digits=4),),
        params={"fps": 25, "range": 255},
        summary="Temporal flickering: 1 - mean |difference of adjacent frames| / 255; 1 for a frozen clip.",
        source=f"{_SOURCE} (temporal_flickering)",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `flicker` in [0, 1]."""
        errors, before = [], None
        for frame in _frames(clip):
            if before is not None:
                errors.append(change(before, frame))
            before = frame
        return {"flicker": _similarity(errors), "n_frames": float(clip.frames), "coverage": 1.0}


class LinearSmoothness:
    """How well every odd frame is the average of its neighbours."""

    spec = MetricSpec(
        id="smoothness/linear",
        version="1",
        kind="clip",
        columns=(Column("smoothness", "Smooth (linear)", "higher", digits=4),),
        params={"fps": 25, "range": 255, "interpolation": "mean of neighbours", "frames": "odd"},
        summary="Motion smoothness with linear instead of learned interpolation; 1 for a frozen clip.",
        source=f"{_SOURCE} (motion_smoothness, whose AMT-S network is replaced by the mean of two frames)",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `smoothness` in [0, 1]."""
        errors: list[float] = []
        window: list[Frames] = []
        for index, frame in enumerate(_frames(clip)):
            window = [*window[-2:], frame]
            if index % 2 == 0 and index:
                errors.append(interpolation_error(*window))
        return {"smoothness": _similarity(errors), "n_frames": float(clip.frames), "coverage": 1.0}


METRICS: tuple[type, ...] = (Flicker, LinearSmoothness)
