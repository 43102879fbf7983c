"""Decoding: frames on the 25 fps grid, still pictures, and 16 kHz mono audio. The only reader there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from bench.media.errors import DecodeError
from bench.media.probe import (
    FPS,
    ResamplePlan,
    decoded,
    displayed,
    first_frame,
    open_media,
    resample_plan,
    start_time,
    video_stream,
)

__all__ = ["FPS", "SAMPLE_RATE", "ResamplePlan", "chunks", "read_audio", "read_image", "resample_plan"]

SAMPLE_RATE = 16000
"""Audio samples per second everywhere in the benchmark."""

_GAP = 0.02
"""Seconds by which an audio frame may stray from the running sample count before it counts as a gap."""

_COLORSPACES = {1: Colorspace.ITU709, 9: Colorspace.BT2020, 10: Colorspace.BT2020}


def chunks(path: Path, fps: float | None = FPS, size: int = 32) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the video's frames in order as uint8 arrays (n, height, width, 3), RGB, n <= size.

    Rotation metadata and non-square pixels are applied; 10-bit and other formats become 8-bit RGB, with the
    file's own colour matrix and range (BT.601, limited, where it says nothing). Interlaced video is not
    deinterlaced. Resampling is by timestamp, see `resample_plan`. Memory: one chunk.

    Args:
        path: a video.
        fps: output frame rate; None keeps the native frames.
        size: frames per chunk.

    Raises:
        DecodeError: unreadable, damaged, or fewer frames than the file announces.
    """
    plan = resample_plan(path, fps)
    repeats = np.bincount(plan.indices, minlength=plan.native_frames)
    batch: list[npt.NDArray[np.uint8]] = []
    count = 0
    with open_media(path) as container:
        convert = _Converter(video_stream(path, container))
        for frame in decoded(path, container):
            if count < len(repeats) and repeats[count]:
                picture = convert(frame)
                for _ in range(repeats[count]):
                    batch.append(picture)
                    if len(batch) == size:
                        yield np.stack(batch)
                        batch = []
            count += 1
    if count != plan.native_frames:
        raise DecodeError(
            f"Cannot read {path}: it announces {plan.native_frames} frames but {count} can be decoded.",
            "The file is incomplete or damaged: fetch or make it again, or leave it out.",
        )
    if batch:
        yield np.stack(batch)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Return a picture (or a video's first frame) as uint8 (height, width, 3), RGB.

    Orientation metadata is applied; transparent pixels are shown on white.

    Raises:
        DecodeError: unreadable, damaged, or not a picture.
    """
    with open_media(path) as container:
        frame = first_frame(path, container)
        stream = video_stream(path, container)
        if any(component.is_alpha for component in frame.format.components):
            rgba = VideoReformatter().reformat(frame, format="rgba", threads=1).to_ndarray()
            alpha = rgba[..., 3:].astype(np.float64) / 255
            flat = rgba[..., :3] * alpha + 255 * (1 - alpha)
            quarter_turns = round(frame.rotation / 90) % 4
            return np.ascontiguousarray(np.rot90(np.rint(flat).astype(np.uint8), quarter_turns))
        return _Converter(stream)(frame)


def read_audio(path: Path, start: float = 0.0, end: float = math.inf) -> npt.NDArray[np.int16] | None:
    """Return the first audio stream as int16 (n,), 16 kHz mono; None when the file has no audio stream.

    Sample 0 belongs to the start of the first video frame: audio that begins earlier is cut, audio that
    begins later (or has a gap) is filled with silence. In files without video it is the first audio sample.
    Two channels are averaged, more are mixed down as FFmpeg does. Encoder padding beyond the stream's
    duration is cut (MP4 family, where the duration is exact).

    Args:
        path: a file with sound.
        start, end: seconds from sample 0; only this stretch is kept, so memory does not grow with the file. What
            lies before it is decoded too: seeking in sound is exact in few formats.

    Raises:
        DecodeError: unreadable or damaged.
    """
    path = Path(path)
    with open_media(path) as container:
        if not container.streams.audio:
            return None
        origin = start_time(path, container)
    with open_media(path) as container:
        stream = container.streams.audio[0]
        pieces = list(_audio_pieces(container, stream, origin, start, end))
        if not pieces:
            return None
        if origin is None:
            origin = pieces[0].time
        limit = None
        if "mp4" in container.format.name and stream.duration is not None:
            limit = float((stream.start_time or 0) * stream.time_base + stream.duration * stream.time_base)
    first = round(start * SAMPLE_RATE)
    begins = [round((p.time - origin) * SAMPLE_RATE) + p.skipped - first for p in pieces]
    total = max(0, *(begin + len(p.samples) for begin, p in zip(begins, pieces, strict=True)))
    if limit is not None:
        total = min(total, max(0, round((limit - origin) * SAMPLE_RATE) - first))
    if end < math.inf:
        total = min(total, round(end * SAMPLE_RATE) - first)
    audio = np.zeros(total, dtype=np.int16)
    for begin, samples in zip(begins, (p.samples for p in pieces), strict=True):
        piece = samples[max(0, -begin) : max(0, total - begin)]
        at = max(0, begin)
        audio[at : at + len(piece)] = piece
    return audio


class _Converter:
    """Turns decoded frames into RGB arrays of one size; keeps the scaler between frames."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._scaler = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> npt.NDArray[np.uint8]:
        width, height, rotation = displayed(frame, self._stream)
        if rotation in (90, 270):
            width, height = height, width
        if self._size is None:
            self._size = (width, height)
        # Default swscale flags on purpose: the pixels are then those of OpenCV, torchcodec and decord,
        # which the reference implementations of the metrics read with.
        picture = self._scaler.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=_COLORSPACES.get(frame.colorspace, Colorspace.DEFAULT),
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        rgb = np.asarray(picture.to_ndarray(), dtype=np.uint8)
        return np.ascontiguousarray(np.rot90(rgb, rotation // 90)) if rotation else rgb


class _Piece(NamedTuple):
    """A stretch of sound without a gap; its first `skipped` samples were not kept."""

    time: float
    skipped: int
    samples: npt.NDArray[np.int16]


def _audio_pieces(container: Any, stream: Any, origin: float | None, start: float, end: float) -> Iterator[_Piece]:
    """Yield what lies between `start` and `end`, in seconds from `origin`; None is the first sample."""
    resampler = _resampler()
    parts: list[npt.NDArray[np.int16]] = []
    begin = expected = 0.0
    skipped = kept = 0
    for frame in container.decode(stream):
        time = float(frame.pts * frame.time_base) if frame.pts is not None else expected
        if origin is None:
            origin = time
        if time > origin + end + _GAP:
            break
        if parts and abs(time - expected) > _GAP:
            yield _Piece(begin, skipped, np.concatenate([*parts, _resampled(resampler, None)]))
            resampler, parts, skipped, kept = _resampler(), [], 0, 0
        if not parts:
            begin = time
        expected = time + frame.samples / frame.sample_rate
        parts.append(_resampled(resampler, frame))
        kept += len(parts[-1])
        if (begin - origin) * SAMPLE_RATE + skipped + kept < start * SAMPLE_RATE - 1:
            parts, skipped, kept = [parts[0][:0]], skipped + kept, 0
    if parts:
        yield _Piece(begin, skipped, np.concatenate([*parts, _resampled(resampler, None)]))


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)


def _resampled(resampler: av.AudioResampler, frame: Any) -> npt.NDArray[np.int16]:
    pieces = [np.asarray(piece.to_ndarray(), np.int16).reshape(-1) for piece in resampler.resample(frame)]
    return np.concatenate([np.zeros(0, np.int16), *pieces])
