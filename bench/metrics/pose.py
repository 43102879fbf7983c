"""Head pose error and how much the head moves, in degrees, from MediaPipe's transformation matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView
from bench.media.faces import euler_degrees
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, MIN_PAIRS, paired_faces

_CODE = ("bench.metrics.pose", *CODE)
_EULER = "R_y(yaw) R_x(pitch) R_z(roll)"


def angle_distance(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return |first - second| of angles in degrees, the short way round, in [0, 180]."""
    return np.abs((first - second + 180) % 360 - 180)


class PoseL1:
    """Mean absolute difference of yaw, pitch and roll."""

    spec = MetricSpec(
        id="pose/euler_l1_deg",
        version="1",
        kind="clip",
        columns=(Column("pose_l1", "Pose-L1", "lower", "deg", digits=2),),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params={"angles": _EULER, "average": "angles, then valid frames", "min_pairs": MIN_PAIRS},
        weights=FACE_WEIGHTS,
        summary="Head pose error: mean of |yaw|, |pitch| and |roll| differences to the ground truth.",
        source="no published standard; angles of MediaPipe's face transformation matrix",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `pose_l1` in degrees."""
        pairs = paired_faces(clip, reference)
        angles = [euler_degrees(side["matrices"]) for side in (pairs.generated, pairs.reference)]
        return {"pose_l1": float(angle_distance(*angles).mean()), **pairs.coverage}


class PoseIntensity:
    """Mean change of the head angles from one frame to the next."""

    spec = MetricSpec(
        id="pose/intensity",
        version="1",
        kind="clip",
        columns=(Column("pose_speed", "Pose intensity", "none", "deg/frame", digits=3),),
        domains=("real",),
        features=(FACES,),
        params={"angles": _EULER, "fps": 25, "average": "angles, then adjacent valid frames"},
        weights=FACE_WEIGHTS,
        summary="Head motion: mean change of yaw, pitch and roll between adjacent frames; compare with truth.",
        source="Xu et al., VASA-1, 2024 (delta P)",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `pose_speed` in degrees per frame of 40 ms."""
        faces = clip.features(FACES)
        angles, valid = euler_degrees(faces["matrices"]), faces["valid"]
        steps = angle_distance(angles[1:], angles[:-1])[valid[1:] & valid[:-1]]
        if len(steps) + 1 < MIN_PAIRS:
            raise Unscored(Reason.TOO_SHORT, f"{len(steps)} pairs of adjacent frames with a face")
        return {
            "pose_speed": float(steps.mean()),
            "n_frames": float(valid.sum()),
            "coverage": float(valid.mean()),
        }


METRICS: tuple[type, ...] = (PoseL1, PoseIntensity)
