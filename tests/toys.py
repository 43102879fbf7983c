"""Tiny methods and splits for tests of the harness. Loaded by path, as a user's own method would be."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.core.keys import file_digest
from bench.core.spec import Gate, MethodSpec, Reason, Sample, Split, Unscored
from bench.media.decode import chunks, read_image
from bench.media.encode import write_clip, write_image
from bench.methods.base import Video


class Still:
    """Shows the reference picture; brightness follows the seed."""

    spec = MethodSpec("still", "1", ("audio", "audio+visual"), "classical", seconds_per_frame=0.001)

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        picture = read_image(sample.image)
        shade = np.uint8(seed % 16)
        return Video(np.minimum(picture, 200) + shade for _ in range(sample.frames))


class Copy:
    """Passes the driving video on."""

    spec = MethodSpec("copy", "1", ("visual",), "classical", seeded=False)

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        assert sample.video is not None and sample.audio is None and sample.reference is None
        return Video(frame for chunk in chunks(sample.video) for frame in chunk)


class CopyToo(Copy):
    """Makes the very clips that Copy makes."""

    spec = MethodSpec("copy-too", "1", ("visual",), "classical", seeded=False)


class Slow(Still):
    """Like Still, but takes its time."""

    spec = MethodSpec("slow", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        time.sleep(0.15)
        return super().generate(sample, gate, seed)


class Noted(Still):
    """Like Still; notes where and for what it begins, and takes as long as the notes' neighbour says."""

    spec = MethodSpec("noted", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        notes = Path(os.environ["TOY_MARKERS"])
        with (notes / "begun").open("a") as file:
            file.write(f"{platform.node()} {sample.id} {seed}\n")
        time.sleep(float((notes / "seconds").read_text()))
        return super().generate(sample, gate, seed)


class Counted(Still):
    """Notes that it was begun, and takes long enough for another run to come by."""

    spec = MethodSpec("counted", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        with (Path(os.environ["TOY_MARKERS"]) / "begun").open("a") as file:
            file.write(f"{sample.id} {os.getpid()}\n")
        time.sleep(0.7)
        return super().generate(sample, gate, seed)


class HalfRate(Still):
    """Makes 12.5 fps, which the harness brings to 25."""

    spec = MethodSpec("half-rate", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        picture = read_image(sample.image)
        return Video((picture for _ in range((sample.frames + 1) // 2)), fps=12.5)


class Picky(Still):
    """Fails in every way a method can, by sample."""

    spec = MethodSpec("picky", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        number = int(sample.id[-1])
        if number == 0:
            raise ValueError("cannot count to zero")
        if number == 1:
            raise Unscored(Reason.NO_FACE, "no face in the picture")
        if number == 2:
            return Video([np.full((32, 32, 3), 90, np.uint8)] * 3)
        if number == 3:
            return Video([np.zeros((32, 32, 3), np.uint8)] * sample.frames)
        if number == 4:
            return None  # type: ignore[return-value]
        return super().generate(sample, gate, seed)


class Broken:
    """Cannot be built."""

    spec = MethodSpec("broken", "1", ("audio",), "classical")

    def __init__(self) -> None:
        raise ModuleNotFoundError("no module named 'wheel_of_fortune'")


class Suicidal(Still):
    """Kills its own worker on the first try of each sample."""

    spec = MethodSpec("suicidal", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        marker = Path(os.environ["TOY_MARKERS"]) / sample.id
        if not marker.exists():
            marker.touch()
            os._exit(9)
        return super().generate(sample, gate, seed)


class Exits(Still):
    """Ends its process."""

    spec = MethodSpec("exits", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        print("last words", flush=True)
        os._exit(7)


class Faults(Still):
    """Reads where nothing is."""

    spec = MethodSpec("faults", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        import ctypes

        ctypes.string_at(0)
        raise AssertionError("not reached")


class AtStart(Still):
    """Ends its process while it is built."""

    spec = MethodSpec("at-start", "1", ("audio",), "classical")

    def __init__(self) -> None:
        os._exit(5)


class Quits(Still):
    """Calls sys.exit, as scripts do."""

    spec = MethodSpec("quits", "1", ("audio",), "classical")

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        raise SystemExit(3)


class TwoThirds(Still):
    """Says that it needs more than half of a GPU, and for long."""

    spec = MethodSpec("two-thirds", "1", ("audio",), "model", gpus=0.6, seconds_per_frame=20.0)

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        time.sleep(3.0)
        return super().generate(sample, gate, seed)


class Giant(Still):
    """Needs more GPUs than any test machine has."""

    spec = MethodSpec("giant", "1", ("audio",), "model", gpus=64.0)


def target(name: str) -> str:
    """Return what to pass to --methods."""
    return f"{Path(__file__).resolve()}:{name}"


def frames(seed: int, count: int = 12, size: int = 32) -> Iterator[np.ndarray]:
    """Yield a moving pattern."""
    y, x = np.mgrid[:size, :size]
    for t in range(count):
        wave = 128 + 100 * np.sin((x * (seed % 3 + 1) + y + 3 * t) / 6)
        yield np.stack([wave, np.roll(wave, seed, 0), 255 - wave], axis=-1).astype(np.uint8)


def make_split(root: Path, count: int = 3, length: int = 12) -> Split:
    """Make a few tiny talking-pattern samples; two samples share an identity."""
    root.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(count):
        time_ = np.arange(length * 640) / 16000
        audio = (3000 * np.sin(300 * (i + 1) * time_) * np.abs(np.sin(20 * time_))).astype(np.int16)
        video, image = root / f"v{i}.mp4", root / f"i{i}.png"
        if not video.exists():
            write_clip(video, frames(i, length), 25.0, audio)
            write_image(image, next(frames(i)))
        digests = {"image": file_digest(image)} | dict.fromkeys(
            ("audio", "video", "reference"), file_digest(video)
        )
        samples.append(
            Sample("toy", "test", f"toy-{i}", f"who-{i // 2}", image, video, video, video, length, digests=digests)
        )
    return Split("toy", "real", tuple(samples))
