"""Decoding sound: 16 kHz mono that lies where its time stamps say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from bench.media.errors import DecodeError
from bench.media.probe import open_media, sound_stream, timeline_of, track_notes, video_stream
from bench.media.timeline import MAX_SILENCE, SoundClock, Stretch, sound_clock

SAMPLE_RATE = 16000
"""Audio samples per second everywhere in the benchmark."""

MAX_HOURS = 3
"""Sound that is kept in memory at once."""

_SLOWEST = 1000  # samples per second; less is a broken header, and no speech
_AROUND = 3.0  # seconds read beyond what is asked for, so that a part is laid like the whole
_CANCELLED = 100.0  # how much more power one channel must have than the mean of both

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound of a file.

    Attributes:
        samples: int16 (n,), 16 kHz mono.
        notes: what was done so that it lies where its time stamps say, and what was chosen, in short phrases.
    """

    samples: Samples
    notes: tuple[str, ...]


def read_audio(path: Path, start: float = 0.0, end: float = math.inf) -> Samples | None:
    """Return the samples of `read_sound`, or None where there is no sound."""
    sound = read_sound(path, start, end)
    return None if sound is None else sound.samples


def read_sound(path: Path, start: float = 0.0, end: float = math.inf) -> Sound | None:
    """Return the default (else the first) audio stream, 16 kHz mono; None when no stream can be decoded.

    Sample 0 belongs to the start of the first video frame: audio that begins earlier is cut, audio that
    begins later (or has a gap) is filled with silence, audio whose clock drifts from its time stamps is stretched,
    see `bench.media.timeline.sound_clock`. In files without video sample 0 is the first audio sample. Two channels
    are averaged (the left one is taken where they cancel each other), more are mixed down as FFmpeg does. Encoder
    padding beyond the stream's duration is cut (MP4 family, where the duration is exact).

    Args:
        path: a file with sound.
        start, end: seconds from sample 0; only this stretch is kept, so memory does not grow with the file. What
            lies before it is decoded too: seeking in sound is exact in few formats.

    Raises:
        DecodeError: unreadable, damaged, broken time stamps, or more than three hours to keep.
    """
    path = Path(path)
    origin, reach = None, math.inf
    with open_media(path) as container:
        if sound_stream(container) is None:
            return None
        notes = track_notes(container, "audio")
        if shown := any(s.codec_context is not None for s in _pictures(container)):
            video_stream(path, container)
    if shown:
        times = timeline_of(path)
        origin, reach = times.start, max(MAX_SILENCE, times.duration)
    blocks = _decode(path, origin, start, end, None)
    if not blocks.times:
        return None
    if blocks.stereo and _power(blocks) < 0.01:
        left = _decode(path, origin, start, end, 0)
        if _power(left) > _CANCELLED * _power(blocks):
            blocks = left
            notes.append("its two channels cancel each other and the left one is read")
    heard_from = -math.inf if origin is None else origin
    clock = sound_clock(path, blocks.times, blocks.lengths, [run.first for run in blocks.runs[1:]], heard_from)
    first = float(clock.stretches[0].placed[0])
    origin = first if origin is None else origin
    if first - origin > reach:
        raise DecodeError(
            f"Cannot read {path}: its sound begins {first - origin:,.0f} seconds after its pictures.",
            f"Write it without that: ffmpeg -i {str(path)!r} -af asetpts=N/SR/TB fixed.mp4",
        )
    samples = _laid(blocks, clock, origin + start, _until(blocks, clock, origin, end) - origin - start)
    return Sound(samples, (*notes, *clock.notes()))


@dataclass(slots=True)
class _Run:
    """Sound of one format, resampled in one go; its first `skipped` samples were not kept.

    Attributes:
        first: index of its first block.
        begin: seconds of sound before it.
    """

    first: int
    begin: float
    skipped: int = 0
    parts: list[Samples] = field(default_factory=list)

    def add(self, samples: Samples) -> None:
        """Append samples."""
        if len(samples):
            self.parts.append(samples)


@dataclass(slots=True)
class _Blocks:
    """Decoded blocks: times (NaN without a stamp) and lengths in seconds, samples in runs, the stream's end."""

    times: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    runs: list[_Run] = field(default_factory=list)
    limit: float = math.inf
    stereo: bool = False


