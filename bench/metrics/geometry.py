"""Boxes and picture geometry of the face pipelines, with OpenCV's rounding where the references use it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # (height, width, 3)
Array = npt.NDArray[Any]

_BITS = 11  # fixed-point bits of OpenCV's interpolation weights


def suppress(boxes: Array, scores: Array, overlap: float, pixel: float = 0.0) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: (n, 4) corners x1, y1, x2, y2.
        scores: (n,).
        overlap: a box is dropped when its IoU with a better kept one is larger.
        pixel: added to every side length (1 counts corner pixels in, as SCRFD does).

    Returns:
        Indices of the kept boxes, best first.
    """
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0] + pixel) * (boxes[:, 3] - boxes[:, 1] + pixel)
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.prod(np.clip(high - low + pixel, 0, None), axis=1)
        order = order[shared / (area[best] + area[order] - shared) <= overlap]
    return kept


def resize(picture: Picture, height: int, width: int) -> Picture:
    """Scale a picture bilinearly without antialiasing, equal to OpenCV's default resize of 8-bit pictures."""
    rows, columns, _ = picture.shape
    if (rows, columns) == (2 * height, 2 * width):  # OpenCV averages exact halves
        cells = picture.reshape(height, 2, width, 2, 3).astype(np.uint16)
        return ((cells.sum((1, 3)) + 2) >> 2).astype(np.uint8)
    top, bottom, down = taps(rows, height)
    left, right, across = taps(columns, width)
    if rows > 2 * height:  # most rows are not looked at
        picture = picture[np.concatenate([top, bottom])]
        top = np.arange(height)
        bottom = top + height
    mixed = picture.take(left, 1).reshape(len(picture), -1) * across[0].repeat(3)
    mixed += picture.take(right, 1).reshape(len(picture), -1) * across[1].repeat(3)
    mixed >>= 4
    upper, lower = mixed.take(top, 0), mixed.take(bottom, 0)
    upper *= down[0][:, None]
    lower *= down[1][:, None]
    total = (upper >> 16) + (lower >> 16)
    return ((total + 2) >> 2).astype(np.uint8).reshape(height, width, 3)


@lru_cache(maxsize=256)
def taps(source: int, target: int) -> tuple[Array, Array, Array]:
    """Return the two source indices per output pixel and their fixed-point weights (2, target)."""
    position = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    fraction = position - first.astype(np.float32)
    outside = (first < 0) | (first >= source - 1)
    fraction[outside] = 0
    first = np.clip(first, 0, source - 1)
    second = np.minimum(first + 1, source - 1)
    weights = np.rint(np.stack([1 - fraction, fraction]) * (1 << _BITS)).astype(np.int32)
    return first, second, weights


def window(picture: Picture, top: int, bottom: int, left: int, right: int, fill: int) -> Picture:
    """Cut rows top..bottom and columns left..right, with `fill` where the window leaves the picture."""
    height, width, _ = picture.shape
    inside = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        return inside
    out = np.full((bottom - top, right - left, 3), fill, np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return out


def similarity(points: Array, template: Array) -> Array:
    """Return the least-squares rotation, scale and shift that moves `points` onto `template`.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".

    Args:
        points, template: (n, 2).

    Returns:
        (2, 3) matrix acting on column vectors (x, y, 1).
    """
    source, target = points - points.mean(0), template - template.mean(0)
    u, singular, v = np.linalg.svd(target.T @ source)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = (u * sign) @ v
    scaled = rotation * (singular @ sign) / (source**2).sum()
    return np.column_stack([scaled, template.mean(0) - scaled @ points.mean(0)])


def warp(picture: Picture, matrix: Array, side: int) -> Picture:
    """Map a picture by an affine matrix (2, 3) into a square, bilinear, black outside."""
    linear = np.linalg.inv(matrix[:, :2])
    y, x = np.mgrid[:side, :side]
    at = linear @ (np.stack([x.ravel(), y.ravel()]) - matrix[:, 2:])
    base = np.floor(at).astype(np.int64)
    fraction = at - base
    total = np.zeros((side * side, 3))
    height, width, _ = picture.shape
    for step_y in (0, 1):
        for step_x in (0, 1):
            column, row = base[0] + step_x, base[1] + step_y
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = np.abs(1 - step_x - fraction[0]) * np.abs(1 - step_y - fraction[1]) * inside
            total += picture[row.clip(0, height - 1), column.clip(0, width - 1)] * weight[:, None]
    return np.rint(total).astype(np.uint8).reshape(side, side, 3)
