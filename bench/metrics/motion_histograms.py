"""Fréchet distance of how landmarks move: sees freezes, jitter and wrong speed, neither identity nor blur.

After Liu et al. 2024, "Fréchet video motion distance", with a face's landmarks in place of tracked points. Windows
of 16 frames become histograms of direction and speed, and of direction and size of the acceleration, weighted by
speed and size, over mouth, eyes with brows, and outline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView, Features
from bench.media.faces import BROW_LEFT, BROW_RIGHT, EYE_LEFT, EYE_RIGHT, MOUTH_INNER, MOUTH_OUTER, OVAL
from bench.metrics import frechet
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, inter_ocular

Array = npt.NDArray[np.float64]

WINDOW = 16  # frames
DIRECTIONS = 8
SPEEDS = np.geomspace(1e-3, 0.3, 8)  # E per frame (squared for accelerations): edges between nine bins
REGIONS = (
    (*MOUTH_OUTER, *MOUTH_INNER[::2]),
    (*EYE_RIGHT[::2], *EYE_LEFT[::2], *BROW_RIGHT[::2], *BROW_LEFT[::2]),
    OVAL[::2],
)


def histogram(moves: Array) -> Array:
    """Return how motion vectors (n, points, 2) are spread over direction and size, weighted by size, (72,).

    Sums are divided by n and points, so that twice the motion counts twice.
    """
    size = np.linalg.norm(moves, axis=-1)
    turn = np.arctan2(moves[..., 1], moves[..., 0]) / (2 * np.pi) + 0.5
    direction = np.minimum((turn * DIRECTIONS).astype(int), DIRECTIONS - 1)
    bins = direction * (len(SPEEDS) + 1) + np.digitize(size, SPEEDS)
    total = np.bincount(bins.ravel(), weights=size.ravel(), minlength=DIRECTIONS * (len(SPEEDS) + 1))
    return np.asarray(total / size.size, np.float64)


def windows(regions: list[Array], valid: npt.NDArray[np.bool_]) -> Array:
    """Return the root of the histograms of every window of 16 frames with a face in all of them, (w, 432).

    Args:
        regions: three arrays of points (n, p, 2) in E.
        valid: (n,).

    Raises:
        Unscored: there is no such window.
    """
    rows = []
    for start in range(0, len(valid) - WINDOW + 1, WINDOW):
        if not valid[start : start + WINDOW].all():
            continue
        parts = []
        for points in regions:
            velocity = np.diff(points[start : start + WINDOW], axis=0)
            parts += [histogram(velocity), histogram(np.diff(velocity, axis=0))]
        rows.append(np.sqrt(np.concatenate(parts)))
    if not rows:
        raise Unscored(Reason.TOO_SHORT, f"no {WINDOW} frames in a row with a face")
    return np.stack(rows)


class MotionDistance:
    """Fréchet distance of motion histograms."""

    protocol = "fvmd/landmarks_v1"
    features: tuple[str, ...] = (FACES,)
    weights: tuple[WeightRef, ...] = FACE_WEIGHTS
    domain: Any = "real"
    code_modules: tuple[str, ...] = (__name__, "bench.metrics.frechet", *CODE)

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=self.protocol,
            version="1",
            kind="set",
            columns=(Column("fvmd", "FVMD (landmarks)", "lower", digits=2, scale=1000.0),),
            domains=(self.domain,),
            needs=("reference",),
            features=self.features,
            params={
                "window": WINDOW,
                "directions": DIRECTIONS,
                "edges": [float(f"{s:.6g}") for s in SPEEDS],
                "unit": "median eye corners of the clip",
            },
            weights=self.weights,
            default=False,
            summary="Fréchet distance of velocity and acceleration histograms of landmarks, windows of 16 frames.",
            source="after Liu et al. 2024, FVMD, on face landmarks",
        )

    def points(self, clip: ClipView) -> tuple[list[Array], npt.NDArray[np.bool_]]:
        """Return points of mouth, eyes with brows, and outline in E, and which frames have a face."""
        faces = clip.features(FACES)
        flat = faces["landmarks"][..., :2].astype(np.float64)
        valid = faces["valid"].astype(bool)
        unit = float(np.median(inter_ocular(flat[valid])))
        return [flat[:, list(region)] / unit for region in REGIONS], valid

    def state(self, clip: ClipView) -> Features:
        """Return the windows' histograms as a Fréchet state."""
        return frechet.state(windows(*self.points(clip)))

    def merge(self, states: list[Features]) -> Features:
        """See `bench.metrics.frechet.merge`."""
        return frechet.merge(states)

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return `fvmd` >= 0."""
        return {"fvmd": max(0.0, frechet.distance(generated, reference))}


METRICS: tuple[type, ...] = (MotionDistance,)
