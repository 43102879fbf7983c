"""Landmark distances to the ground truth, and jitter of the head, from MediaPipe's 478 points.

"LMD" names at least five formulas in the literature (mouth or face, centred or not, pixels of an unstated size
or fractions). The two here say what they do in their protocol ids.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.media.faces import MOUTH, RIGID
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, inter_ocular, paired_faces

Array = npt.NDArray[np.float64]

_CODE = ("bench.metrics.landmarks", *CODE)
_SQUARE = 256


def _points(faces: Features, size: tuple[float, float]) -> Array:
    """Return (n, 478, 2) landmark positions in a frame resized to `size` (width, height)."""
    scale = np.asarray(size, np.float64) / faces["size"]
    return faces["landmarks"][..., :2].astype(np.float64) * scale


class MouthLMD:
    """Distance of mouth points after centring, in inter-ocular distances of the ground truth."""

    spec = MetricSpec(
        id="lmd/mouth_iod",
        version="1",
        kind="clip",
        columns=(Column("m_lmd", "M-LMD", "lower", "IOD", digits=3, scale=100.0),),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params={"points": "40 lip points", "centred": True, "unit": "outer eye corners of the truth's frame"},
        weights=FACE_WEIGHTS,
        summary="Mouth landmark distance: centred lip points, in inter-ocular distances of the ground truth.",
        source="Chen et al., ATVGnet, 2019 (mouth landmarks), with centring and scale stated",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `m_lmd` as a fraction of the inter-ocular distance."""
        pairs = paired_faces(clip, reference)
        width, height = pairs.reference["size"]
        mouths = []
        for side in (pairs.generated, pairs.reference):
            mouth = _points(side, (width, height))[:, MOUTH]
            mouths.append(mouth - mouth.mean(axis=1, keepdims=True))
        distance = np.linalg.norm(mouths[0] - mouths[1], axis=2).mean(axis=1)
        unit = inter_ocular(pairs.reference["landmarks"][..., :2])
        return {"m_lmd": float((distance / unit).mean()), **pairs.coverage}


class RawLMD:
    """Distance of all points and of mouth points in a frame resized to 256x256, nothing removed."""

    spec = MetricSpec(
        id="lmd/raw256",
        version="1",
        kind="clip",
        columns=(
            Column("lmd", "LMD@256", "lower", "px", digits=3),
            Column("m_lmd", "M-LMD@256", "lower", "px", digits=3),
        ),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params={"points": "478, and 40 lip points", "centred": False, "frame": _SQUARE},
        weights=FACE_WEIGHTS,
        summary="Landmark distance in pixels of a 256x256 frame; 2.56 px are 1e-2 of ACTalker's image units.",
        source="ACTalker, appendix A.2 (mean L2 of MediaPipe landmarks), at a stated size",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `lmd` and `m_lmd` in pixels."""
        pairs = paired_faces(clip, reference)
        square = (float(_SQUARE), float(_SQUARE))
        distance = np.linalg.norm(_points(pairs.generated, square) - _points(pairs.reference, square), axis=2)
        return {
            "lmd": float(distance.mean()),
            "m_lmd": float(distance[:, MOUTH].mean()),
            **pairs.coverage,
        }


class Jitter:
    """Mean acceleration of rigid points in inter-ocular distances per second squared."""

    spec = MetricSpec(
        id="jitter/lm_accel",
        version="1",
        kind="clip",
        columns=(Column("jitter", "Jitter", "none", "IOD/s^2", digits=2),),
        domains=("real",),
        features=(FACES,),
        params={"points": "eye corners and nose", "unit": "median outer eye corners of the clip", "fps": 25},
        weights=FACE_WEIGHTS,
        summary="Landmark jitter: acceleration of eye corners and nose; 0 when frozen, so compare with truth.",
        source="no published standard; second difference of landmarks",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `jitter` >= 0."""
        faces = clip.features(FACES)
        valid = faces["valid"]
        points = faces["landmarks"][:, RIGID, :2].astype(np.float64)
        unit = float(np.median(inter_ocular(faces["landmarks"][valid][..., :2])))
        triples = valid[2:] & valid[1:-1] & valid[:-2]
        if not triples.any():
            raise Unscored(Reason.TOO_SHORT, "no three adjacent frames with a face")
        second = (points[2:] - 2 * points[1:-1] + points[:-2])[triples]
        acceleration = np.linalg.norm(second, axis=2) / unit * clip.fps**2
        return {
            "jitter": float(acceleration.mean()),
            "n_frames": float(valid.sum()),
            "coverage": float(valid.mean()),
        }


METRICS: tuple[type, ...] = (MouthLMD, RawLMD, Jitter)
