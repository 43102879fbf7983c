"""When somebody speaks and when not: from loudness alone (`vad/energy_v1`), or with a network that knows voices.

By loudness, music or babble behind a voice counts as speech. Minimal lengths of speech and silence are those of
Silero VAD's defaults as THEval uses them (Quignon et al. 2025). Silero VAD comes with its network inside the
package `silero-vad`; where that is installed it can be asked for by name. Boundaries are whole video frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.core.spec import Reason, Unscored

WINDOW = 640  # samples: one video frame at 16 kHz
SILENT = -100.0  # dB of digital silence
SHARE = 0.35  # of the way from the quiet to the loud end
GATE = -45.0  # dB of full scale
CONTRAST = 6.0  # dB
GAP, SHORTEST_SPEECH, SHORTEST_SILENCE = 0.1, 0.25, 0.3  # seconds
FPS = 25.0

PARAMS: Mapping[str, Any] = {
    "splitter": "vad/energy_v1",
    "share": SHARE,
    "gate_db": GATE,
    "contrast_db": CONTRAST,
    "seconds": [GAP, SHORTEST_SPEECH, SHORTEST_SILENCE],
}


@dataclass(frozen=True, slots=True)
class Splitting:
    """Video frames by what is heard in them.

    Attributes:
        level: RMS of each frame's sound in dB of full scale, at least -100; (n,).
        speech, silence: bool (n,); a frame may be neither (a pause too short to count).
        contrast: the clip has loud and quiet parts; without that nothing counts as silence.
    """

    level: npt.NDArray[np.float64]
    speech: npt.NDArray[np.bool_]
    silence: npt.NDArray[np.bool_]
    contrast: bool


def levels(audio: npt.NDArray[np.int16], frames: int) -> npt.NDArray[np.float64]:
    """Return the level of every video frame in dB of full scale, (frames,); -100 where there is no sound."""
    samples = np.zeros(frames * WINDOW)
    n = min(len(audio), len(samples))
    samples[:n] = audio[:n] / 32768.0
    power = (samples.reshape(frames, WINDOW) ** 2).mean(axis=1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENT / 10)))


def split(audio: npt.NDArray[np.int16], frames: int) -> Splitting:
    """Split a clip of 25 fps into speech and silence.

    Args:
        audio: int16 (n,), 16 kHz mono.
        frames: number of video frames.
    """
    level = levels(audio, frames)
    floor, top = np.percentile(level, [10, 95]) if frames else (SILENT, SILENT)
    contrast = bool(top - floor >= CONTRAST)
    speech = level > (max(floor + SHARE * (top - floor), GATE) if contrast else GATE)
    speech = _without_short(~_without_short(~speech, GAP), SHORTEST_SPEECH) if frames else speech
    silence = _without_short(~speech, SHORTEST_SILENCE) if contrast else np.zeros(frames, bool)
    return Splitting(level, speech, silence, contrast)


class Splitter(Protocol):
    """Tells speech from silence."""

    @property
    def params(self) -> Mapping[str, Any]:
        """What its decisions depend on, its name included."""

    def split(self, audio: npt.NDArray[np.int16], frames: int) -> Splitting:
        """Split a clip, see `split`."""

    def require(self) -> None:
        """Raise `Unscored` when it cannot run here."""


class Energy:
    """Loud is speech; needs nothing."""

    params = PARAMS

    def split(self, audio: npt.NDArray[np.int16], frames: int) -> Splitting:
        """See `split`."""
        return split(audio, frames)

    def require(self) -> None:
        """Never raises."""


class Silero:
    """Silero VAD with its library's defaults, as installed; its version is part of the parameters."""

    package = "silero-vad"

    @property
    def params(self) -> Mapping[str, Any]:
        """Name and version."""
        try:
            found = metadata.version(self.package)
        except metadata.PackageNotFoundError:
            found = "none"
        return {"splitter": "vad/silero", self.package: found, "seconds": ["library", "library", SHORTEST_SILENCE]}

    def require(self) -> None:
        """Raise `Unscored` without the package."""
        if util.find_spec("silero_vad") is None:
            raise Unscored(
                Reason.MISSING_PACKAGE, f"{self.package} is not installed; run: pip install {self.package}"
            )

    def split(self, audio: npt.NDArray[np.int16], frames: int) -> Splitting:
        """See `split`; a frame speaks when at least half of it lies in speech, and every clip has contrast."""
        import torch

        found, network = _silero()
        waves = torch.from_numpy(audio.astype(np.float32) / 32768)
        spoken = np.zeros(frames * WINDOW)
        for part in found(waves, network, sampling_rate=round(WINDOW * FPS)):
            spoken[part["start"] : part["end"]] = 1
        speech = spoken.reshape(frames, WINDOW).mean(axis=1) >= 0.5
        return Splitting(levels(audio, frames), speech, _without_short(~speech, SHORTEST_SILENCE), contrast=True)


@cache
def _silero() -> tuple[Any, Any]:
    from silero_vad import get_speech_timestamps, load_silero_vad

    return get_speech_timestamps, load_silero_vad()


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, end) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _without_short(flags: npt.NDArray[np.bool_], seconds: float) -> npt.NDArray[np.bool_]:
    """Clear runs of True shorter than so many seconds."""
    kept = flags.copy()
    for first, end in runs(flags):
        if end - first < seconds * FPS:
            kept[first:end] = False
    return kept
