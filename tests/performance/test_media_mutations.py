"""A thousand damaged files: each is read or refused in words, within 20 seconds and 2 GB; nothing crashes.

Run alone: `pytest -m performance tests/performance/test_media_mutations.py`. With a folder as its argument
the module is the reading process.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import BenchError
from bench.media.decode import chunks, read_image
from bench.media.errors import DecodeError
from bench.media.probe import probe
from bench.media.sound import read_sound

pytestmark = pytest.mark.performance

SEED, FILES, SECONDS, BYTES = 20260, 1000, 20, 2 * 10**9
FILMS = (
    ("a.mp4", "libx264", "aac", "yuv420p"),
    ("b.mkv", "libx265", "libopus", "yuv420p10le"),
    ("c.webm", "libvpx-vp9", "libopus", "yuv420p"),
    ("d.avi", "mpeg4", "libmp3lame", "yuv420p"),
    ("e.mov", "qtrle", "pcm_s16le", "argb"),
    ("f.ts", "mpeg2video", "mp2", "yuv420p"),
    ("g.mov", "mjpeg", "aac", "yuvj420p"),
)


def sources(folder: Path) -> list[Path]:
    """Write small sound files of many kinds."""
    import av
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    made = []
    for name, codec, voice, layout in FILMS:
        with av.open(str(folder / name), "w") as box:
            quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            film = box.add_stream(codec, rate=25, options=quiet)
            film.width, film.height, film.pix_fmt = 64, 48, layout
            sound = box.add_stream(voice, rate=48000, layout="mono")
            for k in range(12):
                frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * k, 1), format="rgba").reformat(
                    format=layout
                )
                frame.pts, frame.time_base = k, Fraction(1, 25)
                box.mux(film.encode(frame))
            box.mux(film.encode(None))
            step = sound.codec_context.frame_size or 1024
            wave = (8000 * np.sin(np.arange(step * 20) / 9)).astype(np.int16)
            to_codec = av.AudioResampler(format=sound.codec_context.format, layout="mono", rate=48000)
            for at in range(0, len(wave), step):
                part = av.AudioFrame.from_ndarray(wave[None, at : at + step], format="s16", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, at, Fraction(1, 48000)
                for piece in to_codec.resample(part):
                    box.mux(sound.encode(piece))
            box.mux(sound.encode(None))
        made.append(folder / name)
    tags = Image.Exif()
    tags[0x0112] = 6
    for name, shown in (("h.png", picture), ("i.jpg", picture[..., :3]), ("j.webp", picture), ("k.tif", picture)):
        Image.fromarray(shown).save(folder / name, exif=tags)
        made.append(folder / name)
    return made


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Damage a file in one of six ways, mostly near its beginning, where headers are."""
    found = bytearray(data)
    size = len(found)

    def place() -> int:
        return int(random.integers(size) if random.random() < 0.4 else random.integers(min(size, 1500)))

    way = random.integers(6)
    if way == 0:
        for _ in range(random.integers(1, 20)):
            found[place()] = random.integers(256)
    elif way == 1:
        del found[max(20, place()) :]
    elif way == 2:
        at = place()
        del found[at : at + int(random.integers(1, 400))]
    elif way == 3:
        at = place()
        found[at:at] = found[at : at + int(random.integers(1, 400))]
    elif way == 4:
        for _ in range(random.integers(1, 4)):
            at = place()
            value = int(random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**16, 300]))
            found[at : at + 4] = value.to_bytes(4, random.choice(["big", "little"]))
    else:
        at = place()
        found[at : at + 64] = random.integers(0, 256, 64, dtype=np.uint8).tobytes()
    return bytes(found[: size + 400])


def read_everything(folder: Path) -> Iterator[str]:
    """Yield what became of every file: `read`, `refused`, or a line about what must not happen."""
    for path in sorted(folder.iterdir()):
        signal.alarm(SECONDS)
        refused = False
        for read in (probe, lambda p: sum(map(len, chunks(p))), read_sound, read_image):
            try:
                read(path)
            except DecodeError as error:
                refused = True
                if "foresaw" in error.message or "\n" in error.message:
                    yield f"{path.name}: {error.message}"
            except BenchError as error:
                yield f"{path.name}: {error!r}"
        yield "refused" if refused else "read"
    signal.alarm(0)
    if (used := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) > BYTES:
        yield f"memory: {used / 1e9:.1f} GB"


def test_a_thousand_damaged_files(tmp_path: Path) -> None:
    random = np.random.default_rng(SEED)
    good = tmp_path / "good"
    good.mkdir()
    (tmp_path / "bad").mkdir()
    made = sources(good)
    for number in range(FILES):
        source = made[number % len(made)]
        (tmp_path / "bad" / f"{number:04}{source.suffix}").write_bytes(mutated(source.read_bytes(), random))
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "bad")], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    outcomes = Counter(done.stdout.splitlines())
    assert outcomes.pop("read", 0) + outcomes.pop("refused", 0) == FILES
    assert not outcomes, outcomes


if __name__ == "__main__":
    for line in read_everything(Path(sys.argv[1])):
        print(line, flush=True)
