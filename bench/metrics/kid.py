"""Kernel Inception Distance: an unbiased squared MMD with a cubic kernel; no Gaussian, no full rank needed.

    k(x, y) = (x.y / d + 1)^3

Binkowski et al. 2018, "Demystifying MMD GANs", section 4. Frames of one clip are not independent, so one frame per
second enters. Being unbiased it may be negative, and does not fall with the number of clips, as FID does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView, Features
from bench.weights import ref

EVERY = 25  # frames
SUBSETS, SUBSET_SIZE = 100, 1000


def mmd(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """Return the unbiased squared MMD of rows (n, d) and (m, d), n and m >= 2, under the cubic kernel."""
    d = first.shape[1]
    n, m = len(first), len(second)
    own, other, cross = ((a @ b.T / d + 1) ** 3 for a, b in ((first, first), (second, second), (first, second)))
    within = (own.sum() - np.trace(own)) / (n * (n - 1)) + (other.sum() - np.trace(other)) / (m * (m - 1))
    return float(within - 2 * cross.mean())


class Kid:
    """KID over one frame per second."""

    protocol = "kid/inception"
    feature = "inception2048"
    dimensions = 2048
    domain: Any = "real"
    weights: tuple[WeightRef, ...] = (ref("inception_fid"),)
    code_modules: tuple[str, ...] = (__name__,)

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=self.protocol,
            version="1",
            kind="set",
            columns=(Column("kid", "KID", "lower", digits=2, scale=1000.0),),
            domains=(self.domain,),
            needs=("reference",),
            features=(self.feature,),
            params={
                "kernel": "(x.y/d + 1)^3",
                "estimator": "unbiased",
                "every": EVERY,
                "subsets": SUBSETS,
                "subset_size": SUBSET_SIZE,
            },
            weights=self.weights,
            default=False,  # reacts on drawn faces; not yet measured on real ones
            summary="Kernel distance of one frame per second; unbiased for few frames, may be slightly negative.",
            source="Binkowski et al. 2018",
        )

    def state(self, clip: ClipView) -> Features:
        """Return `rows`, the features of one frame per second, the first in the middle of the first second."""
        features = clip.features(self.feature)["features"]
        chosen = features[EVERY // 2 :: EVERY]
        return {"rows": chosen if len(chosen) else features[:1]}

    def merge(self, states: list[Features]) -> Features:
        """Put rows together, sorted, so that the order of clips does not matter."""
        rows = np.concatenate([state["rows"] for state in states])
        return {"rows": rows[np.lexsort(rows.T[::-1])]}

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return `kid`; the mean over subsets where there are more rows than one subset has.

        Raises:
            Unscored: fewer than two frames on a side.
        """
        sides = [np.asarray(side["rows"], np.float64) for side in (generated, reference)]
        size = min(SUBSET_SIZE, *(len(side) for side in sides))
        if size < 2:
            raise Unscored(Reason.INSUFFICIENT_SAMPLES, "KID needs two frames on either side")
        if all(len(side) <= SUBSET_SIZE for side in sides):
            return {"kid": mmd(*sides)}
        rng = np.random.default_rng(0)
        draws = [[side[rng.choice(len(side), size, replace=False)] for side in sides] for _ in range(SUBSETS)]
        return {"kid": float(np.mean([mmd(*draw) for draw in draws]))}


METRICS: tuple[type, ...] = (Kid,)
