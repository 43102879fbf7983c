"""Corruptions of known size, to see whether metrics notice them.

All take and return uint8 frames (T, H, W, 3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Frames = npt.NDArray[np.uint8]


def blurred(frames: Frames, sigma: float) -> Frames:
    """Blur by a Gaussian of the given standard deviation in pixels."""
    return np.round(gaussian_filter(frames.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")).astype(
        np.uint8
    )


def noisy(frames: Frames, sigma: float, seed: int = 0) -> Frames:
    """Add Gaussian noise of the given standard deviation (of 255)."""
    noise = np.random.default_rng(seed).standard_normal(frames.shape, dtype=np.float32)
    return np.clip(np.round(frames + sigma * noise), 0, 255).astype(np.uint8)


def held(frames: Frames, every: int) -> Frames:
    """Show every n-th frame n times."""
    return frames[np.arange(len(frames)) // every * every]


def frozen(frames: Frames, share: float) -> Frames:
    """Freeze the last part of every 16 frames."""
    at = np.arange(len(frames))
    return frames[at // 16 * 16 + np.minimum(at % 16, round(15 * (1 - share)))]


def shuffled(frames: Frames, share: float, seed: int = 0) -> Frames:
    """Replace a share of the frames by others of the same 16."""
    rng = np.random.default_rng(seed)
    at = np.arange(len(frames))
    other = np.minimum(at // 16 * 16 + rng.integers(16, size=len(at)), len(at) - 1)
    return frames[np.where(rng.random(len(at)) < share, other, at)]


def mixed(frames: Frames, other: Frames, share: float) -> Frames:
    """Let another clip shine through."""
    return np.round(frames * (1 - share) + other * share).astype(np.uint8)


def switched(frames: Frames, other: Frames) -> Frames:
    """Show another clip in the second half of every 16 frames."""
    swap = np.arange(len(frames)) % 16 >= 8
    return np.where(swap[:, None, None, None], other, frames)
