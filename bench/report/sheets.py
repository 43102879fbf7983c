"""Contact sheets: strips of frames that show at a glance what moves, drifts or breaks.

Each clip gets one JPEG with `FRAMES` frames from left to right. All clips of a sample are cut at the same
moments, so the page can put ground truth and every method under each other as one sheet. Strips are named by
the clip's content: a strip that lies in the folder is never made again.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.media.errors import DecodeError
from bench.store.files import staged

if TYPE_CHECKING:
    import pandas as pd

FRAMES = 8
HEIGHT = 96
"""Height of a strip in pixels; frames keep their aspect."""

MOST_STRIPS = 1000
"""Decoding a clip takes a fraction of a second: beyond this many, samples spread over the split get a sheet."""

FOLDER = "sheets"
GROUND_TRUTH = "ground-truth"


def write(clips: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Write the strips of these clips into `folder/sheets`; returns their paths relative to `folder` by sha256.

    Args:
        clips: rows with method, dataset, split, sample, clip_sha256 and clip_path, one per clip.
        folder: a run folder; relative clip paths are relative to it.
    """
    found: dict[str, str] = {}
    for sample in _chosen(clips):
        paths = {sha256: folder / path for sha256, path in sample}
        seconds = next(filter(None, map(_seconds, paths.values())), 0.0)
        for sha256, path in paths.items() if seconds else ():
            target = folder / FOLDER / f"{sha256[:16]}-{round(seconds * 1000)}.jpg"
            if target.is_file() or _write_strip(path, seconds, target):
                found[sha256] = target.relative_to(folder).as_posix()
    return found


def _chosen(clips: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Return (sha256, path) of the clips of whole samples, ground truth first.

    The samples are evenly spread over the split where there are too many.
    """
    order = clips.assign(later=clips["method"] != GROUND_TRUTH).sort_values(["later", "method", "gate"])
    samples = [
        list(zip(part["clip_sha256"], part["clip_path"], strict=True))
        for _, part in order.groupby(["dataset", "split", "sample"], sort=True)
    ]
    return samples[:: max(1, -(-len(clips) // MOST_STRIPS))]


def _seconds(clip: Path) -> float | None:
    from bench.media.probe import probe

    try:
        return probe(clip).duration
    except DecodeError:
        return None


def _write_strip(clip: Path, seconds: float, target: Path) -> bool:
    from PIL import Image

    try:
        picture = strip(clip, seconds)
    except DecodeError:
        return False
    with staged(target, within=target.parents[1]) as part:
        Image.fromarray(picture).save(part, "JPEG", quality=85)
    return True


def strip(clip: Path, seconds: float) -> npt.NDArray[np.uint8]:
    """Return frames of a clip side by side, uint8 (HEIGHT, FRAMES * width, 3); black after its end.

    Args:
        clip: a video.
        seconds: length to spread the frames over: frame i is what shows just before (i + 1/2) / FRAMES of it.

    Raises:
        DecodeError: the clip cannot be read.
    """
    from bench.media.decode import chunks
    from bench.media.scale import Resizer

    frames = list(islice((f for part in chunks(clip, FRAMES / seconds) for f in part), FRAMES))
    height, width = frames[0].shape[:2]
    resize = Resizer(max(1, round(HEIGHT * width / height)), HEIGHT)
    small = [resize(frame) for frame in frames]
    small += [np.zeros_like(small[0])] * (FRAMES - len(small))
    return np.concatenate(small, axis=1)
