"""Faces from MediaPipe's Face Landmarker (an optional package), and the rules for choosing one."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actalker.components import Face, FaceFinder
from actalker.errors import InputError, MissingPackageError
from actalker.masks import Box
from actalker.reading import foreign

MODEL_VARIABLE = "ACTALKER_FACE_LANDMARKER"
MODEL_NAME = "face_landmarker_v2_with_blendshapes.task"

_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_BROWS = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
_EYES_AND_NOSE = (33, 133, 263, 362, 1, 98, 327)

_PATIENCE = 25
"""Pictures of a video looked at for a first face."""
_SAME = 0.3
"""Intersection over union from which a found face is the one a box names."""


class MediaPipeFaces:
    """Finds faces with MediaPipe; every picture is looked at by itself.

    Args:
        model: the Face Landmarker `.task` file; by default the path in `$ACTALKER_FACE_LANDMARKER`.
        expressions: also read blendshapes and the head's position.

    Raises:
        MissingPackageError: mediapipe or the model file is not there.
    """

    def __init__(self, model: str | Path | None = None, *, expressions: bool = False) -> None:
        model = model or os.environ.get(MODEL_VARIABLE, "")
        if not model or not Path(model).is_file():
            raise MissingPackageError(
                f"finding faces needs MediaPipe's model file {MODEL_NAME}"
                + (f"; {model} is not there" if model else ""),
                f"Set {MODEL_VARIABLE} to its path (`bench prepare --metrics expr` fetches it), or, to generate, "
                "give the portrait's face box: --face x1,y1,x2,y2.",
            )
        os.environ.setdefault("GLOG_minloglevel", "2")
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise MissingPackageError(
                "finding faces needs the package mediapipe", "pip install mediapipe, or give the face box."
            ) from error
        self._picture: Any = mediapipe.Image
        self._format: Any = mediapipe.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=Path(model).read_bytes()),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=4,
            output_face_blendshapes=expressions,
            output_facial_transformation_matrixes=expressions,
        )
        with foreign(model):
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
        # Left to the end of the interpreter, its own clean-up fails with a traceback.
        weakref.finalize(self, self._landmarker.close)

    def find(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in an RGB picture (H, W, 3), largest first; empty when there is none."""
        result = self._landmarker.detect(self._picture(self._format, np.ascontiguousarray(image)))
        height, width = image.shape[:2]
        faces = []
        for i, landmarks in enumerate(result.face_landmarks):
            points = np.array([(p.x * width, p.y * height) for p in landmarks])
            shapes, matrices = result.face_blendshapes, result.facial_transformation_matrixes
            faces.append(
                Face(
                    box=_bounds(points),
                    mouth=_bounds(points[list(_LIPS)]),
                    features=_bounds(points[[*_LIPS, *_BROWS, *_EYES_AND_NOSE]]),
                    blendshapes=tuple(float(shape.score) for shape in shapes[i]) if shapes else None,
                    head=head_position(np.asarray(matrices[i])) if len(matrices) else None,
                )
            )
        return sorted(faces, key=lambda face: -face.area)


def choose_face(faces: list[Face], what: str, *, largest: bool) -> Face:
    """The face to use.

    Args:
        faces: as `FaceFinder.find` returns them.
        what: the picture's name in an error, e.g. `the image`.
        largest: take the largest of several.

    Raises:
        InputError: none, or several of similar size without `largest`.
    """
    if not faces:
        raise InputError(
            f"no face found in {what}",
            "Use a picture that shows one face from the front, or give its box: --face x1,y1,x2,y2.",
        )
    # A face of less than a quarter of the largest one's area is a bystander.
    rivals = [face for face in faces[1:] if face.area > faces[0].area / 4]
    if rivals and not largest:
        boxes = ", ".join("(" + ", ".join(f"{v:.0f}" for v in face.box) + ")" for face in [faces[0], *rivals])
        raise InputError(
            f"{what} shows {len(rivals) + 1} faces: {boxes}",
            "Crop it, pass --largest-face, or give the box: --face x1,y1,x2,y2.",
        )
    return faces[0]


