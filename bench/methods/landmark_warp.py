"""`landmark-warp`: a still picture moved by the landmarks of a driving video, the mouth optionally by speech."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench import weights
from bench.core.spec import Gate, MethodSpec, Reason, Sample, Unscored
from bench.methods.base import Video
from bench.methods.face_shape import (
    Points,
    Readers,
    as_complex,
    as_points,
    bridged,
    reference_landmarks,
    similarity,
)

_SMOOTHING = 0.7
"""Gaussian over time on driving landmarks, in frames: takes out detector jitter, keeps blinks."""


class LandmarkWarp:
    """Moves the reference picture as the driving face moves away from its first frame.

    Motion is scaled and turned by the similarity that maps the driving face of the first frame onto the
    reference face, so size and place of the two need not agree. With gate `audio+visual`, mouth and jaw follow
    the head and the speech, everything else the driving video.
    """

    spec = MethodSpec(
        name="landmark-warp",
        version="1",
        gates=("visual", "audio+visual"),
        kind="classical",
        settings={"smoothing": _SMOOTHING},
        weights=(weights.ref("face_landmarker"),),
        seconds_per_frame=0.05,
        summary="moves a still picture by the landmarks of the driving video",
        seeded=False,
    )
    code_modules = (
        "bench.methods.landmark_warp",
        "bench.methods.articulation",
        "bench.methods.face_shape",
        "bench.methods.mouth",
        "bench.methods.warp",
        "bench.media.faces",
    )

    def __init__(self) -> None:
        self._readers = Readers()

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Return the picture in motion; see `bench.methods.base.Method.generate`."""
        from bench.media.decode import chunks, read_audio, read_image
        from bench.methods.articulation import articulate
        from bench.methods.mouth import Mouth
        from bench.methods.warp import FaceWarp

        if sample.video is None:
            raise Unscored(Reason.NO_REFERENCE, f"{sample.id} has no driving video")
        audio = None if sample.audio is None else read_audio(sample.audio)
        picture = read_image(sample.image)
        reader = self._readers.of(sample)
        landmarks = reference_landmarks(reader, picture, sample)
        driving = bridged(reader.read(f for chunk in chunks(sample.video) for f in chunk), sample)
        driving = _stretched(_smoothed(driving), sample.frames)
        mouth = Mouth(picture, reader.shape, landmarks)
        moves = _transferred(driving, landmarks)
        head = _motion_of(reader.shape.outline, landmarks, moves)
        if gate.audio:
            if audio is None:
                raise Unscored(Reason.NO_AUDIO, f"{sample.id} has no driving speech")
            turn, shift = (h[:, None] for h in _motion_of(reader.shape.rigid, landmarks, moves))
            with_head = as_points(turn * as_complex(landmarks) + shift) - landmarks
            spoken = turn * as_complex(mouth.displacements(articulate(audio, sample.frames)))
            jaw = mouth.jaw[:, None]
            moves = (1 - jaw) * moves + jaw * (with_head + as_points(spoken))

        def frames() -> Iterator[npt.NDArray[np.uint8]]:
            warp = FaceWarp(picture, reader.shape, landmarks)
            for frame, move in zip(warp.frames(moves, head), moves, strict=True):
                yield mouth.paint(frame, landmarks + move)

        return Video(frames(), audio=audio)


def _smoothed(track: Points) -> Points:
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(track, _SMOOTHING, axis=0, mode="nearest"))


def _stretched(track: Points, frames: int) -> Points:
    """Cut to `frames`, or hold the last frame."""
    return track[np.minimum(np.arange(frames), len(track) - 1)]


def _transferred(driving: Points, reference: Points) -> Points:
    """Return the reference landmarks' displacements (n, K, 2)."""
    turn, _ = similarity(driving[0], reference)
    return as_points(turn * (as_complex(driving) - as_complex(driving[0])))


def _motion_of(
    indices: tuple[int, ...], landmarks: Points, moves: Points
) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Return the similarity (a, b) per frame that some of the landmarks undergo."""
    start = landmarks[list(indices)]
    return similarity(start, start + moves[:, list(indices)])
