"""`mouth-warp`: a talking mouth on a still picture, from sound alone and without any learned weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench import weights
from bench.core.spec import Gate, MethodSpec, Reason, Sample, Unscored
from bench.methods.base import Video
from bench.methods.face_shape import Readers, reference_landmarks


class MouthWarp:
    """Opens and shapes the mouth of the reference picture by the articulation heard in the speech."""

    spec = MethodSpec(
        name="mouth-warp",
        version="1",
        gates=("audio",),
        kind="classical",
        weights=(weights.ref("face_landmarker"),),
        seconds_per_frame=0.03,
        summary="opens the mouth of a still picture by loudness and formants of the speech",
        seeded=False,
    )
    code_modules = (
        "bench.methods.mouth_warp",
        "bench.methods.articulation",
        "bench.methods.face_shape",
        "bench.methods.mouth",
        "bench.methods.warp",
        "bench.media.faces",
    )

    def __init__(self) -> None:
        self._readers = Readers()

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Return the picture talking; see `bench.methods.base.Method.generate`."""
        from bench.media.decode import read_audio, read_image
        from bench.methods.articulation import articulate
        from bench.methods.mouth import Mouth
        from bench.methods.warp import FaceWarp

        audio = None if sample.audio is None else read_audio(sample.audio)
        if audio is None:
            raise Unscored(Reason.NO_AUDIO, f"{sample.id} has no driving speech")
        picture = read_image(sample.image)
        reader = self._readers.of(sample)
        landmarks = reference_landmarks(reader, picture, sample)
        mouth = Mouth(picture, reader.shape, landmarks)
        moves = mouth.displacements(articulate(audio, sample.frames))

        def frames() -> Iterator[npt.NDArray[np.uint8]]:
            warp = FaceWarp(picture, reader.shape, landmarks)
            for frame, move in zip(warp.frames(moves), moves, strict=True):
                yield mouth.paint(frame, landmarks + move)

        return Video(frames(), audio=audio)
