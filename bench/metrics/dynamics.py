"""How lively lips, brows and head are: no direction, to be read beside the ground truth.

The motion part of THEval (Quignon et al. 2025, "THEval", section 3) without its pixels: free of scale, of frame
rate and of the tracker's state, one clip at a time. Not comparable with that paper's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from bench.core.spec import Column
from bench.core.views import ClipView
from bench.media.faces import euler_degrees
from bench.metrics.face_motion import FPS, MotionMetric, mean_step, require_frames

_SOURCE = "Quignon et al., THEval, 2025, section 3, made free of scale and frame rate"


class LipDynamics(MotionMetric):
    """Spread over time of the distances between lip points."""

    protocol = "dynamics/lips"
    columns = (Column("lips_std", "Lip dynamics", "none", "E", digits=2, scale=100.0),)
    parameters: ClassVar[Mapping[str, Any]] = {
        "distances": "all pairs of lip points",
        "spread": "standard deviation, n-1",
        "unit": "eye corners",
    }
    summary = "Lip dynamics: deviation over time of all distances between lip points; 0 for a still mouth."
    source = _SOURCE
    modules = (__name__,)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `lips_std` >= 0, in E.

        Raises:
            Unscored: a face in fewer than 25 frames.
        """
        motion = self.world.motion(clip)
        require_frames(int(motion.valid.sum()))
        lips = motion.lips[motion.valid]
        first, second = np.triu_indices(lips.shape[1], 1)
        distances = np.linalg.norm(lips[:, first] - lips[:, second], axis=-1)
        return {"lips_std": float(distances.std(axis=0, ddof=1).mean()), **motion.usage()}


class BrowDynamics(MotionMetric):
    """How much and how fast the brows go up and down."""

    protocol = "dynamics/brows"
    columns = (
        Column("brows_std", "Brow dynamics", "none", "E", digits=2, scale=100.0),
        Column("brows_speed", "Brow speed", "none", "E/s", digits=1, scale=100.0),
        Column("brows_asymmetry", "Brow asymmetry", "none", "E", digits=2, scale=100.0),
    )
    parameters: ClassVar[Mapping[str, Any]] = {
        "distance": "brow centre to eye centre",
        "sides": "mean",
        "unit": "eye corners",
        "fps": FPS,
    }
    default = False  # blind to its own ladders on real faces, see docs/sensitivity.md
    summary = "Brow dynamics: spread and mean speed of the distance of brow and eye, and its asymmetry."
    source = _SOURCE
    modules = (__name__,)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `brows_std` and `brows_asymmetry` in E, `brows_speed` in E per second.

        Raises:
            Unscored: a face in fewer than 25 frames.
        """
        motion = self.world.motion(clip)
        require_frames(int(motion.valid.sum()))
        brows = motion.brows[motion.valid]
        return {
            "brows_std": float(brows.std(axis=0, ddof=1).mean()),
            "brows_speed": float(np.mean([mean_step(motion.brows[:, side], motion.valid) for side in (0, 1)])),
            "brows_asymmetry": float(np.abs(brows[:, 0] - brows[:, 1]).mean()),
            **motion.usage(),
        }


class HeadDynamics(MotionMetric):
    """How far and how fast the head turns and moves."""

    protocol = "dynamics/head"
    columns = (
        Column("head_turn", "Head turn", "none", "deg", digits=2),
        Column("head_turn_speed", "Head turn speed", "none", "deg/s", digits=1),
        Column("head_shift", "Head shift", "none", "E", digits=1, scale=100.0),
        Column("head_shift_speed", "Head shift speed", "none", "E/s", digits=1, scale=100.0),
    )
    parameters: ClassVar[Mapping[str, Any]] = {
        "turn": "root of the mean variance of yaw, pitch and roll",
        "turn_speed": "mean angle of the rotation between frames",
        "shift": "root mean square of the centred path of the nose bridge",
        "shift_speed": "mean step of the nose bridge",
        "unit": "median distance of the eye corners",
        "fps": FPS,
    }
    summary = "Head dynamics: spread and mean speed of turning (degrees) and shifting; 0 for a still head."
    source = _SOURCE
    modules = (__name__,)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return four values >= 0.

        Raises:
            Unscored: a face in fewer than 25 frames.
        """
        motion = self.world.motion(clip)
        valid = motion.valid
        require_frames(int(valid.sum()))
        relative = np.swapaxes(motion.rotation[:-1], 1, 2) @ motion.rotation[1:]
        both = valid[1:] & valid[:-1]
        cosine = (np.trace(relative[both], axis1=1, axis2=2) - 1) / 2
        centred = motion.position[valid] - motion.position[valid].mean(axis=0)
        return {
            "head_turn": _spread_of_angles(motion.rotation[valid]),
            "head_turn_speed": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() * FPS),
            "head_shift": float(np.sqrt((centred**2).sum(axis=1).mean())),
            "head_shift_speed": mean_step(motion.position, valid),
            **motion.usage(),
        }


def _spread_of_angles(rotation: np.ndarray) -> float:
    angles = np.degrees(np.unwrap(np.radians(euler_degrees(rotation)), axis=0))
    return float(np.sqrt(angles.var(axis=0).mean()))


METRICS: tuple[type, ...] = (LipDynamics, BrowDynamics, HeadDynamics)
