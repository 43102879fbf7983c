"""Opening and shaping a drawn or photographed mouth, and what is seen between the lips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.methods.articulation import Articulation
from bench.methods.face_shape import FaceShape, Points, as_complex, as_points

_WIDEST = 0.36  # opening of 1, in mouth widths
_SPREAD = 0.10  # how far a corner moves for a spread of 1, in mouth widths
_LOWER_SHARE = 0.82  # of an opening; the rest lifts the upper lip
_CAVITY = np.array([62.0, 24.0, 26.0])
_TEETH = np.array([214.0, 203.0, 192.0])
_TEETH_HEIGHT = 0.13  # in mouth widths


class Mouth:
    """The mouth of one reference picture.

    Works in mouth coordinates: the origin between the corners, x along them with 1 at a corner, y downwards in
    the same unit.

    Args:
        picture: uint8 (height, width, 3), RGB.
        shape: roles of the landmarks.
        landmarks: (K, 2) pixels of the picture.
    """

    def __init__(self, picture: npt.NDArray[np.uint8], shape: FaceShape, landmarks: Points) -> None:
        self._shape = shape
        self._landmarks = landmarks
        left, right = landmarks[shape.upper_outer[0]], landmarks[shape.upper_outer[-1]]
        self._origin = complex(*((left + right) / 2))
        self._unit = complex(*((right - left) / 2))
        local = as_points((as_complex(landmarks) - self._origin) / self._unit)
        self._local = local
        self.width = 2 * abs(self._unit)
        gaps = local[list(shape.lower_inner), 1] - local[list(shape.upper_inner), 1]
        self._gap = max(0.0, float(gaps[len(gaps) // 2]))
        self._profile = self._opening_profile(gaps)
        self._bright = _brightness(picture, landmarks, shape)
        self.jaw = self._jaw_weight()

    def displacements(self, speech: Articulation) -> Points:
        """Return how far each landmark moves in each frame, (n, K, 2) pixels."""
        x, y = self._local.T
        wanted = 2 * _WIDEST * speech.opening[:, None]
        change = wanted - self._gap
        vertical = change * self._profile
        lips_and_jaw = np.where(self._is_upper(), -(1 - _LOWER_SHARE) * vertical, _LOWER_SHARE * vertical)
        reach = (
            np.clip(x, -1, 1) * np.exp(-((np.maximum(np.abs(x) - 1, 0) / 0.5) ** 2)) * np.exp(-((y / 0.9) ** 2))
        )
        horizontal = 2 * _SPREAD * speech.spread[:, None] * reach
        # An open jaw pulls the corners in a little.
        horizontal = horizontal - 0.08 * np.maximum(change, 0) * reach
        return as_points((horizontal + 1j * lips_and_jaw) * self._unit)

    def paint(self, frame: npt.NDArray[np.uint8], landmarks: Points) -> npt.NDArray[np.uint8]:
        """Darken what opened between the lips and show the upper teeth; where the reference already shows the
        inside of the mouth, that is left alone.

        Args:
            frame: the warped picture; changed in place.
            landmarks: (K, 2), where the landmarks went.
        """
        upper = landmarks[list(self._shape.upper_inner)]
        lower = landmarks[list(self._shape.lower_inner)]
        left, right = (upper[0] + lower[0]) / 2, (upper[-1] + lower[-1]) / 2
        unit = complex(*((right - left) / 2))
        middle = complex(*((left + right) / 2))
        contour_up, contour_low = (as_points((as_complex(c) - middle) / unit) for c in (upper, lower))
        gap = float(np.max(contour_low[:, 1] - contour_up[:, 1]))
        amount = np.clip((gap - 1.5 * self._gap) / 0.16, 0, 1) * np.clip((0.16 - self._gap) / 0.08, 0, 1)
        if amount == 0:
            return frame
        corners = np.concatenate([upper, lower])
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
        x1, y1 = np.ceil(corners.max(axis=0)).astype(int) + 3
        region = frame[y0:y1, x0:x1]
        if region.size == 0:
            return frame
        rows, columns = np.mgrid[y0 : y0 + region.shape[0], x0 : x0 + region.shape[1]]
        local = (columns + 1j * rows - middle) / unit
        across, depth = local.real, local.imag
        top = np.interp(across, np.maximum.accumulate(contour_up[:, 0]), contour_up[:, 1])
        bottom = np.interp(across, np.maximum.accumulate(contour_low[:, 0]), contour_low[:, 1])
        pixel = 1 / abs(unit)
        soft = max(pixel, 0.03)
        inside = np.clip((depth - top) / soft + 0.5, 0, 1) * np.clip((bottom - depth) / soft + 0.5, 0, 1)
        inside *= np.clip((1 - np.abs(across)) / soft, 0, 1)
        edge = 2 * _TEETH_HEIGHT * np.sqrt(np.clip(1 - (across / 0.8) ** 2, 0, 1))
        teeth = np.clip((top + edge - depth) / (2 * soft) + 0.5, 0, 1) * np.clip((gap - 0.12) / 0.2, 0, 1) * 0.85
        deep = np.clip((depth - top) / (gap + 1e-6), 0, 1)[..., None]
        colour = (_CAVITY * (1 - 0.35 * deep)) * (1 - teeth[..., None]) + _TEETH * teeth[..., None]
        alpha = (inside * amount)[..., None]
        region[:] = np.rint(region * (1 - alpha) + colour * self._bright * alpha).astype(np.uint8)
        return frame

    def _is_upper(self) -> npt.NDArray[np.bool_]:
        upper = np.zeros(len(self._local), bool)
        upper[[*self._shape.upper_outer[1:-1], *self._shape.upper_inner[1:-1]]] = True
        return upper

    def _jaw_weight(self) -> npt.NDArray[np.float64]:
        """How much each landmark belongs to the mouth and jaw (1) rather than to the rest of the face (0)."""
        x, y = self._local.T
        weight = np.clip((y + 0.25) / 0.5, 0, 1) * np.exp(-((x / 2.0) ** 4))
        weight[self._lips()] = 1.0
        return np.asarray(weight)

    def _lips(self) -> list[int]:
        s = self._shape
        return [*s.upper_outer, *s.upper_inner, *s.lower_inner, *s.lower_outer]

    def _opening_profile(self, gaps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return for every landmark the share of the middle of the lips' motion that it makes."""
        x, y = self._local.T
        chin = max(float(y[self._shape.chin]), 0.8)
        below = np.clip((y + 0.05) / 0.45, 0, 1) * np.exp(-((x / 1.7) ** 4))
        jaw = below * (1 - 0.25 * np.clip(y / chin, 0, 1.3))
        across = np.clip(self._local[list(self._shape.upper_inner), 0], -1, 1)
        bow = np.power(np.clip(1 - across**2, 0, 1), 0.6)
        lips = gaps / self._gap if self._gap > 0.15 else bow
        profile = jaw
        for contour in (self._shape.upper_inner, self._shape.lower_inner):
            profile[list(contour)] = np.clip(lips, 0, 1.2)
        for contour in (self._shape.upper_outer, self._shape.lower_outer):
            place = np.clip(self._local[list(contour), 0], -1, 1)
            profile[list(contour)] = np.power(1 - place**2, 0.5)
        corners = [c[k] for c in (self._shape.upper_outer, self._shape.upper_inner) for k in (0, -1)]
        profile[corners] = 0.12
        return np.asarray(profile)


def _brightness(picture: npt.NDArray[np.uint8], landmarks: Points, shape: FaceShape) -> float:
    """How bright white things are in the face, 1 for ordinary daylight."""
    outline = landmarks[list(shape.outline)]
    (x0, y0), (x1, y1) = np.maximum(outline.min(axis=0), 0).astype(int), outline.max(axis=0).astype(int) + 1
    face = picture[y0:y1, x0:x1]
    return float(np.clip(np.percentile(face.mean(axis=2), 97) / 195, 0.3, 1.1)) if face.size else 1.0
