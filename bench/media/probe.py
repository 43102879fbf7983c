"""Opening media files: what is inside, and how its frames lie on the 25 fps grid.

Every other module of this package opens files through `open_media`, so that all failures become one
`DecodeError` that names the file and the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from bench.media.errors import DecodeError

FPS = 25.0
"""The benchmark's frame rate: SyncNet and everything that follows it is defined at 25 fps only."""

_INDIRECT = {"concat", "dash", "hls", "imf"}


@dataclass(frozen=True, slots=True)
class Probe:
    """What a video file holds.

    Attributes:
        path: the file.
        width, height: pixels as shown, that is after rotation metadata and non-square pixels.
        fps: mean native frame rate.
        frames: number of native frames.
        duration: seconds from the first frame's start to the last frame's end.
        has_audio: there is an audio stream.
        rotation: degrees counter-clockwise the stored picture has to be turned by: 0, 90, 180 or 270.
        vfr: the time between frames varies.
    """

    path: Path
    width: int
    height: int
    fps: float
    frames: int
    duration: float
    has_audio: bool
    rotation: int
    vfr: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """Presentation times of a stream's native frames.

    Attributes:
        ticks: int64 (frames,), ascending, in units of `time_base`.
        end: tick at which the last frame ends.
        time_base: seconds per tick.
    """

    ticks: npt.NDArray[np.int64]
    end: int
    time_base: Fraction

    @property
    def start(self) -> float:
        """Time of the first frame in seconds on the container's clock."""
        return float(int(self.ticks[0]) * self.time_base)


@dataclass(frozen=True, slots=True)
class ResamplePlan:
    """Which native frame is shown in each output frame.

    Attributes:
        fps: output frame rate.
        indices: int64 (frames,), non-decreasing indices of native frames.
        native_frames: number of native frames.
        duplicated: output frames that repeat the one before them.
        dropped: native frames that are never shown.
    """

    fps: float
    indices: npt.NDArray[np.int64]
    native_frames: int
    duplicated: int
    dropped: int

    @property
    def frames(self) -> int:
        """Number of output frames."""
        return len(self.indices)


@contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """Open `path` for reading and turn everything that goes wrong inside the block into a `DecodeError`.

    Files are opened by absolute name and without any network protocol, so that a file called
    `concat:a.mp4` or a playlist cannot make the demuxer read something else.
    """
    path = Path(path)
    if reason := _unreadable(path):
        raise DecodeError(f"Cannot read {path}: {reason}.", "Check the path, or leave this file out.")
    try:
        with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
            if container.format.name in _INDIRECT:
                raise DecodeError(
                    f"Cannot read {path}: it is a list of other files ({container.format.name}), not media.",
                    "Give the media files themselves.",
                )
            for stream in (*container.streams.video, *container.streams.audio):
                # One thread: workers are counted in CPUs. `explode`: damage is an error, not a grey patch.
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"err_detect": "explode"}
            yield container
    except av.EOFError as error:
        raise _damaged(path, "it ends too early, no frame could be read") from error
    except av.FFmpegError as error:
        raise _damaged(path, error.strerror or type(error).__name__) from error
    except UnicodeError as error:
        raise _damaged(path, f"its metadata cannot be decoded ({error})") from error
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error


def probe(path: Path) -> Probe:
    """Return what the video file holds, reading all packets and decoding the first frame.

    Raises:
        DecodeError: not a video, damaged, empty, or unreadable.
    """
    with open_media(path) as container:
        has_audio = bool(container.streams.audio)
        timeline = _timeline(path, container)
    with open_media(path) as container:
        width, height, rotation = displayed(first_frame(path, container), video_stream(path, container))
    steps = np.diff(timeline.ticks)
    span = int(timeline.end - timeline.ticks[0]) * timeline.time_base
    if len(steps):
        fps = float(len(steps) / (int(timeline.ticks[-1] - timeline.ticks[0]) * timeline.time_base))
        median = float(np.median(steps))
        vfr = bool(np.abs(steps - median).max() > 0.1 * median + 1)
    else:
        fps, vfr = float(1 / span), False
    return Probe(
        path=Path(path),
        width=width,
        height=height,
        fps=fps,
        frames=len(timeline.ticks),
        duration=float(span),
        has_audio=has_audio,
        rotation=rotation,
        vfr=vfr,
    )


def picture_digest(path: Path) -> str:
    """Return the sha256 (hex) of a clip's coded pictures and their times: equal where only the sound differs.

    Raises:
        DecodeError: not a video, damaged, or empty.
    """
    found = probe(path)
    state = hashlib.sha256(repr((found.width, found.height, found.rotation)).encode())
    with open_media(path) as container:
        stream = video_stream(path, container)
        state.update(repr((stream.codec_context.name, stream.time_base)).encode())
        state.update(stream.codec_context.extradata or b"")
        for packet in container.demux(stream):
            state.update(repr((packet.pts, packet.duration, packet.size)).encode())
            state.update(bytes(packet))
    return state.hexdigest()


