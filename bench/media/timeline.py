"""When the pictures and the sound of a file are shown and heard: one model of time, checked once, for both.

A container gives every picture and every block of sound a time stamp. Pictures are shown at theirs. A block of
sound also says how long it lasts, and recorders do not agree with themselves: clocks run apart, packets get lost.
Here the time stamps win: sound whose clock drifts is stretched, what is missing is filled with silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.media.errors import DecodeError

FPS = 25.0
"""The benchmark's frame rate: SyncNet and everything that follows it is defined at 25 fps only."""

MAX_HOLD = 10.0
"""Seconds one picture may stand before the time stamps count as broken: 250 output frames of one native frame."""

MAX_SILENCE = 60.0
"""Seconds of sound that may be missing before its time stamps count as broken."""

JUMP = 0.004
"""Seconds by which sound may jump before it counts as lost or doubled: more than containers round to."""

_OUTLIER = 0.02  # seconds
_NEAR = 0.2  # seconds on each side of a jump that decide whether it lasts
_KNOT = 1.0  # seconds between two readings of the difference of the clocks
_LONG = 0.02  # seconds of a block over which steady drift can look like a jump
_DEAD = 0.003  # seconds the clocks may differ before sound is stretched
_STEEPEST = 0.2

Floats = npt.NDArray[np.float64]


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

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last frame's end."""
        return float((self.end - int(self.ticks[0])) * self.time_base)

    @property
    def fps(self) -> float:
        """Mean native frame rate."""
        steps = len(self.ticks) - 1
        if not steps:
            return 1 / self.duration
        return float(steps / (int(self.ticks[-1] - self.ticks[0]) * self.time_base))

    @property
    def longest(self) -> float:
        """Seconds the frame that stands longest is shown."""
        return float(int(np.diff(np.append(self.ticks, self.end)).max()) * self.time_base)

    @property
    def varies(self) -> bool:
        """Whether the time between frames changes by more than a tenth."""
        steps = np.diff(self.ticks)
        if not len(steps):
            return False
        median = float(np.median(steps))
        return bool(np.abs(steps - median).max() > 0.1 * median + 1)


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


