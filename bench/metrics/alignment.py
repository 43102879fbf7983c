"""Alignment of two sequences of equal length inside a band: the best path, and soft-DTW.

Frame i may meet frame j only while |i - j| <= band (Sakoe and Chiba 1978). Soft-DTW (Cuturi and Blondel 2017)
takes the soft minimum over all paths, -gamma log sum exp(-cost / gamma). Of a sequence with itself it is not zero
but -gamma log of the number of paths when all costs are equal, so what is printed is its divergence (Blondel,
Mensch and Vert 2021), which is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def costs(first: Array, second: Array, band: int) -> Array:
    """Return squared distances of frames (n, d) in a band: entry (i, k) is that of i and j = i + k - band.

    Infinite where there is no such j; shape (n, 2 band + 1).
    """
    n = len(first)
    found = np.full((n, 2 * band + 1), np.inf)
    for k in range(2 * band + 1):
        shift = k - band
        rows = slice(max(0, -shift), min(n, n - shift))
        other = second[rows.start + shift : rows.stop + shift] if rows.stop > rows.start else second[:0]
        if len(other):
            found[rows, k] = ((first[rows] - other) ** 2).sum(axis=1)
    return found


def _cells(n: int, band: int) -> Iterator[tuple[int, int, int]]:
    for i in range(n):
        for k in range(max(0, band - i), min(2 * band, n - 1 - i + band) + 1):
            yield i, k, i + k - band


def soft_dtw(cost: Array, gamma: float) -> float:
    """Return the soft minimum of the cost of all paths from corner to corner.

    Args:
        cost: see `costs`.
        gamma: > 0, in units of the cost.
    """
    n, width = cost.shape
    band = width // 2
    table = np.full((n + 1, width + 2), np.inf)  # row i + 1, column k + 1: paths that end in (i, i + k - band)
    for i, k, j in _cells(n, band):
        if i == j == 0:
            table[1, k + 1] = cost[0, k]
            continue
        # From (i-1, j-1), (i-1, j) and (i, j-1): in a band these are the same k, the next, and the one before.
        before = (table[i, k + 1], table[i, k + 2], table[i + 1, k])
        low = min(before)
        soft = low - gamma * math.log(sum(math.exp((low - b) / gamma) for b in before))
        table[i + 1, k + 1] = cost[i, k] + soft
    return float(table[n, band + 1])


def divergence(first: Array, second: Array, band: int, gamma: float) -> float:
    """Return the soft-DTW divergence of sequences (n, d): 0 for equal ones, otherwise positive."""
    own, other, cross = (costs(a, b, band) for a, b in ((first, first), (second, second), (first, second)))
    return soft_dtw(cross, gamma) - (soft_dtw(own, gamma) + soft_dtw(other, gamma)) / 2


def path(cost: Array) -> npt.NDArray[np.intp]:
    """Return the cheapest path as pairs i, j (p, 2), straight steps first where costs are equal."""
    n, width = cost.shape
    band = width // 2
    table = np.full((n + 1, width + 2), np.inf)
    came = np.zeros((n, width), np.int8)
    for i, k, j in _cells(n, band):
        before = (0.0,) if i == j == 0 else (table[i, k + 1], table[i, k + 2], table[i + 1, k])
        came[i, k] = before.index(min(before))
        table[i + 1, k + 1] = cost[i, k] + min(before)
    i, j = n - 1, n - 1
    found = [(i, j)]
    while i or j:
        step = came[i, j - i + band]
        i, j = (i - 1, j - 1) if step == 0 else (i - 1, j) if step == 1 else (i, j - 1)
        found.append((i, j))
    return np.array(found[::-1])
