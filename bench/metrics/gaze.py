"""Where the eyes look, from the irises: in widths of the eye, which are no degrees.

Published gaze errors come from networks trained for it; there is no standard. The iris is seen from the eye's own
corners, so that moving or rolling the head does not move it. Eyes under 20 pixels wide are mostly noise, and the
share of such frames is printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView
from bench.media.faces import IRIS_LEFT, IRIS_RIGHT, euler_degrees
from bench.metrics.face_motion import FPS, MIN_FRAMES, require_frames
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, MIN_PAIRS
from bench.metrics.pairing import check_lengths

Array = npt.NDArray[np.float64]

CORNERS = ((33, 133), (362, 263))
"""Of the right and the left eye, from the image's left to its right."""
BLINKS = (9, 10)
SHUT = 0.5
SACCADE = 0.06
SMALL = 20.0  # pixels


@dataclass(frozen=True, slots=True)
class Eyes:
    """Both eyes over n frames.

    Attributes:
        gaze: iris centre from the middle of the eye, to the right and down, in eye widths, mean of both (n, 2).
        open: a face with open eyes (n,).
        yaw: of the head in degrees (n,), positive when the face turns to the image's right.
        small: the eyes are under 20 pixels wide (n,).
    """

    gaze: Array
    open: npt.NDArray[np.bool_]
    yaw: Array
    small: npt.NDArray[np.bool_]


def from_landmarks(clip: ClipView) -> Eyes:
    """Return the eyes of a real face from stored landmarks."""
    faces = clip.features(FACES)
    points = faces["landmarks"][..., :2].astype(np.float64)
    gaze, widths = [], []
    for (left, right), iris in zip(CORNERS, (IRIS_RIGHT, IRIS_LEFT), strict=True):
        along = points[:, right] - points[:, left]
        width = np.linalg.norm(along, axis=1)
        away = points[:, list(iris)].mean(axis=1) - (points[:, left] + points[:, right]) / 2
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        gaze.append(
            np.stack([(away * axis).sum(axis=1) for axis in (along, across)], axis=1) / width[:, None] ** 2
        )
        widths.append(width)
    valid = faces["valid"].astype(bool)
    shut = (faces["blendshapes"][:, list(BLINKS)] > SHUT).any(axis=1)
    small = valid & (np.min(widths, axis=0) < SMALL)
    return Eyes(np.mean(gaze, axis=0), valid & ~shut, euler_degrees(faces["matrices"])[:, 0], small)


class Gaze:
    """Distance of the gaze to the truth's, and how it goes with the head."""

    protocol = "gaze/iris_v1"
    features: tuple[str, ...] = (FACES,)
    weights: tuple[WeightRef, ...] = FACE_WEIGHTS
    domain: Any = "real"
    code_modules: tuple[str, ...] = (__name__, "bench.metrics.face_motion", *CODE)

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=self.protocol,
            version="1",
            kind="clip",
            columns=(
                Column("distance", "Gaze distance", "lower", "eye widths", digits=2, scale=100.0),
                Column("with_head", "Gaze with head", "none", digits=2),
                Column("saccades", "Saccades", "none", "/min", digits=1),
                Column("too_small", "eyes too small", "none", digits=2),
            ),
            domains=(self.domain,),
            features=self.features,
            params={"shut": SHUT, "saccade": SACCADE, "small_pixels": SMALL, "fps": FPS},
            weights=self.weights,
            default=False,
            summary="Iris position against the truth's in eye widths, correlation with the head, saccades.",
            source="no published standard; irises of MediaPipe",
        )

    def eyes(self, clip: ClipView) -> Eyes:
        """Read a clip."""
        return from_landmarks(clip)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `distance` >= 0 (NaN without a ground truth), `with_head` in [-1, 1] (the gaze turns with the
        head; NaN where either stands still), `saccades` per minute, and the share of frames with small eyes.

        Raises:
            Unscored: open eyes in fewer than 25 frames, or lengths that do not fit the truth's.
        """
        mine = self.eyes(clip)
        require_frames(int(mine.open.sum()), MIN_FRAMES, "frames with open eyes")
        seen = mine.gaze[mine.open]
        both = mine.open[1:] & mine.open[:-1]
        jumps = np.linalg.norm(np.diff(mine.gaze, axis=0)[both], axis=1) > SACCADE
        return {
            "distance": float("nan") if reference is None else self._distance(mine, self.eyes(reference)),
            "with_head": _correlation(seen[:, 0], mine.yaw[mine.open]),
            "saccades": float(jumps.sum() / max(1, both.sum()) * 60 * FPS),
            "too_small": float(mine.small.mean()),
            "n_frames": float(mine.open.sum()),
            "coverage": float(mine.open.mean()),
        }

    @staticmethod
    def _distance(mine: Eyes, truth: Eyes) -> float:
        n = check_lengths(len(mine.open), len(truth.open))
        both = mine.open[:n] & truth.open[:n]
        if both.sum() < MIN_PAIRS:
            raise Unscored(Reason.TOO_SHORT, f"open eyes in both clips in {both.sum()} frames")
        return float(np.linalg.norm(mine.gaze[:n][both] - truth.gaze[:n][both], axis=1).mean())


def _correlation(first: Array, second: Array) -> float:
    spread = first.std() * second.std()
    if spread < 1e-9:
        return float("nan")
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread)


METRICS: tuple[type, ...] = (Gaze,)
