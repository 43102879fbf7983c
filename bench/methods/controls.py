"""Control rows: yardsticks that show whether a number means anything. They see what no method may see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.spec import Gate, MethodSpec, Reason, Sample, Unscored
from bench.methods.base import Video

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class GroundTruth:
    """The real video, encoded like everybody's: the ceiling, and the cost of the codec."""

    spec = MethodSpec(
        name="ground-truth",
        version="1",
        gates=("none",),
        kind="control",
        seconds_per_frame=0.01,
        summary="the real video, encoded like a generated one",
        seeded=False,
    )

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Return the reference video's frames; see `bench.methods.base.Method.generate`."""
        return Video(reference_frames(sample))


class Frozen:
    """The reference picture, standing still: exposes metrics that reward doing nothing."""

    spec = MethodSpec(
        name="frozen",
        version="1",
        gates=("none",),
        kind="control",
        seconds_per_frame=0.01,
        summary="the reference picture, standing still",
        seeded=False,
    )

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Return the reference picture repeated; see `bench.methods.base.Method.generate`."""
        from itertools import repeat

        from bench.media.decode import read_image

        return Video(repeat(read_image(sample.image), sample.frames))


class ShuffledAudio:
    """The real video with another clip's sound: the floor of lip-sync metrics.

    Whoever plans the run puts the partner's sound into `sample.audio`, see `partner`.
    """

    spec = MethodSpec(
        name="shuffled-audio",
        version="1",
        gates=("none",),
        kind="control",
        settings={"audio_from": "partner"},
        seconds_per_frame=0.01,
        summary="the real video with another clip's sound",
        seeded=False,
    )

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Return the reference video's frames with `sample.audio`.

        Raises:
            Unscored: there is no sound to put under the video.
        """
        from bench.media.decode import read_audio

        audio = None if sample.audio is None else read_audio(sample.audio)
        if audio is None:
            raise Unscored(Reason.NO_AUDIO, f"no other clip's sound for {sample.id}")
        return Video(reference_frames(sample), audio=audio)


def partner(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Return for each sample's id the sample whose sound it is shown with.

    One-to-one and the same for any order of `samples`. The partner shows another identity wherever no
    identity owns more than half of the samples. Left out are samples without sound, and samples for which
    only their own recording is available.
    """
    heard = sorted((s for s in samples if s.audio is not None), key=lambda s: (s.identity, s.id))
    if len(heard) < 2:
        return {}
    # Sorted by identity, a turn by the size of the largest group carries every sample out of its own group.
    largest = max(Counter(s.identity for s in heard).values())
    turn = min(largest, len(heard) - 1)
    pairs = zip(heard, heard[turn:] + heard[:turn], strict=True)
    return {s.id: other for s, other in pairs if _recording(s) != _recording(other)}


def _recording(sample: Sample) -> str | Path | None:
    return sample.digests.get("audio", sample.audio)


def reference_frames(sample: Sample) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the ground truth's frames as a method would make them: as many, of the size that methods are given.

    Raises:
        Unscored: there is none.
    """
    from bench.media.decode import chunks
    from bench.media.scale import Fit

    if sample.reference is None:
        raise Unscored(Reason.NO_REFERENCE, f"sample {sample.id} has no ground-truth video")
    frames = (frame for chunk in chunks(sample.reference) for frame in chunk)
    shown = islice(frames, sample.frames)  # a prepared original may go on after its sound has ended
    return shown if sample.given is None else map(Fit(*sample.given), shown)
