"""Flicker of what should stand still: the background, seen on the same pixels in a clip and in its ground truth.

Source: FluentAvatar (Wang et al. 2025, BG-Flicker), without its segmentation network: the person is an ellipse
around the face in every frame of the clip, and the shoulders below it. A static background is trivially good, and
below the truth's own value is not better than real.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics.pairing import check_lengths, paired_chunks, require_reference
from bench.metrics.sharpness import REAL, Place

Array = npt.NDArray[np.float64]

ABOVE, BESIDE = 0.45, 0.3  # of the face's height: hair above it and on either side
SHOULDERS = 1.6  # width of what lies below the chin, in widths of the head
LEAST = 0.05  # share of the frame that must be background
PIXEL_STEP = 2  # every second pixel both ways is looked at
MIN_FRAMES = 25
_AT_ONCE = 2**17  # values: what is read several times should stay in the processor's cache


def background(boxes: Array, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which pixels (height, width) are never near a face nor below it.

    Args:
        boxes: x0, y0, x1, y1 of faces (n, 4) in pixels; rows that are NaN are left out.
    """
    y, x = np.mgrid[:height, :width] + 0.5
    person = np.zeros((height, width), bool)
    known = boxes[np.isfinite(boxes).all(axis=1)]
    # Boxes of neighbouring frames nearly coincide; rounding leaves a few dozen different ones.
    for x0, y0, x1, y1 in np.unique(np.round(known / 4) * 4, axis=0):
        tall = y1 - y0
        half = ((x1 - x0) / 2 + BESIDE * tall, tall / 2 + ABOVE * tall)
        across = np.abs(x - (x0 + x1) / 2) / half[0]
        person |= across**2 + ((y - (y0 + y1) / 2) / half[1]) ** 2 <= 1
        person |= (across <= SHOULDERS) & (y >= y1)
    return ~person


class BackgroundFlicker:
    """Mean change of the background from frame to frame."""

    place: Place = REAL

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"flicker/background{self.place.infix}_v1",
            version="1",
            kind="clip",
            columns=(
                Column("bg_error", "BG flicker", "lower", "/255", digits=2, scale=1000.0),
                Column("bg_smooth", "BG flicker, grain removed", "lower", "/255", digits=2, scale=1000.0),
                Column("bg_ratio", "BG flicker / truth", "none", digits=2),
                Column("bg_shift", "BG shift", "none", "/255", digits=1),
            ),
            domains=(self.place.domain,),
            needs=("reference",),
            features=self.place.features,
            params={
                "head": [ABOVE, BESIDE, SHOULDERS],
                "least": LEAST,
                "pixel_step": PIXEL_STEP,
                "grain": "median of three frames",
            },
            weights=self.place.weights,
            summary="Mean |difference| of neighbouring frames outside head and shoulders, also over the truth's.",
            source="Wang et al., FluentAvatar, 2025 (BG-Flicker), without a segmentation network",
        )
        self.code_modules = (__name__, "bench.metrics.pairing", "bench.metrics.sharpness", *self.place.code)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return errors in [0, 1] of full scale, their ratio to the truth's, and the change of the mean brightness
        from the first to the last second in 8-bit steps.

        Raises:
            Unscored: no ground truth, other lengths or sizes, fewer than 25 frames, or hardly any background.
        """
        truth = require_reference(reference)
        frames = check_lengths(clip.frames, truth.frames)
        if frames < MIN_FRAMES:
            raise Unscored(Reason.TOO_SHORT, f"{frames} frames; at least {MIN_FRAMES} are needed")
        if (clip.width, clip.height) != (truth.width, truth.height):
            next(paired_chunks(clip, truth))  # says so
        both = np.concatenate([self.place.boxes(side).face for side in (clip, truth)])
        mask = background(both, clip.height, clip.width)
        share = float(mask.mean())
        if share < LEAST:
            raise Unscored(Reason.NO_BACKGROUND, f"{share:.0%} of the frame is background; {LEAST:.0%} are needed")
        error, smooth, shift = _read(_pixels(clip, mask, frames))
        true_error, _, _ = _read(_pixels(truth, mask, frames))
        return {
            "bg_error": error,
            "bg_smooth": smooth,
            "bg_ratio": error / true_error if true_error > 0 else float("nan"),
            "bg_shift": shift,
            "n_frames": float(frames),
            "coverage": frames / max(clip.frames, truth.frames),
        }


def _pixels(clip: ClipView, mask: npt.NDArray[np.bool_], frames: int) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the background's pixels (n, k) of consecutive frames, all channels in a row."""
    at = np.flatnonzero(mask[::PIXEL_STEP, ::PIXEL_STEP])
    done = 0
    for chunk in clip.chunks(max(1, min(32, _AT_ONCE // max(1, 3 * len(at))))):
        some = chunk[: frames - done, ::PIXEL_STEP, ::PIXEL_STEP]
        if len(some):
            yield some.reshape(len(some), -1, 3)[:, at].reshape(len(some), -1).astype(np.int16)
        done += len(some)


def _read(pixels: Iterator[npt.NDArray[np.int16]]) -> tuple[float, float, float]:
    """Return the mean step, the mean step after a median over three frames, and |last second - first second|."""
    steps: list[Array] = []
    smooth_steps: list[Array] = []
    means: list[Array] = []
    known, smoothed = 0, 0  # frames at the head of the next two that were there before
    shown = middle = np.zeros((0, 0), np.int16)
    for now in pixels:
        means.append(now.mean(axis=1))
        shown = np.concatenate([shown[-2:], now]) if known else now
        steps.append(np.abs(np.diff(shown[max(known - 1, 0) :], axis=0)).mean(axis=1))
        known = min(2, len(shown))
        first, second, third = shown[:-2], shown[1:-1], shown[2:]
        if len(third):
            low, high = np.minimum(first, second), np.maximum(first, second)
            found = np.maximum(low, np.minimum(high, third))
            middle = np.concatenate([middle[-1:], found]) if smoothed else found
            smooth_steps.append(np.abs(np.diff(middle, axis=0)).mean(axis=1))
            smoothed = 1
    level = np.concatenate(means)
    shift = abs(float(level[-MIN_FRAMES:].mean() - level[:MIN_FRAMES].mean()))
    return float(np.concatenate(steps).mean()) / 255, float(np.concatenate(smooth_steps).mean()) / 255, shift


METRICS: tuple[type, ...] = (BackgroundFlicker,)
