"""Sharpness of the frame, the face and the mouth, without a network.

Variance of the Laplacian (Pech-Pacheco et al. 2000) ranked the six systems of KeySync (Bigata et al. 2025) as its
voters did; it rises with noise, so a copy of every region after a 3x3 median stands beside it. CPBD is what papers
print; it follows votes weakly (Zhou et al. 2025, THQA-10K). Face and mouth are brought to a fixed size first, so a
larger output is not sharper by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, Domain, ExtractorSpec, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView, Features
from bench.media.faces import MOUTH
from bench.metrics import cpbd
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, inter_ocular
from bench.metrics.pairing import check_lengths, require_reference

Array = npt.NDArray[np.float64]
Array32 = npt.NDArray[np.float32]

FACE_SIDE, MOUTH_SIDE = 256, 128  # pixels
MOUTH_SHARE = 0.8  # side of the mouth box, in distances of the outer eye corners
STRIDE, EDGE_STRIDE = 5, 10  # every fifth frame is looked at, for CPBD, which is costly, every tenth
REGIONS = ("frame", "face", "mouth")


@dataclass(frozen=True, slots=True)
class Boxes:
    """Where face and mouth are.

    Attributes:
        face, mouth: x0, y0, x1, y1 in pixels (n, 4), NaN without a face.
    """

    face: Array
    mouth: Array


def boxes(points: Array, lips: Array, unit: Array) -> Boxes:
    """Return the boxes around all points (n, p, 2) and lip points (n, q, 2), given the unit (n,) in pixels."""
    centre = (lips.min(axis=1) + lips.max(axis=1)) / 2
    half = (MOUTH_SHARE / 2 * unit)[:, None]
    face = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    return Boxes(face, np.concatenate([centre - half, centre + half], axis=1))


def _real_boxes(clip: ClipView) -> Boxes:
    faces = clip.features(FACES)
    points = faces["landmarks"][..., :2].astype(np.float64)
    return boxes(points, points[:, list(MOUTH)], inter_ocular(points))


def laplacian_variance(picture: npt.NDArray[np.floating]) -> float:
    """Return the variance of the 3x3 Laplacian (0 1 0; 1 -4 1; 0 1 0) of a picture, borders repeated."""
    response = -4 * picture
    for here, other in ((response, picture), (response.T, picture.T)):
        here[1:] += other[:-1]
        here[:-1] += other[1:]
        here[0] += other[0]
        here[-1] += other[-1]
    flat = response.ravel()
    return (
        float(flat @ flat) / flat.size
    )  # its mean is zero: every difference of neighbours is there with both signs


def median_of_nine(picture: Array32) -> Array32:
    """Return a picture after a 3x3 median, mirrored at its borders."""
    p = np.pad(picture, 1, mode="symmetric")
    low, high = np.minimum(p[:-2], p[1:-1]), np.maximum(p[:-2], p[1:-1])
    columns = np.minimum(low, p[2:]), np.maximum(low, np.minimum(high, p[2:])), np.maximum(high, p[2:])
    least, middle, most = ((c[:, :-2], c[:, 1:-1], c[:, 2:]) for c in columns)
    largest_low = np.maximum(np.maximum(least[0], least[1]), least[2])
    smallest_high = np.minimum(np.minimum(most[0], most[1]), most[2])
    return _median(largest_low, _median(*middle), smallest_high)


def _median(a: Array32, b: Array32, c: Array32) -> Array32:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def cut(picture: npt.NDArray[Any], box: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.float32]:
    """Return the box of a grey picture at `side` x `side` pixels: averaged when it shrinks, linear when it grows.

    What lies outside the picture is left out: the box ends at the border.
    """
    height, width = picture.shape
    x0, x1 = np.clip(box[[0, 2]], 0, width)
    y0, y1 = np.clip(box[[1, 3]], 0, height)
    rows, columns = _filter(y0, y1, height, side), _filter(x0, x1, width, side)
    part = picture[rows[1] : rows[2], columns[1] : columns[2]].astype(np.float32)
    return np.asarray(rows[0] @ part @ columns[0].T)


def _filter(start: float, end: float, size: int, count: int) -> tuple[npt.NDArray[np.float32], int, int]:
    """Return triangle filters (count, k) that read pixels first to last, and these."""
    step = max(end - start, 1.0) / count
    reach = max(1.0, step)
    centres = start + (np.arange(count) + 0.5) * step - 0.5
    first, last = max(0, int(np.floor(centres[0] - reach))), min(size, int(np.ceil(centres[-1] + reach)) + 1)
    weights = np.maximum(0, 1 - np.abs(np.arange(first, last) - centres[:, None]) / reach)
    total = weights.sum(axis=1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32), first, last


def _pictures(clip: ClipView, where: Boxes, stride: int) -> Iterator[tuple[int, dict[str, Array32]]]:
    """Yield every `stride`-th frame, counted from 0, as grey regions; the frame alone where there is no face."""
    done, n = 0, len(where.face)
    for chunk in clip.chunks():
        for index in range(-done % stride, min(len(chunk), n - done), stride):
            at = done + index
            picture = cpbd.grey(chunk[index])
            found = {"frame": picture.astype(np.float32)}
            if np.isfinite(where.face[at]).all():
                found["face"] = cut(picture, where.face[at], FACE_SIDE)
                found["mouth"] = cut(picture, where.mouth[at], MOUTH_SIDE)
            yield at // stride, found
        done += len(chunk)


def measure(clip: ClipView, where: Boxes) -> Features:
    """Return how sharp every fifth frame is.

    Returns:
        `frame`, `face` and `mouth`: variance of the Laplacian, NaN without a face; `mouth_median`, the same after
        a 3x3 median. Each has one value per frame looked at.
    """
    found = {key: np.full(-(-len(where.face) // STRIDE), np.nan) for key in (*REGIONS, "mouth_median")}
    for at, pictures in _pictures(clip, where, STRIDE):
        for region, values in pictures.items():
            found[region][at] = laplacian_variance(values)
        if "mouth" in pictures:
            found["mouth_median"][at] = laplacian_variance(median_of_nine(pictures["mouth"]))
    return found


def measure_edges(clip: ClipView, where: Boxes) -> Features:
    """Return `frame`, `face` and `mouth`: CPBD of every tenth frame, NaN without edges; `seen`: with a face."""
    found = {region: np.full(-(-len(where.face) // EDGE_STRIDE), np.nan) for region in REGIONS}
    for at, pictures in _pictures(clip, where, EDGE_STRIDE):
        for region, values in pictures.items():
            found[region][at] = cpbd.cpbd(np.rint(values).astype(np.float64))
    return {**found, "seen": np.asarray(np.isfinite(where.face[::EDGE_STRIDE]).all(axis=1))}


@dataclass(frozen=True, slots=True)
class Place:
    """Whose faces are looked at, and where: photographs, or the drawn world."""

    domain: Domain
    infix: str
    features: tuple[str, ...]
    weights: tuple[WeightRef, ...]
    code: tuple[str, ...]
    boxes: Callable[[ClipView], Boxes]


REAL = Place("real", "", (FACES,), FACE_WEIGHTS, CODE, _real_boxes)
_CODE = (__name__, "bench.metrics.cpbd")


class _Regions:
    place = REAL
    extractor: str
    stride = STRIDE

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name=f"{self.extractor}{self.place.infix}",
            version="1",
            params={"face": FACE_SIDE, "mouth": MOUTH_SIDE, "mouth_share": MOUTH_SHARE, "stride": self.stride},
            weights=self.place.weights,
            packages=("mediapipe",) if self.place is REAL else (),
            hears=False,
            meets=self.place is REAL,
        )
        self.code_modules = (*_CODE, *self.place.code)


class Sharpness(_Regions):
    """Variance of the Laplacian of frame, face and mouth."""

    extractor = "sharpness"

    def extract(self, clip: ClipView) -> Features:
        """See `measure`. Raises `Unscored` where there is no face at all."""
        return measure(clip, self.place.boxes(clip))


class Edges(_Regions):
    """CPBD of frame, face and mouth: costly, and read by one protocol that is asked for by name."""

    extractor = "sharpness_cpbd"
    stride = EDGE_STRIDE

    def extract(self, clip: ClipView) -> Features:
        """See `measure_edges`. Raises `Unscored` where there is no face at all."""
        return measure_edges(clip, self.place.boxes(clip))


class _SharpnessMetric:
    place = REAL
    protocol: str
    extractor = Sharpness.extractor
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ()
    parameters: ClassVar[Mapping[str, Any]] = {}
    default = True
    summary: str
    source: str

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"sharpness/{self.protocol}{self.place.infix}_v1",
            version="1",
            kind="clip",
            columns=self.columns,
            domains=(self.place.domain,),
            needs=self.needs,
            features=(f"{self.extractor}{self.place.infix}",),
            params={"face": FACE_SIDE, "mouth": MOUTH_SIDE, **self.parameters},
            weights=self.place.weights,
            default=self.default,
            summary=self.summary,
            source=self.source,
        )
        self.code_modules = (*_CODE, *self.place.code)

    def _read(self, clip: ClipView) -> Features:
        return clip.features(f"{self.extractor}{self.place.infix}")


class Laplacian(_SharpnessMetric):
    """Mean variance of the Laplacian."""

    protocol = "laplacian"
    columns = (
        Column("vl_frame", "VL", "higher", digits=1),
        Column("vl_face", "VL face", "higher", digits=1),
        Column("vl_mouth", "VL mouth", "higher", digits=1),
    )
    default = False  # near its noise under blur on real faces, where clips differ a lot; the ratio is not
    summary = "Variance of the Laplacian of frame, face (256 px) and mouth (128 px); grows with noise."
    source = "Pech-Pacheco et al. 2000; used by Bigata et al., KeySync, 2025"

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return three values >= 0, in squared grey levels."""
        found = self._read(clip)
        return {
            **{f"vl_{region}": _mean(found[region]) for region in REGIONS},
            **_usage(np.isfinite(found["face"])),
        }


