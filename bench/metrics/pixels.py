"""PSNR and SSIM between a generated clip and its ground truth, frame by frame.

Both are computed from uint8 RGB by way of integers or float64: subtracting uint8 arrays directly wraps around
and reports 28 dB for noise that deserves 16.5 dB, a mistake found in released evaluation code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, resident
from bench.metrics.pairing import paired_chunks, summarize

Frames = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

CODE = ("bench.metrics.pixels", "bench.metrics.pairing", "bench.metrics.networks.resident")
PSNR_CAP = 100.0  # dB
WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2
_PEAK = 40  # float64 planes of a frame that SSIM holds at a time
_TILE = 32  # output pixels per banded product; 16 to 64 measure alike, larger waste zeros


def psnr(generated: Frames, reference: Frames) -> Array:
    """Return the peak signal-to-noise ratio of each frame in dB, infinite for identical frames.

    Args:
        generated, reference: uint8, shape (n, height, width, 3).
    """
    values = np.empty(len(generated))
    for i, (ours, theirs) in enumerate(zip(generated, reference, strict=True)):
        difference = np.subtract(ours, theirs, dtype=np.int32).ravel()
        error = float(np.square(difference, out=difference).sum(dtype=np.int64)) / difference.size
        values[i] = 10 * np.log10(255**2 / error) if error else np.inf
    return values


def ssim(generated: Frames, reference: Frames) -> Array:
    """Return the structural similarity of each frame, in [-1, 1].

    11x11 Gaussian window with sigma 1.5 inside the frame (no padding), population covariance, data range 255,
    channels averaged.

    Args:
        generated, reference: uint8, shape (n, height, width, 3), height and width >= 11.

    Raises:
        ValueError: a frame is smaller than the window.
    """
    if min(generated.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW}x{WINDOW}, got {generated.shape[1:3]}")
    return np.array([_ssim_frame(*pair) for pair in zip(generated, reference, strict=True)])


def _ssim_frame(ours: Frames, theirs: Frames) -> float:
    """Return the SSIM of two (height, width, 3) frames.

    With s = a + b and d = a - b all five local moments follow from four: those of s, d, s^2 and d^2.
    Filtering is a product with a banded matrix, one small tile at a time, which is several times faster
    than a convolution routine in float64 and stays in cache.
    """
    first, second = (frame.transpose(2, 0, 1).astype(np.float64, order="C") for frame in (ours, theirs))
    rows, columns = first.shape[1] - WINDOW + 1, first.shape[2] - WINDOW + 1
    total = 0.0
    for a, b in zip(first, second, strict=True):
        for top in range(0, rows, _TILE):
            height = min(_TILE, rows - top)
            strip = slice(top, top + height + WINDOW - 1)
            moments = np.empty((4, height + WINDOW - 1, a.shape[1]))
            np.add(a[strip], b[strip], out=moments[0])
            np.subtract(a[strip], b[strip], out=moments[1])
            np.square(moments[:2], out=moments[2:])
            total += _ssim_sum(*_smooth(moments, height, columns))
    return total / (3 * rows * columns)


def _smooth(moments: Array, height: int, columns: int) -> Array:
    """Filter (4, height + 10, columns + 10) down and across to (4, height, columns)."""
    down = np.matmul(_band(height).T, moments).reshape(4 * height, -1)
    across = np.empty((4 * height, columns))
    for left in range(0, columns, _TILE):
        width = min(_TILE, columns - left)
        np.matmul(down[:, left : left + width + WINDOW - 1], _band(width), out=across[:, left : left + width])
    return across.reshape(4, height, columns)


def _ssim_sum(s: Array, d: Array, ss: Array, dd: Array) -> float:
    """Return the sum of the SSIM map from the filtered moments, which are overwritten."""
    np.square(s, out=s)
    np.square(d, out=d)
    ss -= s
    dd -= d
    s += 2 * C1
    ss += 2 * C2
    numerator = s - d
    numerator *= ss - dd
    s += d
    ss += dd
    s *= ss
    numerator /= s
    return float(numerator.sum())


@cache
def _band(outputs: int) -> Array:
    """Return the matrix (outputs + 10, outputs) whose product with a row filters it."""
    kernel = gaussian()
    matrix = np.zeros((outputs + WINDOW - 1, outputs))
    for i in range(outputs):
        matrix[i : i + WINDOW, i] = kernel
    return matrix


def gaussian() -> Array:
    """Return the window along one axis, (11,) with sum 1."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SIGMA**2))
    return kernel / kernel.sum()


def _on_device(name: str, clip: ClipView, reference: ClipView | None) -> Array | None:
    """Return a pixel metric of each frame computed on the GPU, or None when the frames are not there."""
    if reference is None or resident(clip) is None or resident(reference) is None:
        return None
    import torch

    from bench.metrics.networks import loading
    from bench.metrics.networks import resident as device

    size = loading.batch_size(1, _PEAK * clip.width * clip.height * 8 / 2**20)
    compute: Any = {"psnr": device.psnr, "ssim": partial(device.ssim, window=gaussian(), c1=C1, c2=C2)}[name]
    return torch.cat([compute(*pair) for pair in paired_chunks(clip, reference, size)]).cpu().numpy()


class PSNR:
    """Mean over frames of the PSNR, identical frames counted at the cap."""

    code_modules = CODE

    spec = MetricSpec(
        id="psnr/rgb_float64",
        version="1",
        kind="clip",
        columns=(
            Column("psnr", "PSNR", "higher", "dB", digits=2, identical=PSNR_CAP),
            Column("n_identical", "identical frames", "none", "frames", digits=0),
        ),
        needs=("reference",),
        params={"range": 255, "colour": "rgb", "average": "frames", "cap_db": PSNR_CAP},
        summary="Peak signal-to-noise ratio against the ground truth, full frame, mean over frames.",
        source="10 log10(255^2 / MSE)",
        device="gpu",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `psnr` and `n_identical`."""
        values = _on_device("psnr", clip, reference)
        if values is None:
            values = np.concatenate([psnr(*pair) for pair in paired_chunks(clip, reference)])
        return {
            "psnr": float(np.minimum(values, PSNR_CAP).mean()),
            "n_identical": float(np.isinf(values).sum()),
            **summarize(values, clip, reference),
        }


class SSIM:
    """Mean over frames of the structural similarity."""

    code_modules = CODE

    spec = MetricSpec(
        id="ssim/gaussian11",
        version="1",
        kind="clip",
        columns=(Column("ssim", "SSIM", "higher", digits=4),),
        needs=("reference",),
        params={
            "range": 255,
            "colour": "rgb",
            "window": WINDOW,
            "sigma": SIGMA,
            "border": "valid",
            "k": [0.01, 0.03],
        },
        summary="Structural similarity against the ground truth, full frame, mean over channels and frames.",
        source="Wang et al., Image quality assessment: from error visibility to structural similarity, 2004",
        device="gpu",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `ssim`."""
        if min(clip.width, clip.height) < WINDOW:
            raise Unscored(Reason.SHAPE_MISMATCH, f"{clip.width}x{clip.height} is smaller than the 11x11 window")
        values = _on_device("ssim", clip, reference)
        if values is None:
            values = np.concatenate([ssim(*pair) for pair in paired_chunks(clip, reference)])
        return {"ssim": float(values.mean()), **summarize(values, clip, reference)}


METRICS: tuple[type, ...] = (PSNR, SSIM)
