"""A synthetic clip: frames, sound and exact ground truth from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.synthetic import geometry, motion, parameters, renderer, speech
from bench.synthetic.parameters import Floats, Partition

FPS = motion.FPS


@dataclass(frozen=True, slots=True)
class WorldClip:
    """A talking face with everything that is known about it.

    Attributes:
        frames: uint8 (T, size, size, 3), RGB, 25 fps.
        speech: sentence with audio (int16, 16 kHz, T/25 s) and phonemes.
        identity: (16,), see `parameters.IDENTITY`.
        expression: (T, 10), see `parameters.EXPRESSION`.
        pose: (T, 6), see `parameters.POSE`.
        nuisance: (9,), see `parameters.NUISANCE`.
        labels: uint8 (T, size, size), see `renderer`.
    """

    frames: npt.NDArray[np.uint8]
    speech: speech.Speech
    identity: Floats
    expression: Floats
    pose: Floats
    nuisance: Floats
    labels: npt.NDArray[np.uint8]

    @property
    def audio(self) -> npt.NDArray[np.int16]:
        """The sound, int16 (T * 640,), 16 kHz."""
        return self.speech.audio

    def truth(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the ground truth as named arrays, the content of a sample's `truth` file.

        Keys: `identity` (16,), `expression` (T, 10), `pose` (T, 6), `nuisance` (9,), `mouth_drawn` (T, 3; see
        `geometry.MOUTH_DRAWN`), `landmarks` (T, 43, 2) px, `face_box` and `mouth_box` (T, 4) px, `labels`
        (T, size, size) uint8, `phonemes` (n,) one-letter strings, `phoneme_times` (n, 2) start and end in s.
        """
        size = self.frames.shape[1]
        points = geometry.landmarks(self.identity, self.expression, self.pose, size)
        face, mouth = geometry.boxes(points, size)
        spoken = [s for s in self.speech.segments if s.start < len(self.frames) / FPS]
        return {
            "identity": self.identity,
            "expression": self.expression,
            "pose": self.pose,
            "nuisance": self.nuisance,
            "mouth_drawn": geometry.mouth_drawn(self.identity, self.expression),
            "landmarks": points,
            "face_box": face,
            "mouth_box": mouth,
            "labels": self.labels,
            "phonemes": np.array([s.symbol for s in spoken]),
            "phoneme_times": np.array([(s.start, s.end) for s in spoken], np.float32),
        }


def make_clip(
    partition: Partition,
    index: int,
    frames: int = 75,
    identity: int | None = None,
    size: int = 64,
    pose_amplitude: float = 1.0,
) -> WorldClip:
    """Make clip number `index` of a partition.

    Args:
        partition: `train`, `validation` or `test`.
        index: decides speech, motion, background, light and clothes.
        frames: length at 25 fps.
        identity: number of the identity within the partition; the clip's own number if None.
        size: width and height in pixels.
        pose_amplitude: 0 keeps the head still.
    """
    rng = parameters.generator(partition, "clip", index)
    sentence = speech.speak(frames / FPS, rng)
    expression, pose = motion.perform(frames, sentence, rng, pose_amplitude)
    around = parameters.nuisance(rng)[0]
    who = parameters.identity(partition, index if identity is None else identity)
    pictures, labels = renderer.render_with_masks(who, expression, pose, around, size)
    return WorldClip(pictures, sentence, who, expression, pose, around, labels)
