"""Motion, articulation, sharpness and drift in the drawn world: formulas of real faces on the embedded reader.

The world knows the truth, so these show how far the formulas, and how far the reader, can be trusted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.core.spec import WeightRef
from bench.core.views import ClipView, Features
from bench.metrics import articulation, background, closeness, drift, dynamics, kid, sharpness
from bench.metrics.face_motion import FaceMotion, World, in_world
from bench.synthetic import embedded, geometry
from bench.synthetic.labels import READINGS
from bench.synthetic.metrics import Csim, identity_cosines

_EYES = (geometry.LANDMARKS.index("eye_left_outer"), geometry.LANDMARKS.index("eye_right_outer"))
_BRIDGE = geometry.LANDMARKS.index("nose_bridge")
_SIDES = ((slice(10, 13), slice(0, 4)), (slice(13, 16), slice(5, 9)))


def motion_of(
    landmarks: geometry.Floats, pose: geometry.Floats, opening: geometry.Floats, height: int
) -> FaceMotion:
    """Return the motion of a drawn face.

    Args:
        landmarks: (n, 43, 2) pixels, see `geometry.LANDMARKS`.
        pose: (n, 6), see `parameters.POSE`.
        opening: of the drawn mouth (n,), in half-heights of the head, see `geometry.MOUTH_DRAWN`.
        height: of the picture in pixels.
    """
    points, pose = landmarks.astype(np.float64), pose.astype(np.float64)
    # The flat distance of the eyes shrinks as the head turns; its size does not.
    flat = np.linalg.norm(points[:, _EYES[1]] - points[:, _EYES[0]], axis=-1)
    unit = (flat / np.cos(pose[:, 0]))[:, None]
    brows = [
        np.linalg.norm(points[:, brow].mean(axis=1) - points[:, eye].mean(axis=1), axis=-1) for brow, eye in _SIDES
    ]
    half_height = 0.72 * pose[:, 5] * height / 2
    return FaceMotion(
        valid=np.ones(len(points), bool),
        opening=opening.astype(np.float64) * half_height / unit[:, 0],
        lips=points[:, geometry.MOUTH] / unit[..., None],
        brows=np.stack(brows, axis=1) / unit,
        rotation=_rotation(pose[:, :3]),
        position=points[:, _BRIDGE] / np.median(unit),
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Return matrices R_y(yaw) R_x(pitch) R_z(roll) (n, 3, 3) from radians (n, 3)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("YXZ", angles).as_matrix())


def _read(clip: ClipView) -> FaceMotion:
    found: Features = clip.features("synthetic_face")
    opening = found["readings"][:, READINGS.index("opening")]
    return motion_of(found["landmarks"], found["pose"], opening, clip.height)


DRAWN = World(
    "synthetic",
    "_synthetic",
    ("synthetic_face",),
    (embedded.ref("frame"), embedded.ref("face")),
    (__name__, "bench.synthetic.geometry", "bench.synthetic.labels", "bench.synthetic.reader"),
    _read,
)


def _boxes(clip: ClipView) -> sharpness.Boxes:
    points = clip.features("synthetic_face")["landmarks"].astype(np.float64)
    unit = np.linalg.norm(points[:, _EYES[1]] - points[:, _EYES[0]], axis=-1)
    return sharpness.boxes(points, points[:, geometry.MOUTH], unit)


PICTURES = sharpness.Place("synthetic", DRAWN.infix, DRAWN.features, DRAWN.weights, DRAWN.code, _boxes)


class IdentityDrift(drift.IdentityDrift):
    """The same on embedded identities."""

    protocol = "drift/identity_synthetic_v1"
    features = ("synthetic_identity",)
    domain = "synthetic"
    code_modules = (__name__, "bench.metrics.drift", *Csim.code_modules)

    def _weights(self) -> tuple[WeightRef, ...]:
        return (embedded.ref("identity"),)

    def cosines(self, clip: ClipView) -> npt.NDArray[np.float64]:
        """See `bench.metrics.drift.IdentityDrift.cosines`."""
        return identity_cosines(clip)


class Kid(kid.Kid):
    """The same on embedded frame features."""

    protocol = "kid/synthetic_v1"
    feature = "synthetic_frame"
    dimensions = 64
    domain = "synthetic"
    weights = (embedded.ref("frame"),)


METRICS: tuple[type, ...] = (
    *in_world(DRAWN, __name__, (*dynamics.METRICS, *articulation.METRICS, *closeness.METRICS)),
    *sharpness.at(PICTURES, __name__, (*sharpness.METRICS, *background.METRICS, drift.ColourDrift)),
    IdentityDrift,
    Kid,
)
EXTRACTORS: tuple[type, ...] = sharpness.at(PICTURES, __name__, (*sharpness.EXTRACTORS, *drift.EXTRACTORS))