def _pictures(container: Any) -> list[Any]:
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def _decode(path: Path, origin: float | None, start: float, end: float, channel: int | None) -> _Blocks:
    """Decode what is needed for [start, end), in seconds from `origin`; None is the first sample."""
    found = _Blocks()
    total = expected = 0.0
    kept = 0
    with open_media(path) as container:
        stream = sound_stream(container)
        assert stream is not None
        if "mp4" in container.format.name and stream.duration is not None:
            found.limit = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        resampler: Any = None
        shape: tuple[Any, ...] = ()
        for frame in _frames(container, stream):
            if frame.sample_rate < _SLOWEST:
                raise DecodeError(
                    f"Cannot read {path}: its sound has {frame.sample_rate} samples per second.",
                    "Its header is broken: write it again with the right rate.",
                )
            time = float(frame.pts * frame.time_base) if frame.pts is not None else math.nan
            length = frame.samples / frame.sample_rate
            expected = expected if math.isnan(time) else time
            if origin is None:
                origin = expected
            if expected > origin + end + _AROUND:
                break
            if shape != (shape := (frame.sample_rate, frame.layout.name, frame.format.name)):
                if resampler is not None:
                    found.runs[-1].add(_resampled(resampler, None))
                resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
                found.runs.append(_Run(len(found.times), total))
            run = found.runs[-1]
            found.stereo |= len(frame.layout.channels) == 2
            run.add(_resampled(resampler, frame if channel is None else _single(frame, channel)))
            found.times.append(time)
            found.lengths.append(length)
            total, expected = total + length, expected + length
            if expected < origin + start - _AROUND and run.parts:
                run.skipped += sum(map(len, run.parts))
                run.parts, kept = [], 0
            kept += len(run.parts[-1]) if run.parts else 0
            if kept > MAX_HOURS * 3600 * SAMPLE_RATE:
                raise DecodeError(
                    f"Cannot read {path}: it holds more than {MAX_HOURS} hours of sound.",
                    "Cut it first; prepared data sets read only the part they need.",
                )
        if resampler is not None:
            found.runs[-1].add(_resampled(resampler, None))
    return found


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded blocks; what cannot be decoded before the first good one is what a cut left behind."""
    begun = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            if begun:
                raise
            continue
        for frame in frames:
            if frame.samples:
                begun = True
                yield frame


def _single(frame: Any, channel: int) -> Any:
    """Return one channel of a block as a mono block."""
    values = frame.to_ndarray()
    count = len(frame.layout.channels)
    values = values[channel] if frame.format.is_planar else values.reshape(-1, count)[:, channel]
    alone = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(values)[None], format=frame.format.name.removesuffix("p"), layout="mono"
    )
    alone.sample_rate, alone.pts, alone.time_base = frame.sample_rate, frame.pts, frame.time_base
    return alone


def _power(blocks: _Blocks) -> float:
    """Return the mean square of the kept samples, full scale being 1."""
    parts = [part for run in blocks.runs for part in run.parts]
    total = sum(float(np.square(part, dtype=np.float64).sum()) for part in parts)
    return total / max(1, sum(map(len, parts))) / 2.0**30


def _until(blocks: _Blocks, clock: SoundClock, origin: float, end: float) -> float:
    return min(max(float(s.placed[-1]) for s in clock.stretches), blocks.limit, origin + end)


def _laid(blocks: _Blocks, clock: SoundClock, begin: float, seconds: float) -> Samples:
    """Return `seconds` of sound from `begin` on the container's clock, every stretch at its place."""
    audio = np.zeros(max(0, round(seconds * SAMPLE_RATE)), np.int16)
    joined = [np.concatenate([np.zeros(0, np.int16), *run.parts]) for run in blocks.runs]
    starts = np.array([run.begin for run in blocks.runs])
    for stretch in clock.stretches:
        number = int(np.searchsorted(starts, stretch.heard[0] + 1e-9, side="right")) - 1
        run, samples = blocks.runs[number], joined[number]
        at = round((float(stretch.placed[0]) - begin) * SAMPLE_RATE)
        if stretch.even:
            first = round((float(stretch.heard[0]) - run.begin) * SAMPLE_RATE) - run.skipped
            last = round((float(stretch.heard[-1]) - run.begin) * SAMPLE_RATE) - run.skipped
            if stretch is clock.stretches[-1]:
                last = len(samples)
            _put(audio, at - min(0, first), samples[max(0, first) : max(0, last)])
        else:
            whole = round((float(stretch.placed[-1]) - begin) * SAMPLE_RATE)
            low, high = max(0, at), min(len(audio), whole)
            if low < high:
                audio[low:high] = _bent(samples, stretch, run, begin + np.arange(low, high) / SAMPLE_RATE)
    return audio


def _put(audio: Samples, at: int, samples: Samples) -> None:
    piece = samples[max(0, -at) : max(0, len(audio) - at)]
    audio[max(0, at) : max(0, at) + len(piece)] = piece


def _bent(samples: Samples, stretch: Stretch, run: _Run, moments: npt.NDArray[np.float64]) -> Samples:
    """Return the sound at `moments` on the container's clock, by a spline of order 5 between the samples."""
    from scipy.ndimage import map_coordinates

    places = (np.interp(moments, stretch.placed, stretch.heard) - run.begin) * SAMPLE_RATE - run.skipped
    curve = map_coordinates(samples.astype(np.float32), places[None], order=5, mode="constant")
    return np.clip(np.rint(curve), -(2**15), 2**15 - 1).astype(np.int16)


def _resampled(resampler: av.AudioResampler, frame: Any) -> Samples:
    pieces = [np.asarray(piece.to_ndarray(), np.int16).reshape(-1) for piece in resampler.resample(frame)]
    return np.concatenate([np.zeros(0, np.int16), *pieces])
