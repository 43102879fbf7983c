"""Whether the mouth rests when nobody speaks, and opens with the voice when somebody does.

Quignon et al. 2025, "THEval" (silent-lip stability, audio-lip correlation); Chae-Yeon et al. 2025, "Perceptually
accurate 3D talking head generation" (speech-lip intensity). Neither is a test of phonemes: vowels are loud and
open, that is all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics import speech
from bench.metrics.face_motion import FaceMotion, MotionMetric, bridged, require_frames, smoothed

MIN_SILENT = 5  # frames
MAX_LAG = 3  # frames
FROZEN = 1e-3  # E; an opening that varies less does not move


def _flags(flags: npt.NDArray[np.bool_], motion: FaceMotion) -> npt.NDArray[np.bool_]:
    n = min(len(flags), len(motion.valid))
    used = np.zeros(len(motion.valid), bool)
    used[:n] = flags[:n] & motion.valid[:n]
    return used


class _HeardMetric(MotionMetric):
    splitter: speech.Splitter = speech.Energy()
    own: ClassVar[Mapping[str, Any]]

    @property
    def parameters(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {**self.splitter.params, **self.own}

    def require(self) -> None:
        """Raise `Unscored` when speech cannot be found here."""
        self.splitter.require()

    def _split(self, clip: ClipView) -> speech.Splitting:
        audio = clip.audio()
        if audio is None:
            raise Unscored(Reason.NO_AUDIO, "the clip has no sound")
        return self.splitter.split(audio, clip.frames)


class LipStability(_HeardMetric):
    """How still the lips are in pauses."""

    protocol = "silence/lip_stability"
    columns: tuple[Column, ...] = (
        Column("lips_mad", "Lips in silence", "none", "E", digits=2, scale=100.0),
        Column("lips_p90", "Open in silence", "none", "E", digits=1, scale=100.0),
        Column("silent_seconds", "silence", "none", "s", digits=1),
    )
    needs = ("audio",)
    default = False  # no pause in most short clips, and not yet shown to react
    own: ClassVar[Mapping[str, Any]] = {
        "spread": "median absolute deviation from the median",
        "min_frames": MIN_SILENT,
    }
    summary = "Lip stability in silence: median deviation of the mouth's opening, and how open it is left."
    source = "Quignon et al., THEval, 2025, section 3 (silent-lip stability, as the paper defines it)"
    modules = (__name__, "bench.metrics.speech")

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `lips_mad` and `lips_p90` in E, `silent_seconds` in s.

        Raises:
            Unscored: no sound, no silence of 0.3 s, or a face in fewer than five silent frames.
        """
        split = self._split(clip)
        if not split.silence.any():
            why = "no pause of 0.3 s" if split.contrast else "loud and quiet parts differ by less than 6 dB"
            raise Unscored(Reason.NO_SILENCE, why)
        motion = self.world.motion(clip)
        used = _flags(split.silence, motion)
        require_frames(int(used.sum()), MIN_SILENT, "silent frames with a face")
        opening = motion.opening[used]
        return {
            "lips_mad": float(np.median(np.abs(opening - np.median(opening)))),
            "lips_p90": float(np.percentile(opening, 90)),
            "silent_seconds": float(split.silence.sum() / speech.FPS),
            **motion.usage(used),
        }


class Loudness(_HeardMetric):
    """How well the opening of the mouth follows loudness while somebody speaks."""

    protocol = "loudness/opening"
    columns: tuple[Column, ...] = (
        Column("rho", "Loud-open", "higher", digits=3),
        Column("lag", "Loud-open lag", "none", "frames", digits=1),
        Column("rho_0", "Loud-open@0", "higher", digits=3),
        Column("range", "Opening range", "none", "E", digits=1, scale=100.0),
        Column("frozen_mouth", "frozen mouth", "none", digits=2),
    )
    needs = ("audio",)
    default = False  # follows sound on drawn faces, not on the real clips of docs/sensitivity.md
    own: ClassVar[Mapping[str, Any]] = {
        "correlation": "Spearman",
        "smoothing": "Gaussian of 1 frame",
        "max_lag": MAX_LAG,
        "range": "5th to 95th percentile",
        "frozen": FROZEN,
    }
    summary = "Rank correlation of mouth opening and loudness in speech, best lag of ±3 frames and lag 0."
    source = "Quignon et al., THEval, 2025 (lip sync); Chae-Yeon et al. 2025 (speech-lip intensity)"
    modules = (__name__, "bench.metrics.speech")

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `rho` and `rho_0` in [-1, 1] (0 for a mouth that does not move), `lag` (positive: the sound is
        early, as for `sync/*`), `range` in E, and the flag `frozen_mouth`.

        Raises:
            Unscored: no sound, or a face in fewer than 25 frames of speech.
        """
        split = self._split(clip)
        if not split.speech.any():
            raise Unscored(Reason.NO_SPEECH, "nothing is as loud as speech for a quarter of a second")
        motion = self.world.motion(clip)
        used = _flags(split.speech, motion)
        require_frames(int(used.sum()), what="frames of speech with a face")
        opening = smoothed(bridged(motion.opening, motion.valid), 1.0)
        level = smoothed(split.level, 1.0)
        reach = float(np.diff(np.percentile(motion.opening[used], [5, 95]))[0])
        usage = {"range": reach, **motion.usage(used)}
        if reach < FROZEN:
            return {"rho": 0.0, "lag": float("nan"), "rho_0": 0.0, "frozen_mouth": 1.0, **usage}
        at = np.flatnonzero(used)
        found = {lag: _rank_correlation(opening, level, at, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)}
        best = max(found, key=lambda lag: (found[lag], -abs(lag)))
        return {"rho": found[best], "lag": float(best), "rho_0": found[0], "frozen_mouth": 0.0, **usage}


def _rank_correlation(
    opening: npt.NDArray[np.float64], level: npt.NDArray[np.float64], at: npt.NDArray[np.intp], lag: int
) -> float:
    """Return Spearman's correlation of opening and the sound `lag` frames earlier; 0 when a side is constant."""
    from scipy.stats import rankdata

    heard = at - lag
    inside = (heard >= 0) & (heard < len(level))
    x, y = rankdata(opening[at[inside]]), rankdata(level[heard[inside]])
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0


class VoiceStability(LipStability):
    """How still the lips are where a network hears no voice, music or not."""

    splitter = speech.Silero()
    ending = "silero_v1"
    columns = tuple(replace(c, label=f"{c.label}, by voice") for c in LipStability.columns)


class VoiceLoudness(Loudness):
    """How well the opening of the mouth follows loudness where a network hears a voice."""

    splitter = speech.Silero()
    ending = "silero_v1"
    columns = tuple(replace(c, label=f"{c.label}, by voice") for c in Loudness.columns)


METRICS: tuple[type, ...] = (LipStability, Loudness, VoiceStability, VoiceLoudness)