def face_at(finder: FaceFinder | None, image: npt.NDArray[np.uint8], box: Box) -> Face:
    """The face a user's box names: its lips, features and expression are those of the face found there, if any.

    Args:
        finder: finds faces; None where there is nothing to find them with.
        image: RGB picture (H, W, 3).
        box: checked face box.
    """
    found = [] if finder is None else finder.find(image)
    best = max(found, key=lambda face: _overlap(face.box, box), default=None)
    if best is None or _overlap(best.box, box) < _SAME:
        return Face(box=box)
    return replace(best, box=box)


def follow_faces(
    pictures: Iterable[npt.NDArray[np.uint8]], find: Callable[[npt.NDArray[np.uint8]], list[Face]], what: str
) -> Iterator[tuple[npt.NDArray[np.uint8], Face]]:
    """Every picture of a video with the face followed through it.

    The first face is the largest of the first picture that shows one; pictures before it take that face, too.
    From then on it is the nearest to the previous one, so that a second person does not take over, and a picture
    without a face keeps the previous one's.

    Args:
        pictures: RGB pictures (H, W, 3) of one size.
        find: as `FaceFinder.find`.
        what: the video's name in an error, e.g. `the driving video`.

    Raises:
        InputError: no face in the first 25 pictures.
    """
    rest = iter(pictures)
    early: list[npt.NDArray[np.uint8]] = []
    face: Face | None = None
    for picture in rest:
        early.append(picture)
        if found := find(picture):
            face = found[0]
            break
        if len(early) == _PATIENCE:
            break
    if face is None:
        raise InputError(
            f"no face found in the first {len(early)} frames of {what}",
            "Use a video that shows one face, cut to where it is visible.",
        )
    for i, picture in enumerate(chain(early, rest)):
        if i >= len(early):
            previous = face.box
            face = min(find(picture), key=lambda found: _distance(found.box, previous), default=face)
        yield picture, face


def head_position(matrix: npt.NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """Rotation (pitch, yaw, roll) in degrees and translation in decimetres of MediaPipe's 4x4 matrix."""
    r = matrix[:3, :3] / np.linalg.norm(matrix[:3, 0])
    yaw = math.asin(float(np.clip(-r[2, 0], -1, 1)))
    pitch, roll = math.atan2(float(r[2, 1]), float(r[2, 2])), math.atan2(float(r[1, 0]), float(r[0, 0]))
    return (
        *(math.degrees(angle) for angle in (pitch, yaw, roll)),
        *(float(v) / 10 for v in matrix[:3, 3]),
    )  # from centimetres


def check_box(box: Box, image: npt.NDArray[np.uint8], what: str) -> None:
    """Refuse a face box that does not lie inside the picture.

    Raises:
        InputError: saying how large the picture is.
    """
    x1, y1, x2, y2 = box
    height, width = image.shape[:2]
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise InputError(
            f"face box {box} does not lie inside {what} ({width}x{height})",
            "Give x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2.",
        )


def find_face(
    finder: FaceFinder | None, image: npt.NDArray[np.uint8], given: Box | None, what: str, *, largest: bool
) -> Face:
    """The face in the given box, which is checked against the picture, or the face `finder` finds.

    Raises:
        InputError: a box outside the picture, no face, or several.
        MissingPackageError: no box given and nothing to find one with.
    """
    if given is not None:
        check_box(given, image, what)
        return face_at(finder, image, given)
    return choose_face((finder or MediaPipeFaces()).find(image), what, largest=largest)


def _distance(a: Box, b: Box) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _bounds(points: npt.NDArray[np.float64]) -> Box:
    (x1, y1), (x2, y2) = points.min(0), points.max(0)
    return (float(x1), float(y1), float(x2), float(y2))
