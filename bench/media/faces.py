"""Face landmarks, expression coefficients and head pose of real faces (MediaPipe Face Landmarker).

The landmarker runs in IMAGE mode: every frame is looked at by itself, so results do not depend on which worker
runs it; only which of several faces is read depends on the frames before. VIDEO mode tracks and smooths over time,
is no faster on these frames, and differs by more than a pixel on average.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Reason, Unscored
from bench.media.follow import Follower, at_place, place

WEIGHT = "face_landmarker"
"""Name of the model file in the weights folder."""

N_LANDMARKS = 478
N_BLENDSHAPES = 52

MOUTH_OUTER = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip
"""Outer lip contour, from the corner at the image's left along the lower lip and back along the upper."""

MOUTH_INNER = (
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
"""Inner lip contour, point by point beside `MOUTH_OUTER`."""

MOUTH = MOUTH_OUTER + MOUTH_INNER

EYE_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
"""Contour of the person's right eye (the image's left), from the outer corner along the lower lid."""

EYE_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""Contour of the person's left eye, from the outer corner along the lower lid."""

BROW_RIGHT = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
BROW_LEFT = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327)
"""Bridge from the top, tip, and base."""

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Face outline, from the forehead clockwise in the image; 152 is the chin."""

IRIS_RIGHT = (468, 469, 470, 471, 472)
IRIS_LEFT = (473, 474, 475, 476, 477)

EYE_CORNERS = (33, 263)
"""Outer eye corners: their distance is the inter-ocular distance."""

RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4)
"""Eye corners and nose: points that move with the head but hardly with expression."""


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """The face of each frame; rows without a face are NaN and `valid` is False there.

    Attributes:
        landmarks: float32 (n, 478, 3): x and y in pixels from the top left, z in the same scale, nearer
            the camera is more negative.
        blendshapes: float32 (n, 52) in [0, 1], in MediaPipe's order; index 0 is `_neutral`.
        matrices: float32 (n, 4, 4) canonical face to camera: x right, y up, z towards the viewer, centimetres.
        valid: bool (n,).
        count: int (n,), faces seen in the frame.
        switches: see `bench.media.follow.Follower`.
    """

    landmarks: npt.NDArray[np.float32]
    blendshapes: npt.NDArray[np.float32]
    matrices: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    count: npt.NDArray[np.int64]
    switches: int


def _model() -> bytes:
    from bench.weights import opened

    with opened(WEIGHT) as file:
        return file.read()


class FaceReader:
    """Finds faces and follows one person (`bench.media.follow`).

    Load once per worker; not for use from several threads at once.

    Args:
        model_path: the `.task` file; by default the weight `face_landmarker`.

    Raises:
        Unscored: the model file (missing_weights) or the package `mediapipe` (missing_package) is not there.
    """

    MAX_FACES = 4

    def __init__(self, model_path: Path | None = None) -> None:
        model = _model() if model_path is None else Path(model_path).read_bytes()
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise Unscored(
                Reason.MISSING_PACKAGE,
                f"face landmarks need mediapipe ({error}); run: pip install 'actalker-bench[faces]'",
            ) from error
        self._picture = lambda frame: mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
        )
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=self.MAX_FACES,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            with _quiet_stderr():
                self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            said = str(error).partition("\n")[0]
            raise Unscored(
                Reason.MISSING_WEIGHTS, f"{model_path or WEIGHT} is no face landmarker: {said}"
            ) from error
        weakref.finalize(self, _release, self._landmarker)

    def read(
        self, frames: Iterable[npt.NDArray[np.uint8]], picture: npt.NDArray[np.uint8] | None = None
    ) -> FaceTrack:
        """Return one person's track.

        Args:
            frames: uint8 (height, width, 3), RGB, one after the other.
            picture: the reference picture, whose face is followed where several people are seen.
        """
        landmarks, blendshapes, matrices, valid, count = [], [], [], [], []
        follower = Follower()
        wanted = None if picture is None else self._place(picture)
        for frame in frames:
            height, width = frame.shape[:2]
            found = self._landmarker.detect(self._picture(frame))
            faces = [
                np.array([(p.x * width, p.y * height, p.z * width) for p in face], np.float32)
                for face in found.face_landmarks
            ]
            boxes = np.array([[*f[:, :2].min(axis=0), *f[:, :2].max(axis=0)] for f in faces]).reshape(-1, 4)
            chosen = follower.pick(boxes, partial(at_place, boxes, width, height, wanted))
            count.append(len(faces))
            valid.append(chosen is not None)
            if chosen is not None:
                landmarks.append(faces[chosen])
                blendshapes.append([c.score for c in found.face_blendshapes[chosen]])
                matrices.append(found.facial_transformation_matrixes[chosen])
            else:
                landmarks.append(np.full((N_LANDMARKS, 3), np.nan, np.float32))
                blendshapes.append([np.nan] * N_BLENDSHAPES)
                matrices.append(np.full((4, 4), np.nan))
        return FaceTrack(
            landmarks=np.array(landmarks, np.float32).reshape(-1, N_LANDMARKS, 3),
            blendshapes=np.array(blendshapes, np.float32).reshape(-1, N_BLENDSHAPES),
            matrices=np.array(matrices, np.float32).reshape(-1, 4, 4),
            valid=np.array(valid, dtype=bool),
            count=np.array(count, dtype=np.int64),
            switches=follower.switches,
        )

    def _place(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64] | None:
        height, width = picture.shape[:2]
        return place(np.array(self.boxes(picture)).reshape(-1, 4), width, height)

    def boxes(self, frame: npt.NDArray[np.uint8]) -> list[tuple[float, float, float, float]]:
        """Return x0, y0, x1, y1 in pixels of every face in uint8 (height, width, 3), RGB, the largest first."""
        height, width = frame.shape[:2]
        found = []
        for face in self._landmarker.detect(self._picture(frame)).face_landmarks:
            x, y = [p.x * width for p in face], [p.y * height for p in face]
            found.append((min(x), min(y), max(x), max(y)))
        return sorted(found, key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))


def _release(landmarker: Any) -> None:
    """Close the landmarker, also while the interpreter exits, which its own destructor does not survive."""
    try:
        landmarker.close()
    except RuntimeError:  # its thread is gone already, and the process soon
        landmarker._handle = None


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Swallow what native code writes to stderr: MediaPipe logs a handful of lines that nothing turns off."""
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(sink)
        os.close(kept)


def euler_degrees(matrices: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return head pose (n, 3) as yaw, pitch, roll in degrees from (n, 4, 4) or (n, 3, 3) matrices.

    R = R_y(yaw) R_x(pitch) R_z(roll). In `FaceTrack`'s camera frame positive yaw turns the face to the
    image's right, positive pitch nods down and positive roll tilts counter-clockwise. NaN rows stay NaN.
    """
    rotation = np.asarray(matrices, np.float64)[..., :3, :3]
    rotation = rotation / np.linalg.norm(rotation, axis=-2, keepdims=True)
    yaw = np.arctan2(rotation[..., 0, 2], rotation[..., 2, 2])
    pitch = np.arcsin(np.clip(-rotation[..., 1, 2], -1, 1))
    roll = np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))
