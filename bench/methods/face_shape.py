"""Which landmark is what, on real and on synthetic faces, so that warps need to know only roles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.core.spec import Reason, Sample, Unscored
from bench.media import faces

Points = npt.NDArray[np.float64]

MIN_COVERAGE = 0.5
"""Share of driving frames that must show a face; the gaps are bridged in a straight line."""


@dataclass(frozen=True, slots=True)
class FaceShape:
    """Roles of landmarks, as indices. Lip contours run from the image's left corner to its right corner.

    Attributes:
        moved: points that shape the warp.
        rigid: points that move with the head but hardly with expression.
        outline: points of the head's silhouette, which hair and ears go with.
        eyes: the outer corner of the eye at the image's left and of the other.
        chin: lowest point of the face.
        upper_outer, upper_inner, lower_inner, lower_outer: lip contours.
    """

    moved: tuple[int, ...]
    rigid: tuple[int, ...]
    outline: tuple[int, ...]
    eyes: tuple[int, int]
    chin: int
    upper_outer: tuple[int, ...]
    upper_inner: tuple[int, ...]
    lower_inner: tuple[int, ...]
    lower_outer: tuple[int, ...]


class LandmarkReader(Protocol):
    """Finds the landmarks of one kind of face."""

    shape: FaceShape

    def read(self, frames: Iterable[npt.NDArray[np.uint8]]) -> Points:
        """Return (n, K, 2) pixels; rows without a face are NaN."""


class RealFaces:
    """MediaPipe's 478 landmarks."""

    shape = FaceShape(
        moved=tuple(range(468)),
        rigid=faces.RIGID,
        outline=faces.OVAL,
        eyes=faces.EYE_CORNERS,
        chin=152,
        upper_outer=(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
        upper_inner=(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
        lower_inner=(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
        lower_outer=(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
    )

    def __init__(self) -> None:
        self._reader = faces.FaceReader()

    def read(self, frames: Iterable[npt.NDArray[np.uint8]]) -> Points:
        """See `LandmarkReader.read`."""
        return self._reader.read(frames).landmarks[..., :2].astype(np.float64)


class SyntheticFaces:
    """The synthetic world's 43 landmarks, seen by its embedded reader."""

    def __init__(self) -> None:
        from bench.synthetic.geometry import LANDMARKS

        at: Any = {name: index for index, name in enumerate(LANDMARKS)}

        def contour(name: str) -> tuple[int, ...]:
            middle = (at[f"lip_{name}_{i}"] for i in range(3))
            return (at["mouth_corner_left"], *middle, at["mouth_corner_right"])

        eyes = [at[f"eye_{side}_{part}"] for side in ("left", "right") for part in ("outer", "inner")]
        self.shape = FaceShape(
            moved=tuple(range(len(LANDMARKS))),
            rigid=(*eyes, at["nose_bridge"], at["nose_tip"]),
            outline=tuple(at[f"outline_{i}"] for i in range(9)),
            eyes=(at["eye_left_outer"], at["eye_right_outer"]),
            chin=at["outline_4"],
            upper_outer=contour("upper_outer"),
            upper_inner=contour("upper_inner"),
            lower_inner=contour("lower_inner"),
            lower_outer=contour("lower_outer"),
        )

    def read(self, frames: Iterable[npt.NDArray[np.uint8]]) -> Points:
        """See `LandmarkReader.read`."""
        from bench.synthetic.reader import read_landmarks

        return np.asarray(read_landmarks(np.stack(list(frames))), np.float64)


class Readers:
    """Builds each reader on first use and keeps it."""

    def __init__(self) -> None:
        self._built: dict[type, LandmarkReader] = {}

    def of(self, sample: Sample) -> LandmarkReader:
        """Return the reader for the faces of this sample's data set.

        Raises:
            Unscored: its weights or packages are missing.
        """
        kind = SyntheticFaces if sample.dataset == "synthetic" else RealFaces
        if kind not in self._built:
            self._built[kind] = kind()
        return self._built[kind]


def reference_landmarks(reader: LandmarkReader, picture: npt.NDArray[np.uint8], sample: Sample) -> Points:
    """Return the landmarks (K, 2) of the reference picture.

    Raises:
        Unscored: it shows no face.
    """
    points = reader.read([picture])[0]
    if np.isnan(points).any():
        raise Unscored(Reason.NO_FACE, f"no face in the reference picture of {sample.id}")
    return points


def bridged(track: Points, sample: Sample) -> Points:
    """Fill frames without a face in a straight line between their neighbours; (n, K, 2).

    Raises:
        Unscored: fewer than `MIN_COVERAGE` of the frames show a face.
    """
    seen = np.asarray(~np.isnan(track).any(axis=(1, 2)))
    if seen.mean() < MIN_COVERAGE:
        share = f"{seen.sum()} of {len(track)}"
        raise Unscored(Reason.NO_FACE, f"a face in only {share} driving frames of {sample.id}")
    if seen.all():
        return track
    frames = np.arange(len(track))
    flat = track.reshape(len(track), -1)
    filled = np.stack([np.interp(frames, frames[seen], column[seen]) for column in flat.T], axis=1)
    return filled.reshape(track.shape)


def similarity(source: Points, target: Points) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Fit rotation, scale and shift by least squares.

    Args:
        source: (K, 2).
        target: (..., K, 2).

    Returns:
        (a, b), each (...): a point x + iy of `source` goes to a (x + iy) + b.
    """
    z, w = as_complex(source), as_complex(target)
    z_mean, w_mean = z.mean(), w.mean(axis=-1)
    centred = z - z_mean
    a = (np.conj(centred) * (w - w_mean[..., None])).sum(axis=-1) / (np.abs(centred) ** 2).sum()
    return a, w_mean - a * z_mean


def as_complex(points: Points) -> npt.NDArray[np.complex128]:
    """Points (..., 2) as x + iy."""
    return np.asarray(points[..., 0] + 1j * points[..., 1])


def as_points(z: npt.NDArray[np.complex128]) -> Points:
    """The inverse of `as_complex`."""
    return np.stack([z.real, z.imag], axis=-1)
