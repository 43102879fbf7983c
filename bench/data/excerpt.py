"""Short, small copies of samples with a ground truth, for a quick look at many variants of them."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np

from bench.core.keys import digest, file_digest
from bench.core.spec import SAMPLES_PER_FRAME, Sample
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip, write_wav
from bench.media.probe import probe
from bench.media.scale import Fit, within

PROTOCOL = "excerpt/1: H.264 RGB without loss"


def excerpt(sample: Sample, cache: Path, frames: int, short_side: int) -> Sample:
    """Return a sample cut to its first frames and scaled down, or itself where it is no larger than that.

    The reference picture stays as it is. What is known of a drawn face is cut with the frames.

    Args:
        sample: with a ground truth.
        cache: where the files are kept, by content.
        frames: most frames at 25 fps.
        short_side: most pixels of the shorter side.
    """
    assert sample.reference is not None, "there is nothing to cut"
    seen = probe(sample.reference)
    size = sample.given or (seen.width, seen.height)
    small = within(*size, short_side)
    if sample.frames <= frames and min(size) <= short_side:
        return sample
    count = min(sample.frames, frames)
    name = digest([PROTOCOL, sample.digests, count, small])[:24]
    folder = cache / name
    clip, sound, truth = folder / "reference.mp4", folder / "audio.wav", folder / "truth.npz"
    if not clip.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        samples = None if sample.audio is None else read_audio(sample.audio)
        if samples is not None:
            samples = samples[: count * SAMPLES_PER_FRAME]
            write_wav(sound, samples)
        if sample.truth is not None:
            with np.load(sample.truth, allow_pickle=False) as known:
                cut = {k: v[:count] if v.shape[:1] == (sample.frames,) else v for k, v in known.items()}
            np.savez(truth, **cut)
        shown = (frame for chunk in chunks(sample.reference) for frame in chunk)
        # Last, for it is the mark that all is there.
        write_clip(clip, map(Fit(*small), islice(shown, count)), 25.0, samples, lossless=True)
    heard = sound if sound.is_file() else None
    found = file_digest(clip)
    return dataclasses.replace(
        sample,
        audio=heard,
        video=clip,
        reference=clip,
        frames=count,
        given=None,
        truth=truth if truth.is_file() else None,
        digests={
            **{k: v for k, v in sample.digests.items() if k == "image"},
            **({"audio": file_digest(heard)} if heard is not None else {}),
            "video": found,
            "reference": found,
        },
    )
