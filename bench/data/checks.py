"""Filters on media: what a clip must be before it may stand in a test list.

Stage B needs no model. Stage C looks for faces and lip synchronisation, with the networks that are installed;
a clip that could not be looked at is marked as such, never as passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.spec import Unscored

Frame = npt.NDArray[np.uint8]

MIN_FPS = 23.9
MAX_AV_START = 0.040  # seconds between the first picture and the first sound
MIN_AUDIO_RATE = 16000
SILENCE_DB = -45.0
FULL_SCALE = 0.01
SCENE = 0.3
FREEZE_SECONDS = 0.5
LOOKS_PER_SECOND = 5
ONE_FACE_SHARE = 0.95
SECOND_FACE = 0.30
MIN_FACE = 0.25  # of the crop's side: 128 of 512 pixels
MAX_OFFSET = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one filter.

    Attributes:
        name: e.g. `B4 scene`.
        value: what was measured; None when it could not be.
        passed: False makes the clip unusable; None means not looked at.
        reason: category of the final account: `too short`, `no face`, `several faces`, ...
    """

    name: str
    value: float | None
    passed: bool | None
    reason: str = ""


def check_source(
    fps: float, video_start: float, audio_start: float, audio_rate: int, sound: bool
) -> list[Finding]:
    """Return B1 and B2 for a source file.

    Args:
        fps: mean native frame rate.
        video_start, audio_start: container times in seconds.
        audio_rate: samples per second, 0 without audio.
        sound: whether the data set has sound at all.
    """
    found = [Finding("B1 fps", fps, fps >= MIN_FPS, "frame rate too low")]
    if sound:
        found.append(Finding("B2 audio rate", audio_rate, audio_rate >= MIN_AUDIO_RATE, "no audio"))
        if audio_rate:
            gap = abs(audio_start - video_start)
            found.append(Finding("B2 audio start", gap, gap <= MAX_AV_START, "audio out of sync"))
    return found


def check_length(frames: int, wanted: int, minimum: int) -> Finding:
    """Return whether a cut clip is long enough.

    Args:
        frames: it has.
        wanted: planned.
        minimum: of the data set.
    """
    enough = frames >= minimum and (wanted == 0 or abs(frames - wanted) <= 3)
    return Finding("B1 length", float(frames), enough, "too short")


def check_sound(samples: npt.NDArray[np.int16]) -> list[Finding]:
    """Return B3: mean level in dB of full scale, and the share of samples at full scale."""
    level = -math.inf
    if len(samples):
        power = float(np.mean((samples.astype(np.float64) / 32768) ** 2))
        level = 10 * math.log10(power) if power > 0 else -math.inf
    clipped = float(np.mean(np.abs(samples.astype(np.int32)) >= 32767)) if len(samples) else 0.0
    return [
        Finding("B3 level", max(level, -120.0), level > SILENCE_DB, "silent"),
        Finding("B3 clipped", clipped, clipped < FULL_SCALE, "audio clipped"),
    ]


class PictureCheck:
    """B4 and B5 over a clip's frames, fed one by one so that a clip need not fit into memory.

    The scene score is FFmpeg's: the smaller of the mean luma difference and of its change, over 100.
    """

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None
        self._difference = 0.0
        self._frozen = self._longest = 0
        self.scene = 0.0
        self.brightest = 0

    def look(self, frame: Frame) -> None:
        """Take the next frame, uint8 (height, width, 3)."""
        luma = frame[::2, ::2].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        self.brightest = max(self.brightest, int(frame.max()))
        if self._last is not None:
            difference = float(np.abs(luma - self._last).mean())
            self.scene = max(self.scene, min(difference, abs(difference - self._difference)) / 100)
            self._difference = difference
            self._frozen = self._frozen + 1 if difference < 0.02 else 0
            self._longest = max(self._longest, self._frozen)
        self._last = luma

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames on, looking at each."""
        for frame in frames:
            self.look(frame)
            yield frame

    def findings(self) -> list[Finding]:
        """Return B4 and B5."""
        frozen = self._longest / 25
        return [
            Finding("B4 scene", self.scene, self.scene <= SCENE, "shot cut"),
            Finding("B5 frozen", frozen, frozen < FREEZE_SECONDS, "frozen"),
            Finding("B5 black", float(self.brightest), self.brightest > 32, "black"),
        ]


class FaceFinder(Protocol):
    """Finds faces in a picture."""

    def boxes(self, frame: Frame) -> Sequence[tuple[float, float, float, float]]:
        """Return x0, y0, x1, y1 of every face, the largest first."""


def face_finder() -> FaceFinder | None:
    """Return MediaPipe's, or None when its package or model is not here."""
    from bench.media.faces import FaceReader

    try:
        return FaceReader()
    except Unscored:
        return None


def look_at(frames: Sequence[Frame], fps: float = 25.0) -> list[Frame]:
    """Return the frames a face finder is shown: a few per second."""
    step = max(1, round(fps / LOOKS_PER_SECOND))
    return list(frames[::step])


def check_faces(found: Sequence[Sequence[tuple[float, float, float, float]]], side: int) -> list[Finding]:
    """Return C1 and C3 from the faces of the looked-at frames of the final crop.

    Args:
        found: boxes per frame, the largest first.
        side: of the crop in pixels.
    """
    if not found:
        return [Finding("C1 one face", None, None, "no face")]

    def area(box: tuple[float, float, float, float]) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    share = float(np.mean([len(boxes) > 0 for boxes in found]))
    second = float(np.mean([len(b) > 1 and area(b[1]) >= SECOND_FACE * area(b[0]) for b in found]))
    tall = float(np.median([b[0][3] - b[0][1] for b in found if b])) / side if share else 0.0
    return [
        Finding("C1 face", share, share >= ONE_FACE_SHARE, "no face"),
        Finding("C1 second face", second, second <= 1 - ONE_FACE_SHARE, "several faces"),
        Finding("C3 face size", tall, tall >= MIN_FACE, "face too small"),
    ]


class SyncCheck(Protocol):
    """Measures by how much sound and lips are apart."""

    def offset(self, clip: Path) -> float | None:
        """Return frames at 25 fps, positive when the audio is early; None when it cannot be told."""


def check_sync(offset: float | None) -> Finding:
    """Return C5 from the measured offset."""
    if offset is None:
        return Finding("C5 offset", None, None, "audio out of sync")
    return Finding("C5 offset", offset, abs(offset) <= MAX_OFFSET, "audio out of sync")


def sync_check() -> SyncCheck | None:
    """Return SyncNet's, or None when the metric or its weights are not here."""
    from bench import catalogue

    metric = catalogue.metrics().get("sync/longest_track")
    if metric is None or catalogue.unavailable(metric) is not None:
        return None
    return _MetricSync(metric)


class _MetricSync:
    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def offset(self, clip: Path) -> float | None:
        from bench import catalogue
        from bench.media.clip import Clip

        try:
            values = self._metric.score(Clip(clip, extractors=catalogue.extractors()), None)
        except Unscored:
            return None
        return next((float(v) for k, v in values.items() if "offset" in k), None)


def failed(findings: Iterable[Finding]) -> Finding | None:
    """Return the first finding that rules the clip out."""
    return next((f for f in findings if f.passed is False), None)
