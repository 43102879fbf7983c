"""Distances to the ground truth that forgive being a little early or late, and say how much they forgave.

After Zhang et al. 2026, "Temporally-aligned evaluation of talking heads", with soft-DTW's divergence in place of
soft-DTW itself (which is not zero for equal clips and depends on their length), a band of five frames (without
one a frozen clip is matched at will), and gamma tied to the costs, so that units do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics import csim
from bench.metrics.alignment import costs, divergence, path
from bench.metrics.face_motion import MotionMetric
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, MIN_PAIRS
from bench.metrics.pairing import check_lengths, require_reference

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BAND = 5  # frames
SHARE = 0.01  # of the median cost of a frame
_SOURCE = "Zhang et al. 2026 (soft-DTW); Blondel et al. 2021 (divergence)"
_PARAMETERS: Mapping[str, Any] = {"band": BAND, "gamma": f"{SHARE} of the median cost", "cost": "squared L2"}
_MODULES = (__name__, "bench.metrics.alignment", "bench.metrics.pairing")


def _columns(name: str, unit: str = "") -> tuple[Column, ...]:
    squared = f"{unit}^2" if unit else ""
    return (
        Column("divergence", f"{name}, aligned", "lower", squared, digits=3, scale=100.0),
        Column("frames", f"{name}, frame by frame", "lower", squared, digits=3, scale=100.0),
        Column("ratio", f"{name}, left after alignment", "none", digits=2),
        Column("warp", f"{name}, shift", "lower", "frames", digits=2),
    )


def aligned(first: Array, second: Array) -> dict[str, float]:
    """Compare two sequences (n, d) frame by frame and inside the band.

    Returns:
        `divergence` per frame, `frames` (mean squared distance without alignment), `ratio` of the two (NaN for
        equal sequences) and `warp`, the mean |i - j| along the best path in frames.
    """
    direct = ((first - second) ** 2).sum(axis=1)
    positive = direct[direct > 0]
    if not len(positive):
        return {"divergence": 0.0, "frames": 0.0, "ratio": float("nan"), "warp": 0.0}
    gamma = SHARE * float(np.median(positive))
    found = max(0.0, divergence(first, second, BAND, gamma)) / len(first)
    steps = path(costs(first, second, BAND))
    mean = float(direct.mean())
    warp = float(np.abs(steps[:, 0] - steps[:, 1]).mean())
    return {"divergence": found, "frames": mean, "ratio": found / mean, "warp": warp}


def _compare(sides: list[tuple[Array, Flags]]) -> dict[str, float]:
    lengths = [len(valid) for _, valid in sides]
    n = check_lengths(*lengths)
    both = np.flatnonzero(sides[0][1][:n] & sides[1][1][:n])
    if len(both) < MIN_PAIRS:
        raise Unscored(Reason.TOO_SHORT, f"a face in both clips in {len(both)} frames")
    first, second = (np.asarray(values[both], np.float64).reshape(len(both), -1) for values, _ in sides)
    return {**aligned(first, second), "n_frames": float(len(both)), "coverage": len(both) / max(lengths)}


class AlignedLips(MotionMetric):
    """Shape of the mouth: lip points around their centre, in eye distances."""

    protocol = "seqalign/lmd"
    columns = _columns("Lips", "E")
    needs = ("reference",)
    default = False
    parameters: ClassVar[Mapping[str, Any]] = {**_PARAMETERS, "points": "lips, centred", "unit": "eye corners"}
    summary = "Mouth shape against the truth's, forgiving up to five frames: what is left, and the shift."
    source = _SOURCE
    modules = _MODULES

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the four values of `aligned`; costs are means over lip points."""
        sides = []
        for side in (clip, require_reference(reference)):
            motion = self.world.motion(side)
            shape = motion.lips - motion.lips.mean(axis=1, keepdims=True)
            sides.append((shape / np.sqrt(shape.shape[1]), motion.valid))
        return _compare(sides)


class AlignedPose(MotionMetric):
    """Rotation of the head, in radians."""

    protocol = "seqalign/pose"
    columns = _columns("Pose", "rad")
    needs = ("reference",)
    default = False
    parameters: ClassVar[Mapping[str, Any]] = {**_PARAMETERS, "distance": "2 sin(angle / 2)"}
    summary = "Head rotation against the truth's, forgiving up to five frames: what is left, and the shift."
    source = _SOURCE
    modules = _MODULES

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the four values of `aligned`; a cost is the squared angle, for angles that are not large."""
        motions = [self.world.motion(side) for side in (clip, require_reference(reference))]
        return _compare([(m.rotation.reshape(-1, 9) / np.sqrt(2), m.valid) for m in motions])


class AlignedExpression:
    """51 blendshapes of MediaPipe."""

    code_modules = (*_MODULES, *CODE)
    spec = MetricSpec(
        id="seqalign/expr_v1",
        version="1",
        kind="clip",
        columns=_columns("Expr"),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params={**_PARAMETERS, "coefficients": "mediapipe 52 without _neutral"},
        weights=FACE_WEIGHTS,
        default=False,
        summary="Blendshapes against the truth's, forgiving up to five frames: what is left, and the shift.",
        source=_SOURCE,
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the four values of `aligned`; costs are means over coefficients."""
        found = [side.features(FACES) for side in (clip, require_reference(reference))]
        return _compare([(f["blendshapes"][:, 1:] / np.sqrt(51), f["valid"]) for f in found])


class AlignedIdentity:
    """ArcFace vectors."""

    code_modules = (*_MODULES, *csim.GroundTruthFrame.code_modules)
    spec = MetricSpec(
        id="seqalign/csim_gt_v1",
        version="1",
        kind="clip",
        columns=_columns("CSIM distance"),
        domains=("real",),
        needs=("reference",),
        features=(csim.FEATURE,),
        params=_PARAMETERS,
        weights=csim.GroundTruthFrame().spec.weights,
        default=False,
        summary="ArcFace vectors against the truth's, forgiving up to five frames: what is left, and the shift.",
        source=_SOURCE,
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the four values of `aligned`; a cost is 2 - 2 cos."""
        found = [side.features(csim.FEATURE) for side in (clip, require_reference(reference))]
        return _compare([(f["embeddings"], f["valid"]) for f in found])


METRICS: tuple[type, ...] = (AlignedLips, AlignedPose, AlignedExpression, AlignedIdentity)
MOTION: tuple[type[MotionMetric], ...] = (AlignedLips, AlignedPose)