class Relative(_SharpnessMetric):
    """Variance of the Laplacian over the ground truth's, frame by frame in the same clip."""

    protocol = "relative"
    columns = (
        Column("face", "VL face / truth", "none"),
        Column("mouth", "VL mouth / truth", "none"),
        Column("mouth_median", "VL mouth / truth, median-filtered", "none"),
    )
    needs = ("reference",)
    parameters: ClassVar[Mapping[str, Any]] = {
        "ratio": "of means over frames in which both show a face",
        "median": "3x3",
        "stride": STRIDE,
    }
    summary = "Sharpness of face and mouth over the ground truth's: 1 is ideal, noise and sharpening exceed it."
    source = "no published standard; variance of the Laplacian relative to the paired truth"

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return three ratios >= 0.

        Raises:
            Unscored: no ground truth, or lengths that do not fit, or a truth without any detail.
        """
        truth = require_reference(reference)
        n = -(-check_lengths(clip.frames, truth.frames) // STRIDE)
        ours, theirs = ({key: values[:n] for key, values in self._read(side).items()} for side in (clip, truth))
        both = np.isfinite(ours["face"]) & np.isfinite(theirs["face"])
        if not both.any() or not theirs["mouth"][both].any():
            raise Unscored(Reason.NO_FACE, "no frame shows a face with any detail in both clips")
        ratios = {}
        for key in ("face", "mouth", "mouth_median"):
            mine, true = (side[key][both].mean() for side in (ours, theirs))
            ratios[key] = float(mine / true) if true > 0 else float("nan")
        return {**ratios, "n_frames": float(both.sum()), "coverage": float(both.mean())}


class Cpbd(_SharpnessMetric):
    """Cumulative probability of blur detection."""

    protocol = "cpbd"
    extractor = Edges.extractor
    columns = (
        Column("cpbd_frame", "CPBD", "higher"),
        Column("cpbd_face", "CPBD face", "higher"),
        Column("cpbd_mouth", "CPBD mouth", "higher"),
    )
    parameters: ClassVar[Mapping[str, Any]] = {**cpbd.PARAMS, "stride": EDGE_STRIDE}
    default = False  # stays within its noise under blur on drawn faces, see docs/sensitivity.md
    summary = "Share of edges whose blur is not noticed, every tenth frame; printed by many, follows votes weakly."
    source = "Narvekar & Karam 2011; python-cpbd 11e2553"

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return three shares in [0, 1]; NaN for a region without an edge."""
        found = self._read(clip)
        return {**{f"cpbd_{region}": _mean(found[region]) for region in REGIONS}, **_usage(found["seen"])}


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _usage(seen: npt.NDArray[np.bool_]) -> dict[str, float]:
    return {"n_frames": float(seen.sum()), "coverage": float(seen.mean())}


def at(place: Place, name: str, kinds: tuple[type, ...]) -> tuple[type, ...]:
    """Return metrics or extractors for another world's faces, as classes of module `name`."""
    return tuple(type(k.__name__, (k,), {"place": place, "__module__": name, "__doc__": k.__doc__}) for k in kinds)


METRICS: tuple[type, ...] = (Laplacian, Relative, Cpbd)
EXTRACTORS: tuple[type, ...] = (Sharpness, Edges)
