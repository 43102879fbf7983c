"""Cutting a stretch out of a long video: by time, on the 25 fps grid, cropped and scaled.

The rule is that of one FFmpeg graph `trim,setpts=PTS-S/TB,fps=25:start_time=0,crop,scale`: times count from the
*requested* start, not from the first frame that was kept, so picture and sound stay aligned at any frame rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.format import Flags

from bench.media.pictures import Converter
from bench.media.probe import (
    decoded,
    open_media,
    pixel_aspect,
    probe,
    sound_stream,
    timeline_of,
    video_stream,
)
from bench.media.scale import Resizer
from bench.media.timeline import FPS

Box = tuple[int, int, int, int]
Frame = npt.NDArray[np.uint8]

_TICK = 1e-4  # seconds by which a requested time may miss a frame's time stamp


@dataclass(frozen=True, slots=True)
class Source:
    """What a source file is, for provenance and for filters.

    Attributes:
        width, height: pixels as shown.
        fps: mean frame rate.
        frames: native frames.
        duration: seconds of video.
        video_start, audio_start: container times in seconds; NaN without audio.
        audio_rate, audio_channels: 0 without audio.
    """

    width: int
    height: int
    fps: float
    frames: int
    duration: float
    video_start: float
    audio_start: float
    audio_rate: int
    audio_channels: int


def describe(path: Path) -> Source:
    """Return the facts of a source, reading its packets and decoding its first frame.

    Raises:
        DecodeError: not a video, damaged or unreadable.
    """
    video = probe(path)
    with open_media(path) as container:
        sound = sound_stream(container)
        return Source(
            video.width,
            video.height,
            video.frames / video.duration,
            video.frames,
            video.duration,
            timeline_of(path).start,
            float((sound.start_time or 0) * sound.time_base) if sound is not None else float("nan"),
            sound.codec_context.sample_rate if sound is not None else 0,
            sound.codec_context.channels if sound is not None else 0,
        )


def frame_span(path: Path, first: int, last: int) -> tuple[float, float]:
    """Return (start, end) in seconds from the first frame of native frames `first` to `last`, both included.

    Raises:
        DecodeError: not a video.
        IndexError: there are not that many frames.
    """
    times = timeline_of(path)
    if not 0 <= first <= last < len(times.ticks):
        raise IndexError(f"frames {first} to {last} of {len(times.ticks)}")
    after = times.ticks[last + 1] if last + 1 < len(times.ticks) else times.end
    origin = int(times.ticks[0])
    return (
        float(int(times.ticks[first] - origin) * times.time_base),
        float(int(after - origin) * times.time_base),
    )


def cut(
    path: Path, start: float, end: float, box: Box | None = None, size: int | None = None, fps: float = FPS
) -> Iterator[Frame]:
    """Yield the frames of [start, end) at `fps`, cropped and scaled.

    Output frame k shows the native frame whose time, counted from `start`, rounds to slot k; see
    `bench.media.probe.resample_plan`. Slots before the first native frame repeat it.

    Args:
        path: source video.
        start, end: seconds from the first frame of the source.
        box: x, y, width, height in pixels of the stored picture, inside it; None keeps all.
        size: side of the square result; None keeps the box's size.
        fps: rate of the result.

    Yields:
        uint8 (height, width, 3), RGB.

    Raises:
        DecodeError: damaged, or unreadable.
        ValueError: the box is not inside the picture.
    """
    limit = int((end - start) * fps + 0.5)
    shown = 0
    held: Frame | None = None
    finish = 0.0
    scale: Callable[[Frame], Frame] = Resizer(size, size) if size is not None else np.ascontiguousarray
    for time, step, picture in _pictures(path, start, end):
        slot = int(time * fps + 0.5)
        while held is not None and shown < min(slot, limit):
            yield held
            shown += 1
        held = scale(_inside(picture, box))
        finish = time + step
    last = min(limit, int(finish * fps + 0.5))
    while held is not None and shown < last:
        yield held
        shown += 1


def _pictures(path: Path, start: float, end: float) -> Iterator[tuple[float, float, Frame]]:
    """Yield (time from `start`, duration, picture) of the native frames in [start, end)."""
    origin = timeline_of(path).start
    with open_media(path) as container:
        stream = video_stream(path, container)
        tick = float(stream.time_base)
        default = 1 / float(stream.average_rate or FPS)
        # Raw streams carry no times and cannot be sought in: they are read from their first frame.
        if start > 2.0 and not container.format.flags & Flags.no_timestamps.value:
            container.seek(int((origin + start) / tick), stream=stream, backward=True)
        convert = Converter(path, pixel_aspect(stream))
        for index, frame in enumerate(decoded(path, container)):
            time = (frame.pts * tick if frame.pts is not None else index * default) - origin - start
            if time < -_TICK:
                continue
            if time >= end - start - _TICK:
                break
            yield max(0.0, time), (frame.duration * tick if frame.duration else default), convert(frame)


def _inside(picture: Frame, box: Box | None) -> Frame:
    if box is None:
        return picture
    x, y, width, height = box
    if x < 0 or y < 0 or x + width > picture.shape[1] or y + height > picture.shape[0]:
        raise ValueError(f"box {box} is not inside {picture.shape[1]}x{picture.shape[0]}")
    return picture[y : y + height, x : x + width]