def timeline(path: Path, ticks: Sequence[int], last: int, time_base: Fraction) -> Timeline:
    """Return the checked timeline of frames shown at `ticks`, in any order, the last for `last` ticks (or 0).

    Raises:
        DecodeError: several frames but one time stamp, or a frame that would stand for more than ten seconds.
    """
    ordered = sorted(ticks)
    if len(ordered) > 1 and ordered[0] == ordered[-1]:
        raise _broken(path, f"all its {len(ordered)} pictures have the same time stamp")
    after = [b - a for a, b in pairwise(ordered)]
    if last <= 0:
        last = sorted(after)[len(after) // 2] if after else round(1 / (Fraction(FPS) * time_base))
    longest = max([*after, last])
    if longest * time_base > MAX_HOLD:
        place = "the last picture" if longest == last else f"picture {after.index(longest)}"
        raise _broken(path, f"{place} would stand for {_seconds(longest * time_base)}")
    if max(abs(ordered[0]), abs(ordered[-1])) >= 2**62:
        raise _broken(path, "its time stamps begin outside any clock")
    return Timeline(np.array(ordered, dtype=np.int64), ordered[-1] + max(1, last), time_base)


def resample(times: Timeline, fps: float | None = FPS) -> ResamplePlan:
    """Return which native frame each output frame shows.

    A native frame at time t (counted from the first frame) takes the output slot round(t * fps), halves
    up; a later frame in the same slot replaces it, and an empty slot repeats the slot before: the rule of
    FFmpeg's `fps` filter with `round=near`. The number of output frames is round(duration * fps), at least 1.

    Args:
        times: when native frames are shown.
        fps: output frame rate; None keeps the native frames one to one.
    """
    native = len(times.ticks)
    if fps is None:
        return ResamplePlan(native / times.duration, np.arange(native, dtype=np.int64), native, 0, 0)
    rate = Fraction(fps).limit_denominator(1001)
    slots_per_tick = times.time_base * rate
    numerator, denominator = slots_per_tick.numerator, slots_per_tick.denominator
    origin = int(times.ticks[0])

    def slot(tick: int) -> int:
        # Python's integers: ticks of a nanosecond times a rate's numerator leave 64 bits within an hour.
        return (2 * (tick - origin) * numerator + denominator) // (2 * denominator)

    frames = max(1, slot(times.end))
    slots = np.array([slot(int(tick)) for tick in times.ticks], dtype=np.int64)
    indices = np.searchsorted(slots, np.arange(frames), side="right") - 1
    shown = len(np.unique(indices))
    return ResamplePlan(float(rate), indices.astype(np.int64), native, frames - shown, native - shown)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive sound and where it belongs.

    Attributes:
        heard: float64 (knots,), ascending seconds on the samples' own clock, counted from the first sample.
        placed: float64 (knots,), the container's times of these moments; linear in between.
        even: nothing is stretched: `placed` differs from `heard` by a constant.
    """

    heard: Floats
    placed: Floats
    even: bool


@dataclass(frozen=True, slots=True)
class SoundClock:
    """Where the sound of a stream belongs, and what had to be done.

    Attributes:
        stretches: one after the other.
        stretched: fraction by which the sound was stretched or (negative) squeezed where it was.
        filled: seconds of silence put where sound is missing.
        gaps: number of such places.
        cut: seconds of sound that lay over other sound.
    """

    stretches: tuple[Stretch, ...]
    stretched: float
    filled: float
    gaps: int
    cut: float

    def notes(self) -> list[str]:
        """Return what a user should know, in short phrases."""
        found = []
        if abs(self.stretched) >= 5e-4:
            found.append(f"sound {'stretched' if self.stretched > 0 else 'squeezed'} by {abs(self.stretched):.1%}")
        if self.gaps:
            places = f"in {self.gaps} places" if self.gaps > 1 else "in one place"
            found.append(f"{1000 * self.filled:.0f} ms of missing sound filled with silence {places}")
        if self.cut:
            found.append(f"{1000 * self.cut:.0f} ms of sound under other sound left out")
        return found


def sound_clock(
    path: Path,
    times: Sequence[float],
    lengths: Sequence[float],
    breaks: Sequence[int],
    begin: float = -math.inf,
) -> SoundClock:
    """Lay decoded blocks of sound where their time stamps say.

    Jumps of the time stamps against the running sum of lengths split the sound; slow drift in between becomes a
    piecewise linear stretch with a knot per second. Every rule looks a few blocks or a second ahead at most, so
    the beginning of a sound is laid the same whether or not the rest was read.

    Args:
        path: the file, for messages.
        times: seconds on the container's clock; NaN where the block has no time stamp.
        lengths: seconds each block lasts.
        breaks: blocks at which the sound changes its format; sound is never stretched across them.
        begin: time from which sound is heard; what is missing before does not count.

    Raises:
        DecodeError: sound is missing for more than a minute, or its samples and time stamps differ by a fifth.
    """
    length = np.asarray(lengths, np.float64)
    heard = np.concatenate([[0.0], np.cumsum(length)])
    ahead = _without_outliers(np.asarray(times, np.float64), heard) - heard[:-1]
    starts = _jumps(ahead, heard, set(breaks))
    stretches: list[Stretch] = []
    filled = cut = 0.0
    gaps = 0
    bent = bent_over = 0.0
    for first, end in zip(starts, [*starts[1:], len(length)], strict=True):
        stretch = _stretch(ahead[first:end], heard[first : end + 1])
        if stretches:
            missing = float(stretch.placed[0] - stretches[-1].placed[-1])
            if missing > 0:
                missing = max(0.0, float(stretch.placed[0]) - max(begin, float(stretches[-1].placed[-1])))
            if abs(missing) > MAX_SILENCE:
                raise _broken(path, f"its sound jumps by {_seconds(missing)}")
            if missing > JUMP / 2:
                filled, gaps = filled + missing, gaps + 1
            elif missing < -JUMP / 2:
                cut -= missing
        if not stretch.even:
            wanted, there = np.diff(stretch.placed), np.diff(stretch.heard)
            steepest = float(np.abs(wanted / there - 1).max())
            if steepest > _STEEPEST:
                raise _broken(path, f"the time stamps of its sound and its samples differ by {steepest:.0%}")
            bent += float(wanted.sum() - there.sum())
            bent_over += float(there.sum())
        stretches.append(stretch)
    return SoundClock(tuple(stretches), bent / bent_over if bent_over else 0.0, filled, gaps, cut)


def _without_outliers(times: Floats, heard: Floats) -> Floats:
    """Give blocks without a time stamp, or with one that the next block contradicts, the end of the one before."""
    fixed = times.copy()
    if len(fixed) and np.isnan(fixed[0]):
        known = np.flatnonzero(~np.isnan(fixed))
        fixed[0] = fixed[known[0]] - heard[known[0]] if len(known) else 0.0
    lengths = np.diff(heard)
    for k in range(1, len(fixed)):
        expected = fixed[k - 1] + lengths[k - 1]
        if np.isnan(fixed[k]):
            fixed[k] = expected
        elif abs(fixed[k] - expected) > _OUTLIER and k + 1 < len(fixed):
            followed = abs(fixed[k + 1] - (expected + lengths[k])) <= JUMP
            fixed[k] = expected if followed else fixed[k]
    return fixed


def _jumps(ahead: Floats, heard: Floats, breaks: set[int]) -> list[int]:
    """Return the first block of every stretch of sound without a lasting jump."""
    from scipy.ndimage import median_filter

    starts = [0]
    lengths = np.diff(heard)
    steps = np.diff(ahead, prepend=ahead[:1])
    # Over a long block steady drift alone adds up to more than a jump; over a short one rounding is all there is.
    drift = np.where(lengths < _LONG, 0.0, median_filter(steps, size=7, mode="mirror"))
    level = ahead - np.cumsum(drift)
    for k in range(1, len(ahead)):
        if k in breaks:
            starts.append(k)
        elif abs(steps[k] - drift[k]) > JUMP:
            low = max(starts[-1], int(np.searchsorted(heard, heard[k] - _NEAR)))
            high = max(k + 1, int(np.searchsorted(heard, heard[k] + _NEAR)))
            if abs(np.median(level[k:high]) - np.median(level[min(low, k - 1) : k])) > JUMP:
                starts.append(k)
    return starts


def _stretch(ahead: Floats, heard: Floats) -> Stretch:
    """Follow the slow part of `ahead`, by how much the container's clock leads, from knot to knot."""
    begin, end = float(heard[0]), float(heard[-1])
    blocks = heard[:-1]

    def reading(moment: float) -> float:
        """The line through the blocks of half a second around, at least three, at this moment."""
        low = int(np.searchsorted(blocks, moment - _KNOT / 2))
        high = int(np.searchsorted(blocks, moment + _KNOT / 2, "right"))
        low, high = max(0, min(low, high - 3, len(blocks) - 3)), min(len(blocks), max(high, low + 3, 3))
        times, leads = blocks[low:high], ahead[low:high]
        half = len(times) // 2
        early, late = (slice(0, half), slice(half, None))
        apart = float(np.median(times[late]) - np.median(times[early])) if half else 0.0
        # Over less time rounding would pass for drift.
        rate = float(np.median(leads[late]) - np.median(leads[early])) / apart if apart >= _NEAR / 2 else 0.0
        return float(np.median(leads - rate * (times - moment)))

    first = reading(begin)
    leads = [float(ahead[0]) if abs(ahead[0] - first) <= JUMP else first]
    knots = np.concatenate([[begin], np.arange(begin + _KNOT, end - _KNOT / 2, _KNOT), [end]])
    for knot in knots[1:]:
        found = reading(float(knot))
        leads.append(found if abs(found - leads[-1]) > _DEAD else leads[-1])
    return Stretch(knots, knots + np.array(leads), even=len(set(leads)) == 1)


def _seconds(value: Any) -> str:
    number = abs(float(value))
    return f"{number:,.1f} seconds" if number < 1e6 else f"{number:.1e} seconds"


def _broken(path: Path, reason: str) -> DecodeError:
    return DecodeError(
        f"Cannot read {path}: {reason}. Its time stamps are broken.",
        f"Write it with new ones: ffmpeg -i {str(path)!r} -vf setpts=N/25/TB -af asetpts=N/SR/TB fixed.mp4",
    )