def resample_plan(path: Path, fps: float | None = FPS) -> ResamplePlan:
    """Return which native frame each output frame shows.

    A native frame at time t (counted from the first frame) takes the output slot round(t * fps), halves
    up; a later frame in the same slot replaces it, and an empty slot repeats the slot before: the rule of
    FFmpeg's `fps` filter with `round=near`. The number of output frames is round(duration * fps), at least 1.

    Args:
        path: a video.
        fps: output frame rate; None keeps the native frames one to one.

    Raises:
        DecodeError: not a video, damaged, empty, or unreadable.
    """
    with open_media(path) as container:
        timeline = _timeline(path, container)
    native = len(timeline.ticks)
    if fps is None:
        span = int(timeline.end - timeline.ticks[0]) * timeline.time_base
        return ResamplePlan(float(native / span), np.arange(native, dtype=np.int64), native, 0, 0)
    rate = Fraction(fps).limit_denominator(1001)
    slots_per_tick = timeline.time_base * rate
    numerator, denominator = slots_per_tick.numerator, slots_per_tick.denominator

    def slot(ticks: Any) -> Any:
        return (2 * (ticks - int(timeline.ticks[0])) * numerator + denominator) // (2 * denominator)

    frames = max(1, int(slot(timeline.end)))
    indices = np.searchsorted(slot(timeline.ticks), np.arange(frames), side="right") - 1
    shown = len(np.unique(indices))
    return ResamplePlan(float(rate), indices.astype(np.int64), native, frames - shown, native - shown)


def start_time(path: Path, container: Any) -> float | None:
    """Return when the first video frame is shown, in seconds on the container's clock; None without video."""
    if _video_stream(container) is None:
        return None
    return _timeline(path, container).start


def video_stream(path: Path, container: Any) -> Any:
    """Return the first real video stream (cover art does not count).

    Raises:
        DecodeError: there is none.
    """
    stream = _video_stream(container)
    if stream is None:
        found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise DecodeError(
            f"Cannot read {path}: it has no video stream (found: {found}).",
            "Give a video file, or leave this file out.",
        )
    return stream


def decoded(path: Path, container: Any) -> Iterator[Any]:
    """Yield the decoded `av.VideoFrame`s of the video stream in presentation order.

    Raises:
        DecodeError: a frame is damaged.
    """
    stream = video_stream(path, container)
    for index, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise _damaged(path, f"frame {index} is damaged")
        yield frame


def first_frame(path: Path, container: Any) -> Any:
    """Return the first decoded frame.

    Raises:
        DecodeError: no frame can be decoded.
    """
    for frame in decoded(path, container):
        return frame
    raise _damaged(path, "it has a video stream but no frame")


def displayed(frame: Any, stream: Any) -> tuple[int, int, int]:
    """Return (width, height, rotation) of the picture as a player shows it.

    Non-square pixels are made square by changing the width; rotation is counter-clockwise in degrees.
    """
    aspect = stream.sample_aspect_ratio
    width, height = frame.width, frame.height
    if aspect and aspect != 1:
        width = max(1, round(width * aspect))
    rotation = round(frame.rotation / 90) % 4 * 90
    return (height, width, rotation) if rotation in (90, 270) else (width, height, rotation)


def _video_stream(container: Any) -> Any:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _timeline(path: Path, container: Any) -> Timeline:
    """Read the presentation times of all frames from the packets, or by decoding where packets have none."""
    stream = video_stream(path, container)
    times: list[tuple[int, int]] = []
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.is_corrupt:
            raise _damaged(path, f"it ends early, after {len(times)} of {stream.frames or 'its'} frames")
        if packet.pts is None:
            times = _decoded_times(path)
            break
        times.append((packet.pts, packet.duration or 0))
    if not times:
        raise _damaged(path, "it has a video stream but no frame")
    times.sort()
    ticks = np.array([t for t, _ in times], dtype=np.int64)
    if len(ticks) > 1:
        last = times[-1][1] or int(np.median(np.diff(ticks)))
    else:
        last = times[-1][1] or round(1 / ((stream.average_rate or Fraction(FPS)) * stream.time_base))
    return Timeline(ticks, int(ticks[-1]) + max(1, last), stream.time_base)


def _decoded_times(path: Path) -> list[tuple[int, int]]:
    with open_media(path) as container:
        stream = video_stream(path, container)
        step = round(1 / ((stream.average_rate or Fraction(FPS)) * stream.time_base))
        return [
            (index * step if frame.pts is None else frame.pts, frame.duration or step)
            for index, frame in enumerate(decoded(path, container))
        ]


def _unreadable(path: Path) -> str:
    try:
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            return "" if file.read(1) else "the file is empty (0 bytes)"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _damaged(path: Path, reason: str) -> DecodeError:
    return DecodeError(
        f"Cannot read {path}: {reason}. It is damaged, incomplete or not a media file.",
        f"Try to play it; if it plays, convert it: ffmpeg -i {str(path)!r} -c:v libx264 -c:a aac fixed.mp4",
    )
