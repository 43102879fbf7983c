"""CPBD: the share of edges at which no blur is seen, from the widths of edges.

Narvekar & Karam 2011, "A no-reference image blur metric based on the cumulative probability of blur detection";
numbers follow python-cpbd (commit 11e2553), whose edge detectors and constants are part of the protocol.
Use of the method requires naming it so: Image, Video and Usability Lab, Arizona State University.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BLOCK = 64
EDGE_SHARE = 0.002
BETA = 3.6
LONGEST = 101  # steps of a walk along a row
NARROW, WIDE, CONTRAST = 3.0, 5.0, 50  # just noticeable widths in pixels, above and up to this contrast
CLEAR = 63  # per cent; edges up to this probability of a visible blur count as sharp

PARAMS = {
    "block": BLOCK,
    "edge_share": EDGE_SHARE,
    "beta": BETA,
    "widths": [NARROW, WIDE, CONTRAST],
    "canny": "scikit-image defaults on 0..255",
    "sobel": "squared strength against an unsquared threshold, as in Octave",
}

_TAN = math.tan(math.pi / 8)


def grey(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return BT.601 luma (..., height, width) of RGB (..., height, width, 3), rounded as PIL's mode L does."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    total = rgb[..., 0] * weights[0] + rgb[..., 1] * weights[1] + rgb[..., 2] * weights[2]
    return ((total + 0x8000) >> 16).astype(np.uint8)


def cpbd(picture: Array) -> float:
    """Return CPBD in [0, 1] of a grey picture (height, width), 0 to 255; NaN without an edge in any full block."""
    from skimage.feature import canny

    return pooled(picture, canny(picture), edge_widths(picture, edges(picture)))


def edges(picture: Array) -> npt.NDArray[np.bool_]:
    """Return where the horizontal Sobel response is strong and the largest along its row or column."""
    from scipy.ndimage import correlate1d

    smooth = correlate1d(picture, [0.25, 0.5, 0.25], axis=0, mode="reflect")
    strength = (correlate1d(smooth, [0.5, 0.0, -0.5], axis=1, mode="reflect")) ** 2
    strength[strength <= 2 * math.sqrt(float(strength.mean()))] = 0
    padded = np.pad(strength, 1)
    middle = padded[1:-1, 1:-1]
    along_x = (middle > padded[1:-1, :-2]) & (middle > padded[1:-1, 2:])
    along_y = (middle > padded[:-2, 1:-1]) & (middle > padded[2:, 1:-1])
    return np.asarray(along_x | along_y)


def edge_widths(picture: Array, found: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the width in pixels of every vertical edge, 0 elsewhere: how far the intensity goes on rising to the
    one and falling to the other side.

    Args:
        picture: (height, width).
        found: bool of the same shape, see `edges`.
    """
    down, across = np.gradient(picture)
    steep = np.abs(down) > _TAN * np.abs(across)
    rising = (across > 0) & ~steep | (across == 0)  # where the gradient is upright its angle counts as 0
    falling = (across < 0) & ~steep
    widths = np.zeros(picture.shape, np.int64)
    step = np.diff(picture, axis=1)
    inside = found.copy()
    inside[[0, -1]] = False
    inside[:, [0, -1]] = False
    for chosen, direction in ((rising, step > 0), (falling, step < 0)):
        before = np.pad(_run_before(direction), ((0, 0), (1, 0)))  # steps that lead to a pixel
        after = np.pad(_run_before(direction[:, ::-1])[:, ::-1], ((0, 0), (0, 1)))  # steps that leave it
        left = np.minimum(before[:, :-2], LONGEST - 1) + 1
        right = np.minimum(after[:, 2:], LONGEST - 1) + 1
        at = (inside & chosen)[:, 1:-1]
        widths[:, 1:-1][at] = (left + right)[at]
    return widths


def _run_before(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return at every place the length of the run of True along the row that ends there."""
    at = np.arange(1, flags.shape[1] + 1)
    last = np.maximum.accumulate(np.where(flags, 0, at), axis=1)
    return np.asarray(at - last)


def pooled(picture: Array, canny_edges: npt.NDArray[np.bool_], widths: npt.NDArray[Any]) -> float:
    """Return the share of edges in edge blocks whose blur is not noticed; NaN without any."""
    rows, columns = picture.shape[0] // BLOCK, picture.shape[1] // BLOCK
    sharp = total = 0
    for row in range(rows):
        for column in range(columns):
            block = np.s_[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
            if np.count_nonzero(canny_edges[block]) <= BLOCK * BLOCK * EDGE_SHARE:
                continue
            found = widths[block][widths[block] != 0]
            noticeable = WIDE if int(np.ptp(picture[block])) <= CONTRAST else NARROW
            seen = 1 - np.exp(-((found / noticeable) ** BETA))
            sharp += int((np.rint(100 * seen) <= CLEAR).sum())
            total += len(found)
    return sharp / total if total else math.nan
