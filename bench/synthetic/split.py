"""The synthetic splits: talking faces written as files, the same bytes every time.

Each sample is a self-reenactment task: the reference picture is the clip's first frame, and the clip drives
itself with its own sound and video.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.declaration import known_json
from bench.core.errors import UsageError, did_you_mean
from bench.core.spec import Sample, Split
from bench.media.decode import chunks
from bench.media.encode import write_clip, write_image, write_wav
from bench.store.files import staged, write_bytes
from bench.synthetic import clip
from bench.synthetic.parameters import Partition

VERSION = "1"
"""Raised when the world changes, so that older files are made again."""

FRAMES = 75
SIZE = 64  # the embedded networks and the embedded ACTalker work at this size

NOTES = (
    "Synthetic faces, scored by networks trained on the same renderer: a self-consistent world for testing "
    "methods and metrics, not evidence about real video.",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a split consists of: identities 0..identities-1 of a partition with some clips each."""

    partition: Partition
    identities: int
    clips_each: int


SPLITS: Mapping[str, Recipe] = {
    "synthetic": Recipe("test", 12, 2),
    "synthetic-ci": Recipe("test", 2, 2),
    "synthetic-val": Recipe("validation", 12, 2),
}
"""`synthetic` for results, `synthetic-ci` (its first four clips) for quick checks, `synthetic-val` for choosing
between models; the last shares no face or sentence with the others or with training."""

_FILES = {"image": "reference.png", "audio": "audio.wav", "video": "clip.mp4", "truth": "truth.npz"}
_RECORD = "digests.json"


def make_split(name: str, root: Path, progress: Callable[[int, int], None] | None = None) -> Split:
    """Write a synthetic split under `root` and return it.

    Files that are there already are kept when their digests still match; everything else is made again. The
    same call gives the same bytes (with the same codec library).

    Args:
        name: key of `SPLITS`.
        root: folder; the files go to `<root>/<name>/<sample id>/`.
        progress: called with (samples ready, samples in all).

    Raises:
        UsageError: there is no such split.
    """
    if name not in SPLITS:
        raise UsageError(
            f"There is no synthetic split '{name}'.{did_you_mean(name, list(SPLITS))}",
            f"Known: {', '.join(SPLITS)}",
        )
    recipe = SPLITS[name]
    total = recipe.identities * recipe.clips_each
    samples: list[Sample] = []
    for identity in range(recipe.identities):
        for take in range(recipe.clips_each):
            index = identity * recipe.clips_each + take
            folder = Path(root).absolute() / name / f"id{identity:02d}-take{take}"
            digests = _verified(folder) or _make(folder, recipe.partition, index, identity)
            samples.append(_sample(name, folder, identity, digests))
            if progress:
                progress(index + 1, total)
    return Split(name, "synthetic", tuple(samples), notes=NOTES)


def _sample(name: str, folder: Path, identity: int, digests: Mapping[str, str]) -> Sample:
    video = folder / _FILES["video"]
    return Sample(
        dataset="synthetic",
        split=name,
        id=folder.name,
        identity=f"id{identity:02d}",
        image=folder / _FILES["image"],
        audio=folder / _FILES["audio"],
        video=video,
        reference=video,
        frames=FRAMES,
        digests={
            "image": digests["image"],
            "audio": digests["audio"],
            "video": digests["video"],
            "reference": digests["video"],
        },
        truth=folder / _FILES["truth"],
    )


def _make(folder: Path, partition: Partition, index: int, identity: int) -> dict[str, str]:
    made = clip.make_clip(partition, index, FRAMES, identity, SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / _FILES["video"]
    write_clip(video, made.frames, audio=made.audio)
    # The picture is cut from the file, as with real data: no method gets to see an uncompressed face.
    write_image(folder / _FILES["image"], next(chunks(video))[0])
    write_wav(folder / _FILES["audio"], made.audio)
    with staged(folder / _FILES["truth"]) as part, part.open("wb") as file:
        np.savez_compressed(file, **made.truth())  # type: ignore[arg-type]
    digests = {key: _digest(folder / file) for key, file in _FILES.items()}
    write_bytes(folder / _RECORD, json.dumps({"version": VERSION, **digests}, indent=1).encode())
    return digests


def _verified(folder: Path) -> dict[str, str] | None:
    """Return the recorded digests if every file is there and unchanged."""
    record = known_json(folder / _RECORD, dict[str, Any]) or {}
    if record.pop("version", None) != VERSION or set(record) != set(_FILES):
        return None
    try:
        intact = all(_digest(folder / file) == record[key] for key, file in _FILES.items())
    except OSError:
        return None
    return record if intact else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
