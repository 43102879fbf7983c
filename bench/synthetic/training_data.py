"""What the embedded networks learn from: faces and clips after video compression, with exact labels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip
from bench.metrics.mfcc import mfcc
from bench.synthetic import clip, geometry, parameters, renderer
from bench.synthetic.labels import readings
from bench.synthetic.parameters import Floats, Partition

Arrays = dict[str, npt.NDArray[np.generic]]
Report = Callable[[int, int], None]
_CODEC_RUN = 64  # portraits compressed as one sequence


def compressed(
    frames: npt.NDArray[np.uint8], audio: npt.NDArray[np.int16] | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    """Send frames (T, H, W, 3) and 16 kHz sound through the canonical clip file and back.

    Returns:
        What a metric would see: frames of the same shape and samples (empty without audio).
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, frames, audio=audio)
        seen = np.concatenate(list(chunks(path)))
        heard = None if audio is None else read_audio(path)
    return seen, np.zeros(0, np.int16) if heard is None else heard[: len(frames) * 640]


def portraits(
    partition: Partition,
    purpose: str,
    identities: int,
    each: int,
    report: Report | None = None,
    first: int = 0,
) -> Arrays:
    """Draw unrelated frames: every frame has its own expression, pose, background, light and clothes.

    Args:
        partition: where identities and randomness come from.
        purpose: names the set.
        identities: number of identities.
        each: frames per identity.
        report: called with (frames done, frames in all).
        first: number of the first identity.

    Returns:
        `frames` (N, 64, 64, 3) uint8 after compression, `who` (N,) identity numbers, `readings` (N, 10),
        `pose` (N, 6), `identity` (N, 16), `nuisance` (N, 9), `landmarks` (N, 43, 2) px.
    """
    rng = parameters.generator(partition, purpose)
    count = identities * each
    faces = np.stack([parameters.identity(partition, first + i) for i in range(identities)])
    # Codec runs mix identities, so that no identity is recognisable by its compression.
    order = rng.permutation(np.repeat(np.arange(identities), each))
    expression, pose = _free_expression(count, rng), _free_pose(count, rng)
    around = parameters.nuisance(rng, count)
    frames = np.empty((count, 64, 64, 3), np.uint8)
    for start in range(0, count, _CODEC_RUN):
        part = slice(start, start + _CODEC_RUN)
        drawn = renderer.render(faces[order[part]], expression[part], pose[part], around[part])
        frames[part] = compressed(drawn)[0]
        if report:
            report(min(start + _CODEC_RUN, count), count)
    who = faces[order]
    return {
        "frames": frames,
        "who": order,
        "readings": readings(who, expression),
        "pose": pose,
        "identity": who,
        "nuisance": around,
        "landmarks": geometry.landmarks(who, expression, pose),
    }


def _free_expression(count: int, rng: np.random.Generator) -> Floats:
    """Draw expressions that cover the ranges evenly, without time."""
    uniform = rng.random((count, 10), dtype=np.float32)
    e = np.empty_like(uniform)
    e[:, 0] = uniform[:, 0] ** 1.3
    e[:, 1] = 1.5 * uniform[:, 1] - 0.5
    e[:, 2] = np.maximum(1.5 * uniform[:, 2] - 0.5, 0)
    e[:, 3] = 1.6 * uniform[:, 3] - 0.6
    e[:, 4] = 1.5 * uniform[:, 4] - 0.5
    e[:, 5] = np.maximum(1.4 * uniform[:, 5] - 0.4, 0)
    blinks = np.maximum(1.8 * uniform[:, 6:8] - 0.8, 0)
    together = rng.random(count) < 0.7
    e[:, 6], e[:, 7] = blinks[:, 0], np.where(together, blinks[:, 0], blinks[:, 1])
    e[:, 8], e[:, 9] = 1.8 * uniform[:, 8] - 0.9, 1.2 * uniform[:, 9] - 0.6
    return e


def _free_pose(count: int, rng: np.random.Generator) -> Floats:
    centred = rng.random((count, 6), dtype=np.float32) - 0.5
    pose = centred * np.array([0.95, 0.55, 0.40, 0.28, 0.20, 0.24], np.float32)
    pose[:, 5] += 1
    return pose


def talking(partition: Partition, start: int, count: int, frames: int, report: Report | None = None) -> Arrays:
    """Make talking clips, each with its own identity, after compression.

    Args:
        partition: where everything comes from.
        start: number of the first clip.
        count: number of clips.
        frames: length of each at 25 fps.
        report: called with (clips done, clips in all).

    Returns:
        `frames` (N, T, 64, 64, 3) uint8, `mfcc` (N, 4 T, 13) float32, `readings` (N, T, 10), `pose` (N, T,
        6).
    """
    out: Arrays = {
        "frames": np.empty((count, frames, 64, 64, 3), np.uint8),
        "mfcc": np.empty((count, 4 * frames, 13), np.float32),
        "readings": np.empty((count, frames, 10), np.float32),
        "pose": np.empty((count, frames, 6), np.float32),
    }
    for i in range(count):
        made = clip.make_clip(partition, start + i, frames)
        seen, heard = compressed(made.frames, made.audio)
        out["frames"][i], out["mfcc"][i] = seen, padded_mfcc(heard, frames)
        out["readings"][i], out["pose"][i] = readings(made.identity, made.expression), made.pose
        if report:
            report(i + 1, count)
    return out


def padded_mfcc(audio: npt.NDArray[np.int16], frames: int) -> Floats:
    """Return MFCC with exactly four rows per video frame, (4 frames, 13); the last row is repeated."""
    rows = mfcc(audio)[: 4 * frames].astype(np.float32)
    return np.pad(rows, ((0, 4 * frames - len(rows)), (0, 0)), mode="edge")


def cached(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """Load arrays from a folder of .npy files (memory-mapped), making them first if it is not there."""
    if not path.is_dir():
        arrays = make()
        staging = path.with_name(path.name + ".partial")
        staging.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(staging / f"{name}.npy", array)
        staging.rename(path)
    return {file.stem: np.load(file, mmap_mode="r") for file in sorted(path.glob("*.npy"))}


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    """Yield index arrays that cover 0..count-1 once in random order."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]
