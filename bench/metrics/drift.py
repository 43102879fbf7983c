"""What changes slowly over a long clip: identity and colours.

No standard exists; papers on long videos show frames and curves. Stitch it in Time (Tzaban et al. 2022) compares
all pairs of frames with those of the source. A slope is Theil and Sen's: the median over pairs, which a blink or a
turn of the head does not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, ExtractorSpec, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView, Features
from bench.metrics import csim
from bench.metrics.sharpness import REAL, Place

Array = npt.NDArray[np.float64]

FPS = 25
SECONDS = 4  # a shorter clip has no drift
EDGE = 2 * FPS
MOST_PAIRS = 500


def slope(values: Array, seconds: Array) -> float:
    """Return the Theil-Sen slope per second of (n,), from at most 500 evenly chosen values."""
    from scipy.stats import theilslopes

    chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_PAIRS)).round().astype(int))
    return float(theilslopes(values[chosen], seconds[chosen])[0])


def _require(frames: int) -> None:
    if frames < SECONDS * FPS:
        raise Unscored(Reason.TOO_SHORT, f"{frames / FPS:.1f} s with a face; drift needs {SECONDS} s")


def identity_drift(cosines: Array) -> dict[str, float]:
    """Return what becomes of the similarity to a reference over a clip.

    Args:
        cosines: similarity of every frame (n,), NaN without a face.

    Raises:
        Unscored: a face in less than four seconds.
    """
    valid = np.isfinite(cosines)
    _require(int(valid.sum()))
    kept = cosines[valid]
    second = np.convolve(kept, np.ones(FPS) / FPS, "valid")
    return {
        "slope": 10 * slope(kept, np.flatnonzero(valid) / FPS),
        "loss": float(kept[:EDGE].mean() - kept[-EDGE:].mean()),
        "worst": float(second.min()),
        "n_frames": float(valid.sum()),
        "coverage": float(valid.mean()),
    }


class IdentityDrift:
    """How the similarity to the reference picture changes over a clip."""

    protocol = "drift/identity_v1"
    features: tuple[str, ...] = (csim.FEATURE,)
    domain: Any = "real"
    code_modules: tuple[str, ...] = (__name__, *csim.ReferenceImage.code_modules)

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=self.protocol,
            version="1",
            kind="clip",
            columns=(
                Column("slope", "Identity drift", "none", "/10 s", digits=4),
                Column("loss", "Identity loss", "none", digits=4),
                Column("worst", "Identity, worst second", "higher", digits=4),
            ),
            domains=(self.domain,),
            needs=("image",),
            features=self.features,
            params={"slope": "Theil-Sen", "ends_seconds": 2, "least_seconds": SECONDS},
            weights=self._weights(),
            default=False,
            summary="Change of the similarity to the reference picture over a clip: slope, loss, worst second.",
            source="no published standard; after Tzaban et al., Stitch it in Time, 2022",
        )

    def _weights(self) -> tuple[WeightRef, ...]:
        return csim.ReferenceImage().spec.weights

    def cosines(self, clip: ClipView) -> Array:
        """Return the similarity of every frame to the reference picture (n,), NaN without a face."""
        frames = clip.features(csim.FEATURE)
        return np.asarray(frames["embeddings"] @ csim.picture_embedding(clip), np.float64)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `slope` per 10 s, `loss` and `worst`; see `identity_drift`."""
        return identity_drift(self.cosines(clip))


class Colours:
    """Mean colour of face and background in every frame."""

    place: Place = REAL

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name=f"colours{self.place.infix}",
            version="1",
            params={"space": "CIE Lab", "pixel_step": 4},
            weights=self.place.weights,
            packages=("mediapipe",) if self.place is REAL else (),
            hears=False,
            meets=self.place is REAL,
        )
        self.code_modules = (__name__, "bench.metrics.sharpness", *self.place.code)

    def extract(self, clip: ClipView) -> Features:
        """Return `face` and `background` (n, 3): mean L, a and b, NaN without a face."""
        from skimage.color import rgb2lab

        boxes = self.place.boxes(clip).face
        found = {name: np.full((len(boxes), 3), np.nan) for name in ("face", "background")}
        index = 0
        for chunk in clip.chunks():
            for frame in chunk[: len(boxes) - index]:
                if np.isfinite(boxes[index]).all():
                    lab = rgb2lab(frame[::4, ::4])
                    x0, y0, x1, y1 = (boxes[index] / 4).round().astype(int)
                    inside = np.zeros(lab.shape[:2], bool)
                    inside[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] = True
                    if inside.any() and not inside.all():
                        found["face"][index] = lab[inside].mean(axis=0)
                        found["background"][index] = lab[~inside].mean(axis=0)
                index += 1
        return found


def colour_change(path: Array) -> dict[str, float]:
    """Return how far a mean colour (n, 3) is from its first second at half-time and at the end, in CIE76 ΔE."""
    valid = np.isfinite(path).all(axis=1)
    _require(int(valid.sum()))
    kept = path[valid]
    away = np.linalg.norm(kept - kept[:FPS].mean(axis=0), axis=1)
    half = len(kept) // 2
    return {
        "half": float(np.linalg.norm(kept[half - FPS // 2 : half + FPS // 2].mean(0) - kept[:FPS].mean(0))),
        "end": float(np.linalg.norm(kept[-FPS:].mean(0) - kept[:FPS].mean(0))),
        "slope": 10 * slope(away, np.flatnonzero(valid) / FPS),
    }


class ColourDrift:
    """How far colours wander from those of the first second."""

    place: Place = REAL

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"drift/colour{self.place.infix}_v1",
            version="1",
            kind="clip",
            columns=(
                Column("face_half", "Face ΔE at half", "none", digits=2),
                Column("face_end", "Face ΔE at end", "none", digits=2),
                Column("face_slope", "Face ΔE drift", "none", "/10 s", digits=2),
                Column("back_end", "Background ΔE at end", "none", digits=2),
            ),
            domains=(self.place.domain,),
            features=(f"colours{self.place.infix}",),
            params={"difference": "CIE76", "start_seconds": 1, "least_seconds": SECONDS, "slope": "Theil-Sen"},
            weights=self.place.weights,
            default=False,
            summary="Distance of the mean colour of face and background from the clip's first second.",
            source="no published standard; CIE 1976 colour difference",
        )
        self.code_modules = (__name__, "bench.metrics.sharpness", *self.place.code)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return four values in ΔE; see `colour_change`."""
        found = clip.features(self.spec.features[0])
        face, back = colour_change(found["face"]), colour_change(found["background"])
        valid = np.isfinite(found["face"][:, 0])
        return {
            **{f"face_{key}": value for key, value in face.items()},
            "back_end": back["end"],
            "n_frames": float(valid.sum()),
            "coverage": float(valid.mean()),
        }


METRICS: tuple[type, ...] = (IdentityDrift, ColourDrift)
EXTRACTORS: tuple[type, ...] = (Colours,)
