"""Samples whose driving sound says nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.core.keys import file_digest
from bench.core.spec import SAMPLES_PER_FRAME, Sample
from bench.media.encode import write_wav

LEVEL = 16.0
"""RMS of int16 amplitudes, -66 dB of full scale: a quiet room. Many methods refuse digital zeros."""


def silenced(samples: Iterable[Sample], folder: Path) -> dict[str, Sample]:
    """Return for each sample's id the sample with the sound of an empty room in place of its own.

    Args:
        samples: those without sound are left out.
        folder: where the sounds are kept, one for each length.
    """
    found = {}
    for sample in samples:
        if sample.audio is None:
            continue
        path = folder / f"{sample.frames}.wav"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(0).normal(0, LEVEL, sample.frames * SAMPLES_PER_FRAME)
            write_wav(path, np.rint(noise).astype(np.int16))
        digests = {**sample.digests, "audio": file_digest(path)}
        found[sample.id] = dataclasses.replace(sample, audio=path, digests=digests)
    return found
