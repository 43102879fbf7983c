"""Motion, articulation, sharpness and drift in the drawn world: formulas of real faces on the embedded reader.

The world knows the truth, so these show how far the formulas, and how far the reader, can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import WeightRef
from bench.core.views import ClipView, Features
from bench.metrics import (
    articulation,
    background,
    beat,
    closeness,
    drift,
    dynamics,
    efid,
    gaze,
    kid,
    motion_histograms,
    remade,
    seqalign,
    sharpness,
    sync_drift,
    timing,
)
from bench.metrics.face_motion import FaceMotion, World, in_world
from bench.metrics.sync_search import moving_offsets
from bench.synthetic import embedded, geometry
from bench.synthetic.labels import READINGS
from bench.synthetic.metrics import Csim, Sync, identity_cosines

_EYES = (geometry.LANDMARKS.index("eye_left_outer"), geometry.LANDMARKS.index("eye_right_outer"))
_UPPER = 16  # eyes and brows come first
_INNER = tuple(geometry.LANDMARKS.index(f"lip_{side}_inner_1") for side in ("upper", "lower"))
_CORNERS = tuple(geometry.LANDMARKS.index(f"mouth_corner_{side}") for side in ("left", "right"))
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
        aspect=_apart(points, *_INNER) / _apart(points, *_CORNERS),
        lips=points[:, geometry.MOUTH] / unit[..., None],
        brows=np.stack(brows, axis=1) / unit,
        rotation=_rotation(pose[:, :3]),
        position=points[:, _BRIDGE] / np.median(unit),
    )


def _apart(points: geometry.Floats, first: int, second: int) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, first] - points[:, second], axis=-1))


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


class Gaze(gaze.Gaze):
    """The same on the embedded reader's pupils."""

    protocol = "gaze/iris_synthetic_v1"
    features = DRAWN.features
    weights = DRAWN.weights
    domain = "synthetic"
    code_modules = (__name__, "bench.metrics.gaze", *DRAWN.code)

    def eyes(self, clip: ClipView) -> gaze.Eyes:
        """See `bench.metrics.gaze.Gaze.eyes`."""
        found = clip.features("synthetic_face")
        values = dict(zip(READINGS, found["readings"].astype(np.float64).T, strict=True))
        # As `geometry.Sizes.gaze` draws them: the pupil's offset in widths of the eye.
        offset = np.stack([0.48 * values["gaze_x"], 0.25 * values["gaze_y"]], axis=1)
        seeing = np.maximum(values["blink_left"], values["blink_right"]) <= gaze.SHUT
        yaw = np.degrees(found["pose"][:, 0].astype(np.float64))
        return gaze.Eyes(offset, seeing, yaw, np.zeros(len(offset), bool))


class MotionDistance(motion_histograms.MotionDistance):
    """The same on the embedded reader's landmarks."""

    protocol = "fvmd/synthetic_v1"
    features = DRAWN.features
    weights = DRAWN.weights
    domain = "synthetic"
    code_modules = (__name__, "bench.metrics.motion_histograms", "bench.metrics.frechet", *DRAWN.code)

    def points(self, clip: ClipView) -> tuple[list[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]:
        """See `bench.metrics.motion_histograms.MotionDistance.points`; brows, eyes and mouth, and the rest."""
        points = clip.features("synthetic_face")["landmarks"].astype(np.float64)
        points /= np.median(np.linalg.norm(points[:, _EYES[1]] - points[:, _EYES[0]], axis=-1))
        mouth = np.zeros(points.shape[1], bool)
        mouth[geometry.MOUTH] = True
        upper = np.arange(points.shape[1]) < _UPPER
        parts = [points[:, mouth], points[:, upper], points[:, ~mouth & ~upper]]
        return parts, np.ones(len(points), bool)


class ExpressionDistance(efid.ExpressionDistance):
    """The same on the embedded reader's expressions."""

    protocol = "efid/synthetic_v1"
    label = "E-FID (readings)"
    dimensions = len(READINGS)
    features = DRAWN.features
    weights = DRAWN.weights
    domain = "synthetic"
    code_modules = (__name__, "bench.metrics.efid", "bench.metrics.frechet", *DRAWN.code)

    def about(self) -> Mapping[str, Any]:
        """See `bench.metrics.efid.ExpressionDistance.about`."""
        return {"coefficients": list(READINGS)}

    def expressions(self, clip: ClipView) -> npt.NDArray[np.float64]:
        """See `bench.metrics.efid.ExpressionDistance.expressions`."""
        return np.asarray(clip.features("synthetic_face")["readings"], np.float64)


class SyncDrift(sync_drift.SyncDrift):
    """The same on the embedded sync network."""

    protocol = "sync/drift_synthetic_v1"
    features = ("synthetic_sync",)
    weights = (embedded.ref("sync"),)
    domain = "synthetic"
    code_modules = (__name__, "bench.metrics.sync_drift", "bench.metrics.drift", *Sync.code_modules)

    def offsets(self, clip: ClipView) -> npt.NDArray[np.float64]:
        """See `bench.metrics.sync_drift.SyncDrift.offsets`."""
        found = clip.features("synthetic_sync")
        return moving_offsets(found["video"], found["audio"])


_MOTION = (
    *dynamics.METRICS,
    articulation.LipStability,
    articulation.Loudness,
    *closeness.METRICS,
    *timing.METRICS,
    *beat.METRICS,
    *seqalign.MOTION,
    *remade.METRICS,
)

METRICS: tuple[type, ...] = (
    *in_world(DRAWN, __name__, _MOTION),
    Gaze,
    MotionDistance,
    ExpressionDistance,
    SyncDrift,
    *sharpness.at(PICTURES, __name__, (*sharpness.METRICS, *background.METRICS, drift.ColourDrift)),
    IdentityDrift,
    Kid,
)
EXTRACTORS: tuple[type, ...] = sharpness.at(PICTURES, __name__, (*sharpness.EXTRACTORS, *drift.EXTRACTORS))
