"""The features `faces`: landmarks, expression and head pose of every frame, read once and shared.

Expression, pose, landmark, blink, jitter and control-independence protocols of the real domain all read them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.core.spec import ExtractorSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.media.faces import EYE_CORNERS, WEIGHT, FaceReader
from bench.media.follow import RULE
from bench.metrics.pairing import check_lengths, require_reference
from bench.weights import ref

FACES = "faces"
FACE_WEIGHTS = (ref(WEIGHT),)
CODE = ("bench.metrics.faces", "bench.metrics.pairing", "bench.media.faces", "bench.media.follow")
MIN_PAIRS = 5  # frames; fewer say nothing about a clip


class FaceExtractor:
    """MediaPipe Face Landmarker on every frame, each frame by itself."""

    spec = ExtractorSpec(
        name=FACES,
        version="3",
        params={"running_mode": "image", **RULE},
        weights=FACE_WEIGHTS,
        packages=("mediapipe",),
        hears=False,
        meets=True,
    )
    code_modules = ("bench.metrics.faces", "bench.media.faces", "bench.media.follow")

    def __init__(self) -> None:
        self._reader: FaceReader | None = None

    def extract(self, clip: ClipView) -> Features:
        """Return per-frame arrays of one person's face, NaN where it is not seen.

        Returns:
            `landmarks` float32 (n, 478, 3) in pixels, `blendshapes` float32 (n, 52) in [0, 1], `matrices` float32
            (n, 4, 4) from the canonical face to the camera, `valid` bool (n,), `size` int (2,) with the frame's
            width and height, `face_count` int (n,) and `switches` int (), see `bench.media.follow`.

        Raises:
            Unscored: no frame shows a face, or the model or package is missing.
        """
        from bench.media.decode import read_image

        if self._reader is None:
            self._reader = FaceReader()
        picture = None if clip.image is None else read_image(clip.image)
        track = self._reader.read((frame for chunk in clip.chunks() for frame in chunk), picture)
        if not track.valid.any():
            raise Unscored(Reason.NO_FACE, f"no face in any of the {len(track.valid)} frames of {clip.path.name}")
        return {
            "landmarks": track.landmarks,
            "blendshapes": track.blendshapes,
            "matrices": track.matrices,
            "valid": track.valid,
            "size": np.array([clip.width, clip.height]),
            "face_count": track.count,
            "switches": np.array(track.switches),
        }


@dataclass(frozen=True, slots=True)
class FacePairs:
    """Faces of the frames in which both clips show one.

    Attributes:
        generated, reference: features with one row per pair.
        frames: number of frames of the longer clip, with or without a face.
    """

    generated: Features
    reference: Features
    frames: int

    @property
    def coverage(self) -> dict[str, float]:
        """`n_frames` and `coverage`: pairs, and pairs over the longer clip's frames."""
        pairs = len(self.generated["valid"])
        return {"n_frames": float(pairs), "coverage": pairs / self.frames}


def paired_faces(clip: ClipView, reference: ClipView | None) -> FacePairs:
    """Pair faces by frame index.

    Raises:
        Unscored: no reference, lengths differ by more than two frames, no face in one of the clips, or faces in
            both in fewer than five frames.
    """
    truth = require_reference(reference)
    check_lengths(clip.frames, truth.frames)  # before faces are read, which takes long
    sides = clip.features(FACES), truth.features(FACES)
    lengths = [len(side["valid"]) for side in sides]
    pairs = check_lengths(*lengths)
    both = np.flatnonzero(sides[0]["valid"][:pairs] & sides[1]["valid"][:pairs])
    if len(both) < MIN_PAIRS:
        raise Unscored(
            Reason.TOO_SHORT, f"a face in both clips in {len(both)} frame(s); at least {MIN_PAIRS} are needed"
        )
    generated, other = (
        {
            key: value[both] if value.shape[:1] == valid.shape and key != "size" else value
            for key, value in side.items()
        }
        for side in sides
        for valid in (side["valid"],)
    )
    return FacePairs(generated, other, max(lengths))


def inter_ocular(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the distance of the outer eye corners, shape (n,), from (n, 478, 2 or 3), in the same unit."""
    right, left = (landmarks[:, corner].astype(np.float64) for corner in EYE_CORNERS)
    return np.linalg.norm(left - right, axis=-1)


EXTRACTORS: tuple[type, ...] = (FaceExtractor,)
METRICS: tuple[type, ...] = ()
