"""Whether the face moves on the beats of the sound: Beat Align, with what chance gives.

Bailando (Li et al. 2022), as SadTalker cites it: motion beats are minima of the smoothed speed of the points, and
the score is the mean over beats of the sound of exp(-d^2 / (2 sigma^2)), d frames to the nearest motion beat,
sigma 3 frames (here 0.12 s). Published values of real and generated faces differ by less than methods do, so the
score alone says little: the same motion against the sound turned around in time is printed beside it, and the
difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.core.spec import SAMPLES_PER_FRAME, Column, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics.face_motion import MotionMetric, bridged, require_frames, smoothed

Array = npt.NDArray[np.float64]

SIGMA = 3.0  # frames
SMOOTHING = 5.0  # frames
BANDS = 40
TURNS = 50


def score(sound: Array, motion: Array) -> float:
    """Return the mean over beats of the sound of exp(-d^2 / 18), d to the nearest motion beat, all in frames."""
    nearest = np.abs(sound[:, None] - motion).min(axis=1)
    return float(np.exp(-(nearest**2) / (2 * SIGMA**2)).mean())


def motion_beats(speed: Array) -> Array:
    """Return the strict minima of a speed (n,), smoothed by a Gaussian of five frames."""
    s = smoothed(speed, SMOOTHING)
    return np.asarray(np.flatnonzero((s[1:-1] < s[:-2]) & (s[1:-1] < s[2:])) + 1.0, np.float64)


def sound_beats(audio: npt.NDArray[np.int16]) -> Array:
    """Return the onsets of 16 kHz int16 sound in frames of 40 ms.

    Onset strength is the rise of the log spectrum, summed over bands, every 10 ms; onsets are its peaks above the
    mean by a standard deviation and 120 ms apart.
    """
    from scipy.signal import find_peaks

    hop = SAMPLES_PER_FRAME // 4
    count = (len(audio) - 512) // hop + 1
    if count < 8:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(audio / 32768.0, 512)[::hop] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames, axis=1))[:, 1:] ** 2
    edges = np.unique(np.geomspace(1, power.shape[1], BANDS + 1).astype(int) - 1)
    bands = np.log10(np.add.reduceat(power, edges[:-1], axis=1) + 1e-6)
    rise = np.concatenate([[0.0], np.maximum(0, np.diff(bands, axis=0)).sum(axis=1)])
    peaks = find_peaks(rise, height=float(rise.mean() + rise.std()), distance=12)[0]
    return (peaks * hop + 256) / SAMPLES_PER_FRAME - 0.5


class BeatAlign(MotionMetric):
    """Beat Align of the lips and head, and of the same motion with turned sound."""

    protocol = "beat/align"
    columns = (
        Column("align", "Beat Align", "none", digits=3),
        Column("chance", "Beat Align by chance", "none", digits=3),
        Column("excess", "Beat Align over chance", "higher", digits=3),
    )
    needs = ("audio",)
    default = False
    parameters: ClassVar[Mapping[str, Any]] = {
        "sigma_frames": SIGMA,
        "smoothing_frames": SMOOTHING,
        "mean_over": "sound beats",
        "onsets": "rise of the log spectrum",
        "chance": f"mean of {TURNS} turns of the sound",
    }
    summary = (
        "Nearness of motion beats to onsets of the sound, less what turned sound gives; unvalidated for speech."
    )
    source = "Li et al. 2022 (Bailando); Zhang et al. 2023 (SadTalker)"
    modules = (__name__,)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `align` and `chance` in [0, 1], and `excess`, their difference.

        Raises:
            Unscored: no sound, no onset in it, no motion beat, or a face in fewer than 25 frames.
        """
        audio = clip.audio()
        if audio is None:
            raise Unscored(Reason.NO_AUDIO, "the clip has no sound")
        heard = sound_beats(audio)
        heard = heard[heard < clip.frames]
        if not len(heard):
            raise Unscored(Reason.NO_SPEECH, "the sound has no onset")
        motion = self.world.motion(clip)
        require_frames(int(motion.valid.sum()))
        steps = np.linalg.norm(np.diff(motion.lips, axis=0), axis=-1).mean(axis=1)
        known = motion.valid[1:] & motion.valid[:-1]
        moved = motion_beats(bridged(steps, known)) + 0.5 if known.any() else np.zeros(0)
        if not len(moved):
            raise Unscored(Reason.TOO_SHORT, "the speed of the face has no minimum")
        found = score(heard, moved)
        turns = np.linspace(0, clip.frames, TURNS + 2)[1:-1]
        chance = float(np.mean([score((heard + turn) % clip.frames, moved) for turn in turns]))
        return {"align": found, "chance": chance, "excess": found - chance, **motion.usage()}


METRICS: tuple[type, ...] = (BeatAlign,)
