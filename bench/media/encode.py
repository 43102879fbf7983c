"""Encoding: the canonical clip every method's frames become, and lossless pictures and sound.

The same frames and samples give the same bytes, in any process: one encoder thread, fixed settings, no
time stamps and no library versions in the container. (The bytes still depend on the codec library, so
results are compared by decoded content across versions, never by file.)
"""

from __future__ import annotations

import uuid
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from bench.media.errors import EncodeError
from bench.media.sound import SAMPLE_RATE
from bench.media.timeline import FPS

VIDEO_OPTIONS = {"crf": "10", "preset": "veryfast", "x264-params": "mbtree=0"}
"""libx264 settings of the canonical clip; docs/media.md has the measurements behind them.

Macroblock-tree rate control is off because its vector code reads past the end of small frames: at 32x32 pixels
12 of 150 encodes of the same frames came out with other bytes, without it none did.
"""

LOSSLESS_OPTIONS = {"qp": "0", "preset": "veryfast", "x264-params": "mbtree=0"}

AUDIO_BIT_RATE = 96_000
"""The most AAC-LC carries at 16 kHz mono."""

_SCALER = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_AUDIO_FRAME = 1024


def write_clip(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    fps: float = FPS,
    audio: npt.NDArray[np.int16] | None = None,
    lossless: bool = False,
) -> int:
    """Write an MP4 (H.264 yuv420p BT.601, AAC) that browsers play, and return its number of frames.

    Audio sample 0 sounds at the start of frame 0; audio beyond the last frame is cut. An odd last row or
    column is cut too, because 4:2:0 video has even sizes. The file appears under its name when complete.

    Args:
        path: target; replaced if it exists.
        frames: uint8 (height, width, 3), RGB, all of one size; consumed once, so memory stays bounded.
        fps: frame rate.
        audio: int16 (n,), 16 kHz mono, or None for a clip without audio stream.
        lossless: H.264 in RGB and FLAC instead: every pixel and sample comes back, and few browsers play it.

    Raises:
        EncodeError: no frame, a frame of another type or size, or audio that is not int16 (n,).
    """
    if audio is not None and (audio.dtype != np.int16 or audio.ndim != 1):
        raise EncodeError(f"Cannot write {path}: audio must be int16 (n,), not {audio.dtype} {audio.shape}.")
    rate = Fraction(fps).limit_denominator(1001)
    count = 0
    with (
        _replacing(path) as part,
        av.open(
            str(part), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}
        ) as container,
    ):
        video: Any = None
        sound: _AudioWriter | None = None
        shape: tuple[int, ...] = ()
        scaler = VideoReformatter()
        for count, frame in enumerate(frames, start=1):
            if video is None:
                shape = frame.shape
                _check(path, frame, shape, 0)
                video = _video_stream(container, shape[1] // 2 * 2, shape[0] // 2 * 2, rate, lossless)
                sound = None if audio is None else _AudioWriter(container, audio, lossless)
            _check(path, frame, shape, count - 1)
            even = np.ascontiguousarray(frame[: video.height, : video.width])
            coloured = av.VideoFrame.from_ndarray(even, format="rgb24")
            picture = (
                coloured
                if lossless
                else scaler.reformat(
                    coloured,
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU601,
                    src_color_range=ColorRange.JPEG,
                    dst_color_range=ColorRange.MPEG,
                    interpolation=_SCALER,
                    threads=1,
                )
            )
            picture.pts, picture.time_base = count - 1, 1 / rate
            container.mux(video.encode(picture))
            if sound is not None:
                sound.write(round(count * SAMPLE_RATE / rate))
        if video is None:
            raise EncodeError(f"Cannot write {path}: there is not a single frame.")
        container.mux(video.encode(None))
        if sound is not None:
            sound.write(round(count * SAMPLE_RATE / rate), last=True)
    return count


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write uint8 (height, width, 3), RGB, as a lossless PNG.

    Raises:
        EncodeError: not such an array.
    """
    _check(path, rgb, rgb.shape, 0)
    with _replacing(path) as part, av.open(str(part), "w", format="image2pipe") as container:
        stream: Any = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], "rgb24"
        stream.codec_context.thread_count = 1
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")))
        container.mux(stream.encode(None))


def write_wav(path: Path, audio: npt.NDArray[np.int16]) -> None:
    """Write int16 (n,), 16 kHz mono, as a WAV file."""
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise EncodeError(f"Cannot write {path}: audio must be int16 (n,), not {audio.dtype} {audio.shape}.")
    with _replacing(path) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(audio.astype("<i2").tobytes())


class _AudioWriter:
    """Feeds samples to the encoder (AAC, or FLAC without loss) up to a given one, so that streams interleave."""

    def __init__(self, container: Any, audio: npt.NDArray[np.int16], lossless: bool) -> None:
        self._container = container
        self._audio = audio
        self._written = 0
        self._lossless = lossless
        self._stream: Any = container.add_stream("flac" if lossless else "aac", rate=SAMPLE_RATE, layout="mono")
        if not lossless:
            self._stream.bit_rate = AUDIO_BIT_RATE
        self._stream.codec_context.thread_count = 1

    def write(self, until: int, last: bool = False) -> None:
        until = min(until, len(self._audio))
        while (n := min(_AUDIO_FRAME, until - self._written)) > 0 and (last or n == _AUDIO_FRAME):
            samples = self._audio[None, self._written : self._written + n]
            frame = (
                av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout="mono")
                if self._lossless
                else av.AudioFrame.from_ndarray(samples.astype(np.float32) / 32768, format="fltp", layout="mono")
            )
            frame.sample_rate, frame.pts, frame.time_base = (
                SAMPLE_RATE,
                self._written,
                Fraction(1, SAMPLE_RATE),
            )
            self._container.mux(self._stream.encode(frame))
            self._written += n
        if last:
            self._container.mux(self._stream.encode(None))


def _video_stream(container: Any, width: int, height: int, rate: Fraction, lossless: bool) -> Any:
    if lossless:
        stream = container.add_stream("libx264rgb", rate=rate, options=dict(LOSSLESS_OPTIONS))
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.thread_count = 1
        return stream
    stream = container.add_stream("libx264", rate=rate, options=dict(VIDEO_OPTIONS))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.colorspace, context.color_range = _SMPTE170M, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


_SMPTE170M = 6  # AVCOL_SPC_SMPTE170M, the matrix of BT.601; PyAV has no name for it


def _check(path: Path, frame: npt.NDArray[np.uint8], shape: tuple[int, ...], index: int) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape[:2]) < 2:
        raise EncodeError(
            f"Cannot write {path}: frame {index} is {frame.dtype} {frame.shape}, not uint8 "
            "(height, width, 3) of at least 2x2 pixels."
        )
    if frame.shape != shape:
        raise EncodeError(
            f"Cannot write {path}: frame {index} is {frame.shape[1]}x{frame.shape[0]}, "
            f"frame 0 was {shape[1]}x{shape[0]}."
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` that nobody can guess, and rename it when the block succeeded."""
    path = Path(path).absolute()
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
