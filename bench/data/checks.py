"""Filters on media: what a clip must be before it may stand in a test list.

Stage B needs no model. Stage C looks at faces, people, speech and lip synchronisation with the networks that are
here. A filter whose network is missing leaves a finding that says what it needs; it never counts as passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.core.spec import Unscored

if TYPE_CHECKING:
    from bench.media.faces import FaceTrack

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
MAX_YAW = 45.0  # degrees
SAME_PERSON = 0.4  # least cosine to the clip's mean embedding
TWIN = 0.5  # cosine of two clips' mean embeddings above which they show one person
SPEECH_SHARE = 0.6
MAX_OFFSET = 1  # frames
MIN_CONFIDENCE = 3.0

# Names of filters that may be missing as a whole.
FACE, PERSON, SIZE, YAW = "C1 one face", "C2 one person", "C3 face size", "C3 yaw"
SPEECH, MUSIC = "C4 speech", "C4 no music"
SYNC, OTHERS = "C5 synchronisation", "C6 another person than in every other clip"
TOOL_OF = {
    **dict.fromkeys((FACE, SIZE, YAW), "faces"),
    **dict.fromkeys((PERSON, OTHERS), "identity"),
    SPEECH: "speech",
    SYNC: "sync",
}
"""The attribute of `bench.data.normalise.Tools` that each stands on."""


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

    def read(self, frames: Iterable[Frame]) -> FaceTrack:
        """Return landmarks and head pose of the largest face of each frame."""


class FaceEmbedder(Protocol):
    """Tells people apart."""

    def embeddings(self, frames: Iterable[Frame]) -> npt.NDArray[np.float32]:
        """Return unit vectors (m, d), one for each frame that shows a face."""


class SyncCheck(Protocol):
    """Measures by how much sound and lips are apart, and how surely."""

    def measure(self, clip: Path) -> tuple[float, float] | None:
        """Return (offset in frames at 25 fps, positive when the audio is early; confidence), or None."""


def look_at(frames: Sequence[Frame], fps: float = 25.0) -> list[Frame]:
    """Return the frames a network is shown: a few per second."""
    step = max(1, round(fps / LOOKS_PER_SECOND))
    return list(frames[::step])


def not_applied(name: str) -> Finding:
    """Return the finding of a filter that could not be applied."""
    return Finding(name, None, None)


def check_faces(found: Sequence[Sequence[tuple[float, float, float, float]]], side: int) -> list[Finding]:
    """Return C1 and the size of C3 from the faces of the looked-at frames of the final crop.

    Args:
        found: boxes per frame, the largest first; at least one frame.
        side: of the crop in pixels.
    """

    def area(box: tuple[float, float, float, float]) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    share = float(np.mean([len(boxes) > 0 for boxes in found]))
    second = float(np.mean([len(b) > 1 and area(b[1]) >= SECOND_FACE * area(b[0]) for b in found]))
    tall = float(np.median([b[0][3] - b[0][1] for b in found if b])) / side if share else 0.0
    return [
        Finding("C1 face", share, share >= ONE_FACE_SHARE, "no face"),
        Finding("C1 second face", second, second <= 1 - ONE_FACE_SHARE, "several faces"),
        Finding(SIZE, tall, tall >= MIN_FACE, "face too small"),
    ]


def check_pose(track: FaceTrack) -> Finding:
    """Return the pose of C3: the median of |yaw| in degrees over the frames with a face."""
    from bench.media.faces import euler_degrees

    yaw = euler_degrees(track.matrices[track.valid])[:, 0]
    turned = float(np.median(np.abs(yaw))) if len(yaw) else 90.0
    return Finding(YAW, turned, turned < MAX_YAW, "face turned away")


def check_person(embeddings: npt.NDArray[np.float32]) -> tuple[Finding, npt.NDArray[np.float32] | None]:
    """Return C2, and the clip's mean embedding (d,) of unit length; None without a face.

    Args:
        embeddings: unit vectors (m, d) of the looked-at frames.
    """
    if not len(embeddings):
        return Finding(PERSON, 0.0, False, "no face"), None
    mean = embeddings.mean(axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-6)
    least = float((embeddings @ mean).min())
    return Finding(PERSON, least, least >= SAME_PERSON, "change of person"), mean


def look_alike(
    embedding: npt.NDArray[np.float32], others: Mapping[str, npt.NDArray[np.float32]]
) -> tuple[str, float] | None:
    """Return the clip that shows the same person by C6, and the cosine; None where there is none."""
    cosines = {name: float(embedding @ other) for name, other in others.items()}
    name = max(cosines, key=cosines.__getitem__, default=None)
    return (name, cosines[name]) if name is not None and cosines[name] > TWIN else None


def check_speech(share: float) -> Finding:
    """Return the first half of C4 from the share of the clip that is speech."""
    return Finding(SPEECH, share, share >= SPEECH_SHARE, "too little speech")


def check_sync(measured: tuple[float, float] | None) -> list[Finding]:
    """Return C5 from offset and confidence; None when SyncNet found nothing to measure."""
    if measured is None:
        return [not_applied(SYNC)]
    offset, confidence = measured
    return [
        Finding("C5 offset", offset, abs(offset) <= MAX_OFFSET, "audio out of sync"),
        Finding("C5 confidence", confidence, confidence >= MIN_CONFIDENCE, "lips do not follow the sound"),
    ]


def speech_share(samples: npt.NDArray[np.int16]) -> float:
    """Return the share of 30 ms frames that WebRTC's voice activity detector calls speech (mode 2 of 0 to 3).

    Args:
        samples: int16 (n,), 16 kHz mono.
    """
    import webrtcvad

    detector = webrtcvad.Vad(2)
    width = 480
    pieces = [samples[at : at + width] for at in range(0, len(samples) - width + 1, width)]
    return sum(detector.is_speech(p.astype("<i2").tobytes(), 16000) for p in pieces) / max(1, len(pieces))


def face_finder() -> FaceFinder | str:
    """Return MediaPipe's, or what is missing for it."""
    from bench.media.faces import FaceReader

    try:
        return FaceReader()
    except Unscored as missing:
        return missing.detail


