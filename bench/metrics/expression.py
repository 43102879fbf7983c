"""Expression error: how well the face of each frame makes the face of the ground truth.

The default protocols use MediaPipe's blendshapes, which everyone can run. Published tables use coefficients
of three-dimensional face models behind licence gates (EMOCA, Deep3DFaceRecon); for those, coefficients that
were made elsewhere are read from files, see `bench.metrics.coefficients`. The scales of all four differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec
from bench.core.views import ClipView
from bench.metrics import coefficients
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, paired_faces

Array = npt.NDArray[np.floating]

_OWN = "bench.metrics.expression"
_BLENDSHAPES = {"coefficients": "mediapipe 52 without _neutral", "average": "valid frames", "min_pairs": 5}


def mean_l1(generated: Array, reference: Array) -> float:
    """Return the mean absolute difference of two arrays (n, d), averaged over d, then n."""
    return float(np.abs(np.asarray(generated, np.float64) - reference).mean())


def mean_cosine(generated: Array, reference: Array) -> float:
    """Return the mean over frames of the cosine of two arrays (n, d); NaN when a vector is zero."""
    first, second = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(((first * second).sum(axis=1) / norms).mean())


class BlendshapeL1:
    """Mean absolute difference of 51 MediaPipe blendshapes."""

    spec = MetricSpec(
        id="expr/blendshape_l1",
        version="1",
        kind="clip",
        columns=(Column("expr_l1", "Expr-L1", "lower", digits=4),),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params=_BLENDSHAPES,
        weights=FACE_WEIGHTS,
        summary="Expression error: mean absolute difference of 51 MediaPipe blendshapes to the ground truth.",
        source="no published standard; MediaPipe Face Landmarker v2 with blendshapes",
    )
    code_modules = (_OWN, *CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `expr_l1` in [0, 1]."""
        pairs = paired_faces(clip, reference)
        value = mean_l1(pairs.generated["blendshapes"][:, 1:], pairs.reference["blendshapes"][:, 1:])
        return {"expr_l1": value, **pairs.coverage}


class BlendshapeCosine:
    """Cosine similarity of 51 MediaPipe blendshapes."""

    spec = MetricSpec(
        id="expr/blendshape_cos",
        version="1",
        kind="clip",
        columns=(Column("expr_cos", "Expr-Cos", "higher", digits=4),),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params=_BLENDSHAPES,
        weights=FACE_WEIGHTS,
        summary="Expression similarity: cosine of 51 MediaPipe blendshapes to the ground truth's.",
        source="the form of ACTalker's expression similarity (appendix A.2) on MediaPipe coefficients",
    )
    code_modules = (_OWN, *CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `expr_cos` in [0, 1] (blendshapes are not negative)."""
        pairs = paired_faces(clip, reference)
        value = mean_cosine(pairs.generated["blendshapes"][:, 1:], pairs.reference["blendshapes"][:, 1:])
        return {"expr_cos": value, **pairs.coverage}


class EmocaCosine:
    """Cosine similarity of EMOCA expression coefficients read from files."""

    code_modules = (_OWN, "bench.metrics.coefficients", "bench.metrics.pairing")

    @property
    def spec(self) -> MetricSpec:
        """The protocol; its parameters include the content of the coefficient files."""
        return MetricSpec(
            id="expr/emoca_cos",
            version="1",
            kind="clip",
            columns=(Column("emoca_cos", "Expr-Sim (EMOCA)", "higher", digits=3),),
            domains=("real",),
            needs=("reference",),
            params={"coefficients": "emoca expression", "files": coefficients.fingerprint("emoca")},
            default=False,
            summary="Expression similarity of the paper: cosine of EMOCA expression coefficients, from files.",
            source="ACTalker, appendix A.2; Danecek et al., EMOCA, 2022",
        )

    def require(self) -> None:
        """See `bench.core.views.ClipMetric`."""
        coefficients.require("emoca")

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `emoca_cos` in [-1, 1]."""
        pairs = coefficients.paired(clip, reference, "emoca")
        return {"emoca_cos": mean_cosine(pairs.generated, pairs.reference), **pairs.coverage}


class Deep3DAED:
    """Average expression distance on Deep3DFaceRecon coefficients read from files."""

    code_modules = (_OWN, "bench.metrics.coefficients", "bench.metrics.pairing")

    @property
    def spec(self) -> MetricSpec:
        """The protocol; its parameters include the content of the coefficient files."""
        return MetricSpec(
            id="expr/aed_deep3d",
            version="1",
            kind="clip",
            columns=(Column("aed", "AED (Deep3D)", "lower", digits=4),),
            domains=("real",),
            needs=("reference",),
            params={"coefficients": "deep3d 80:144", "files": coefficients.fingerprint("deep3d")},
            default=False,
            summary="Average expression distance: mean L1 of 64 Deep3DFaceRecon coefficients, from files.",
            source="Deng et al., Accurate 3D face reconstruction with weakly-supervised learning, 2019",
        )

    def require(self) -> None:
        """See `bench.core.views.ClipMetric`."""
        coefficients.require("deep3d")

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `aed` >= 0."""
        pairs = coefficients.paired(clip, reference, "deep3d")
        return {"aed": mean_l1(pairs.generated, pairs.reference), **pairs.coverage}


METRICS: tuple[type, ...] = (BlendshapeL1, BlendshapeCosine, EmocaCosine, Deep3DAED)
