"""E-FID: a Fréchet distance of expressions. At least two quantities share the name.

EMO (Tian et al. 2024) takes expression coefficients of a reconstructed face (Deng et al. 2019), Hallo (Xu et al.
2024) features of Inception; published values for one method differ sixtyfold. Here: coefficients from files as EMO
means it, and 51 blendshapes of MediaPipe, which everybody can run. Neither sees time, so a second column compares
changes from frame to frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView, Features
from bench.metrics import coefficients, frechet
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES

Array = npt.NDArray[np.float64]

_PARTS = ("value", "change")


class ExpressionDistance:
    """Fréchet distance of 51 blendshapes."""

    protocol = "efid/blendshape51_v1"
    label = "E-FID (blendshapes)"
    dimensions = 51
    features: tuple[str, ...] = (FACES,)
    weights: tuple[WeightRef, ...] = FACE_WEIGHTS
    domain: Any = "real"
    code_modules: tuple[str, ...] = (__name__, "bench.metrics.frechet", *CODE)

    @property
    def spec(self) -> MetricSpec:
        """The protocol."""
        return MetricSpec(
            id=self.protocol,
            version="1",
            kind="set",
            columns=(
                Column("efid", self.label, "lower", digits=3),
                Column("change", f"{self.label}, changes", "lower", digits=4),
            ),
            domains=(self.domain,),
            needs=("reference",),
            features=self.features,
            params={**self.about(), "frames": "pooled", "least": self.dimensions + 1},
            weights=self.weights,
            default=False,
            summary="Fréchet distance of expressions, and of their changes; not the E-FID of any paper.",
            source="the form of EMO (Tian et al. 2024) on MediaPipe coefficients",
        )

    def about(self) -> Mapping[str, Any]:
        """Return what the coefficients are, for the parameters."""
        return {"coefficients": "mediapipe 52 without _neutral"}

    def expressions(self, clip: ClipView) -> Array:
        """Return coefficients (n, d), NaN without a face."""
        return np.asarray(clip.features(FACES)["blendshapes"][:, 1:], np.float64)

    def state(self, clip: ClipView) -> Features:
        """Return Fréchet states of values and changes, under the keys `value.*` and `change.*`."""
        values = self.expressions(clip)
        ok = np.asarray(np.isfinite(values).all(axis=1))
        changes = np.diff(values, axis=0)[ok[1:] & ok[:-1]]
        if not len(changes):
            raise Unscored(Reason.TOO_SHORT, "no two frames in a row with a face")
        return _packed([frechet.state(values[ok]), frechet.state(changes)])

    def merge(self, states: list[Features]) -> Features:
        """Merge both parts; see `bench.metrics.frechet.merge`."""
        return _packed([frechet.merge([_part(state, name) for state in states]) for name in _PARTS])

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return `efid` and `change` >= 0.

        Raises:
            Unscored: a side has no more frames than there are coefficients.
        """
        found = {}
        for key, name in zip(("efid", "change"), _PARTS, strict=True):
            sides = [_part(side, name) for side in (generated, reference)]
            least = min(map(frechet.count, sides))
            if least <= self.dimensions:
                raise Unscored(
                    Reason.INSUFFICIENT_SAMPLES, f"{least} frames; more than {self.dimensions} are needed"
                )
            found[key] = max(0.0, frechet.distance(*sides))
        return found


def _packed(parts: list[Features]) -> Features:
    return {f"{name}.{k}": v for name, part in zip(_PARTS, parts, strict=True) for k, v in part.items()}


def _part(state: Features, name: str) -> Features:
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


class Deep3DDistance(ExpressionDistance):
    """Fréchet distance of 64 Deep3DFaceRecon coefficients read from files: EMO's E-FID."""

    protocol = "efid/deep3d_exp64"
    label = "E-FID (Deep3D)"
    dimensions = 64
    features = ()
    weights = ()
    code_modules = (__name__, "bench.metrics.frechet", "bench.metrics.coefficients")

    def about(self) -> Mapping[str, Any]:
        """Return what the coefficients are, the content of the files included."""
        return {"coefficients": "deep3d 80:144", "files": coefficients.fingerprint("deep3d")}

    def require(self) -> None:
        """See `bench.core.views.ClipMetric`."""
        coefficients.require("deep3d")

    def expressions(self, clip: ClipView) -> Array:
        """See `ExpressionDistance.expressions`."""
        return coefficients.of(clip, "deep3d")


METRICS: tuple[type, ...] = (ExpressionDistance, Deep3DDistance)
