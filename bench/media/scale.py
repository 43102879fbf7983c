"""Changing the size of pictures."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

_LANCZOS = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def within(width: int, height: int, short: int) -> tuple[int, int]:
    """Return the even size whose shorter side has at most `short` pixels, of the same shape up to rounding."""
    shown = min(width, height)
    if shown > short:
        return 2 * round(width * short / shown / 2), 2 * round(height * short / shown / 2)
    return width // 2 * 2, height // 2 * 2


class Fit:
    """Brings pictures to a size: one row or column too many is cut, as encoders do, anything else is scaled.

    Args:
        width, height: of the result.
        cropped: first cut the middle out that has the result's shape; otherwise all of the picture is scaled.
    """

    def __init__(self, width: int, height: int, cropped: bool = False) -> None:
        self.size = width, height
        self._cropped = cropped
        self._resize = Resizer(width, height)

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return uint8 (height, width, 3) from uint8 (h, w, 3)."""
        width, height = self.size
        h, w = rgb.shape[:2]
        if 0 <= w - width <= 1 and 0 <= h - height <= 1:
            return rgb[:height, :width]
        if self._cropped:
            keep_w, keep_h = min(w, round(h * width / height)), min(h, round(w * height / width))
            top, left = (h - keep_h) // 2, (w - keep_w) // 2
            rgb = rgb[top : top + keep_h, left : left + keep_w]
        return self._resize(rgb)


class Resizer:
    """Scales pictures with a Lanczos filter (with anti-aliasing when shrinking); keeps the filter between calls.

    Args:
        width, height: size of the result in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._scaler = VideoReformatter()

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return uint8 (height, width, 3) from uint8 (h, w, 3)."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        scaled = self._scaler.reformat(
            frame, width=self.width, height=self.height, interpolation=_LANCZOS, threads=1
        )
        return np.asarray(scaled.to_ndarray(), np.uint8)
