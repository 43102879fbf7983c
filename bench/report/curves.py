"""What the page shows along a clip: mouth opening, agreement of sound and lips by offset, spectrogram, frames.

Of features, only what scoring has already stored is read; spectrograms and contact sheets are made from the
files. The result lies in the run folder as `clips.json`, which `bench.results.runs.load` picks up.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.core.views import Features
from bench.report import sheets
from bench.results.runs import CLIPS_FILE, ROWS_FILE
from bench.store.files import write_bytes

if TYPE_CHECKING:
    import pandas as pd

MOST_CLIPS = 2000
FPS = 25.0
PLACE = ["dataset", "split", "sample"]
INNER_LIPS = (13, 14)  # upper and lower, of MediaPipe's face mesh

Stored = Callable[[str, str], Features | None]
"""(clip sha256, extractor name) -> stored arrays, or None."""

Array = npt.NDArray[Any]


def write(folder: Path, stored: Stored) -> Path | None:
    """Write `clips.json` of a run folder; returns its path, or None when there is nothing to draw."""
    import pandas as pd

    wanted = ["kind", "method", "gate", "dataset", "split", "sample", "clip_sha256", "clip_path", "audio_path"]
    clips = _clips(pd.read_parquet(folder / ROWS_FILE, columns=wanted))
    found = collect(clips, stored)
    for sha256, path in sheets.write(clips[clips["clip_path"] != ""], folder).items():
        found.setdefault(sha256, {"fps": FPS})["sheet"] = path
    if not found:
        return None
    target = folder / CLIPS_FILE
    write_bytes(target, json.dumps(found, separators=(",", ":"), allow_nan=False).encode(), within=folder)
    return target


def _clips(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for the first repeat of every clip."""
    clips = rows[(rows["kind"] == "clip") & (rows["clip_sha256"] != "")]
    return clips.drop_duplicates(["method", "gate", *PLACE])


def collect(clips: pd.DataFrame, stored: Stored) -> dict[str, dict[str, Any]]:
    """Return the features known of each clip under its sha256; see `Results.clips` for the keys."""
    clips = clips.head(MOST_CLIPS)
    truths = clips[clips["method"] == sheets.GROUND_TRUTH].set_index(PLACE)["clip_sha256"].to_dict()
    pictures: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for record in clips.to_dict("records"):
        sha256 = record["clip_sha256"]
        if sha256 in found:
            continue
        # Control rows may carry another sound than the sample's.
        path = record["clip_path"] if record["gate"] == "none" else record["audio_path"]
        if path and path not in pictures:
            pictures[path] = _spectrogram_of(Path(path))
        truth = truths.get(tuple(record[name] for name in PLACE))
        extra = {
            "mouth": mouth(sha256, stored),
            "reference_mouth": mouth(truth, stored) if truth and truth != sha256 else None,
            "sync_curve": sync_curve(sha256, stored),
            "mouth_at": mouth_at(sha256, stored),
            "mel": pictures.get(path),
        }
        extra = {name: value for name, value in extra.items() if value}
        if extra:
            found[sha256] = {"fps": FPS, **extra}
    return found


def mouth(sha256: str, stored: Stored) -> list[float | None] | None:
    """Return the opening of the mouth per frame, None where no face was seen.

    Real faces: gap of the inner lips over the distance of the outer eye corners. Synthetic faces: the opening
    the embedded reader sees.
    """
    read = stored(sha256, "synthetic_face")
    if read is not None:
        from bench.synthetic.labels import READINGS

        return _numbers(read["readings"][:, READINGS.index("opening")])
    faces = stored(sha256, "faces")
    if faces is None:
        return None
    from bench.metrics.faces import inter_ocular

    marks = faces["landmarks"][..., :2].astype(np.float64)
    upper, lower = INNER_LIPS
    gap = np.linalg.norm(marks[:, upper] - marks[:, lower], axis=-1) / inter_ocular(marks)
    return _numbers(np.where(faces["valid"], gap, np.nan))


def mouth_at(sha256: str, stored: Stored) -> list[float | None] | None:
    """Return where the mouth is on average, as shares of width and height; None where no face was read."""
    faces = stored(sha256, "faces")
    if faces is None or not faces["valid"].any():
        return None
    lips = faces["landmarks"][faces["valid"]][:, INNER_LIPS, :2].astype(np.float64)
    return _numbers(lips.mean((0, 1)) / faces["size"])


def sync_curve(sha256: str, stored: Stored) -> list[float | None] | None:
    """Return the mean distance of sound and lips at offsets +15 to -15 frames (positive: sound early)."""
    pair = stored(sha256, "synthetic_sync")
    if pair is not None:
        from bench.metrics.sync_search import search

        return _numbers(search(pair["video"], pair["audio"]).distances)
    tracks = stored(sha256, "syncnet_tracks")
    if tracks is None or not len(tracks["frames"]):
        return None
    return _numbers(tracks["curve"][int(tracks["frames"].argmax())])


def _numbers(values: Array) -> list[float | None]:
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values.tolist()]


def _spectrogram_of(path: Path) -> str:
    from bench.media.decode import read_audio

    try:
        samples = read_audio(path)
    except (OSError, ValueError, RuntimeError):
        return ""
    return "" if samples is None or len(samples) < 800 else spectrogram(samples)


def spectrogram(samples: npt.NDArray[np.int16], width: int = 240) -> str:
    """Return a log-mel spectrogram as a PNG data URI, low frequencies at the bottom, loud is bright.

    Args:
        samples: mono speech at 16 kHz, (n,).
        width: largest number of columns; longer speech is averaged.
    """
    from bench.metrics.mfcc import HOP, N_FFT, WINDOW, filterbank

    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), N_FFT)) ** 2
    bands = np.log(power @ filterbank().T + 1e3)
    edges = np.linspace(0, len(bands), min(width, len(bands)) + 1).astype(int)[:-1]
    columns = np.add.reduceat(bands, edges) / np.diff([*edges, len(bands)])[:, None]
    low, high = np.percentile(columns, [5, 99.5])
    shade = np.clip((columns - low) / max(high - low, 1e-9), 0, 1) * 15
    return _png(shade.round().astype(np.uint8).T[::-1])


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    """Return a 4-bit grey picture (height, width) with values 0..15 as a data URI."""
    height, width = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, width % 2)))
    packed = even[:, ::2] << 4 | even[:, 1::2]
    lines = b"".join(b"\x00" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(_chunks(parts))).decode()


def _chunks(parts: list[tuple[bytes, bytes]]) -> Iterator[bytes]:
    for name, data in parts:
        yield struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
