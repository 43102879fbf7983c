"""What a method does when it is asked again: with silent sound, and with other seeds.

LipLeak (Bigata et al. 2025, "KeySync") counts frames with an open mouth when a video of a talking person drives a
method and the sound is silent: a mouth that opens then was copied. Which landmarks and whose threshold of 0.25 the
paper uses is shown in a figure only, so three thresholds are printed; the curve says more than a point.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from bench.core.spec import Column, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics.face_motion import FaceMotion, MotionMetric, require_frames

THRESHOLDS: Mapping[str, float] = {"leak_15": 0.15, "leak_25": 0.25, "leak_35": 0.35}


class LipLeak(MotionMetric):
    """How often the mouth is open although the sound is silent."""

    protocol = "silence/lipleak"
    ending = "mar025"
    columns = (
        Column("leak_25", "LipLeak", "lower", digits=3),
        Column("leak_15", "LipLeak, 0.15", "lower", digits=3),
        Column("leak_35", "LipLeak, 0.35", "lower", digits=3),
        Column("spoken", "open with own sound", "none", digits=3),
    )
    needs = ("silenced",)
    default = False
    parameters: ClassVar[Mapping[str, Any]] = {
        "ratio": "inner lips over inner corners",
        "thresholds": list(THRESHOLDS.values()),
        "sound": "noise at -66 dB of full scale",
    }
    summary = "Share of frames with an open mouth when the driving video talks and the sound is silent."
    source = "Bigata et al. 2025 (KeySync); its landmarks are shown in a figure only"
    modules = (__name__,)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return three shares in [0, 1], and the same at 0.25 of the clip with its own sound.

        Raises:
            Unscored: a face in fewer than 25 frames of either clip.
        """
        silent, spoken = (self.world.motion(one) for one in (clip.swapped["silence"], clip))
        for motion in (silent, spoken):
            require_frames(int(motion.valid.sum()))
        shares = {name: _open(silent, limit) for name, limit in THRESHOLDS.items()}
        return {**shares, "spoken": _open(spoken, THRESHOLDS["leak_25"]), **silent.usage()}


def _open(motion: FaceMotion, limit: float) -> float:
    return float((motion.aspect[motion.valid] > limit).mean())


class SeedDiversity(MotionMetric):
    """How different the clips of one sample are that differ in their seed only."""

    protocol = "diversity/seeds"
    columns = (
        Column("pose", "Pose diversity", "none", "deg", digits=2),
        Column("lips", "Lip diversity", "none", "E", digits=2, scale=100.0),
        Column("seeds", "seeds", "none", digits=0),
    )
    needs = ("repeats",)
    default = False
    parameters: ClassVar[Mapping[str, Any]] = {"distance": "root mean square over frames", "average": "pairs"}
    summary = "Distance of head rotation and mouth shape between clips of one sample with other seeds (--repeats)."
    source = "no published standard; in place of the spread of pose features of SadTalker (Zhang et al. 2023)"
    modules = (__name__,)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `pose` in degrees and `lips` in E, both >= 0, and the number of clips.

        Raises:
            Unscored: a face in fewer than 25 frames that all clips have.
        """
        others = [one for name, one in clip.swapped.items() if name not in ("audio", "visual", "silence")]
        motions = [self.world.motion(one) for one in (clip, *others)]
        if len(motions) < 2:
            raise Unscored(Reason.INSUFFICIENT_SAMPLES, "one seed; run with --repeats 2 or more")
        n = min(len(m.valid) for m in motions)
        both = np.logical_and.reduce([m.valid[:n] for m in motions])
        require_frames(int(both.sum()), what="frames with a face in all clips")
        turns, shapes = [], []
        for one, other in combinations(motions, 2):
            between = np.swapaxes(one.rotation[:n][both], 1, 2) @ other.rotation[:n][both]
            cosine = (np.trace(between, axis1=1, axis2=2) - 1) / 2
            turns.append(np.sqrt((np.degrees(np.arccos(np.clip(cosine, -1, 1))) ** 2).mean()))
            lips = [m.lips[:n][both] for m in (one, other)]
            first, second = (side - side.mean(axis=1, keepdims=True) for side in lips)
            shapes.append(np.sqrt(((first - second) ** 2).sum(axis=-1).mean()))
        return {
            "pose": float(np.mean(turns)),
            "lips": float(np.mean(shapes)),
            "seeds": float(len(motions)),
            "n_frames": float(both.sum()),
            "coverage": float(both.mean()),
        }


METRICS: tuple[type, ...] = (LipLeak, SeedDiversity)