def face_embedder() -> FaceEmbedder | str:
    """Return ArcFace's, or what is missing for it."""
    return _metric_missing("csim/ref_image") or _ArcFace()


def sync_check() -> SyncCheck | str:
    """Return SyncNet's, or what is missing for it."""
    return _metric_missing("sync/short") or _SyncNet()


def speech_detector() -> Callable[[npt.NDArray[np.int16]], float] | str:
    """Return `speech_share`, or what is missing for it."""
    if find_spec("webrtcvad") is None:
        return "webrtcvad is not installed; run: pip install 'actalker-bench[speech]'"
    return speech_share


def _metric_missing(protocol: str) -> str:
    from bench import catalogue

    missing = catalogue.unavailable(catalogue.metrics()[protocol])
    return "" if missing is None else missing.detail


class _ArcFace:
    def __init__(self) -> None:
        from bench.metrics.networks import arcface

        self._network = arcface.Embedder()
        self._size = arcface.SIZE

    def embeddings(self, frames: Iterable[Frame]) -> npt.NDArray[np.float32]:
        rows = []
        for frame in frames:
            if (found := self._network.find(frame)) is not None:
                shown, face, _ = found
                rows.append(self._network.embed([shown], [face.landmarks])[0])
        return np.array(rows, np.float32).reshape(len(rows), self._size)


class _SyncNet:
    def measure(self, clip: Path) -> tuple[float, float] | None:
        from bench import catalogue
        from bench.media.clip import Clip

        # Tracks of 51 frames count: RAVDESS clips are shorter than the 101 the reported default asks for.
        metric: Any = catalogue.metrics()["sync/short"]
        try:
            values = metric.score(Clip(clip, extractors=catalogue.extractors()), None)
        except Unscored:
            return None
        return float(values["offset"]), float(values["sync_c"])


def failed(findings: Iterable[Finding]) -> Finding | None:
    """Return the first finding that rules the clip out."""
    return next((f for f in findings if f.passed is False), None)
