"""Changing the size of pictures."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

_LANCZOS = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


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
