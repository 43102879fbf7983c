"""Geometry and pixel metrics on frames that lie on a GPU, equal to what is done with arrays on a CPU.

Scaling and cropping are integer arithmetic and come out bit by bit the same; SSIM is float64 in another order of
summation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.metrics import face_tracks
from bench.metrics.geometry import taps

Array = npt.NDArray[Any]


def quarter(frames: Tensor) -> Tensor:
    """Scale uint8 frames (n, h, w, 3) by 0.25, see `bench.metrics.networks.s3fd.quarter`."""
    height, width = frames.shape[1:3]
    rows, columns = (torch.arange(round(side * 0.25), device=frames.device) * 4 + 1 for side in (height, width))
    lines = frames[:, rows].int() + frames[:, (rows + 1).clamp(max=height - 1)].int()
    total = lines[:, :, columns] + lines[:, :, (columns + 1).clamp(max=width - 1)]
    return ((total + 2) >> 2).to(torch.uint8)


def change(pictures: Tensor, before: Tensor | None) -> Tensor:
    """Return the change of each picture from the one before it (n,), see `bench.metrics.face_tracks.change`."""
    joined = torch.cat([pictures[:1] if before is None else before[None], pictures])
    colours = _hsv(joined).flatten(1)
    return (colours[1:] - colours[:-1]).abs().double().mean(1).float()


def _hsv(rgb: Tensor) -> Tensor:
    red, green, blue = rgb.float().unbind(-1)
    value = rgb.float().amax(-1)
    spread = value - rgb.float().amin(-1)
    safe = torch.where(spread == 0, 1, spread)
    other = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(value == red, (green - blue) / safe, other)
    saturation = 255 * spread / torch.where(value == 0, 1, value)
    return torch.stack([(hue * 30).round() % 180, saturation.round(), value], -1).to(torch.uint8).short()


def crops(frames: Tensor, path: Array) -> Tensor:
    """Cut one smoothed face box out of each frame, see `bench.metrics.face_tracks.crop`.

    Args:
        frames: uint8 (n, h, w, 3).
        path: (n, 3), half side, centre x and centre y.

    Returns:
        uint8 (n, 224, 224, 3).
    """
    windows = [face_tracks.crop_window(*place) for place in path]
    down = [_axis(top, bottom) for top, bottom, _, _ in windows]
    across = [_axis(left, right) for _, _, left, right in windows]
    return _sample(frames, down, across)


def resized(frames: Tensor, side: int = face_tracks.SIDE) -> Tensor:
    """Scale uint8 frames (n, h, w, 3) to squares, see `bench.metrics.geometry.resize`."""
    height, width = frames.shape[1:3]
    return _sample(frames, [_axis(0, height, side)] * len(frames), [_axis(0, width, side)] * len(frames))


def _axis(start: int, end: int, side: int = face_tracks.SIDE) -> Array:
    """Return both source indices and both fixed-point weights of each output pixel, int32 (4, side)."""
    first, second, weights = taps(end - start, side)
    return np.stack([first + start, second + start, *weights]).astype(np.int32)


def _sample(frames: Tensor, down: Sequence[Array], across: Sequence[Array]) -> Tensor:
    device = frames.device
    top, bottom, upper, lower = (t[:, :, None] for t in torch.from_numpy(np.stack(down, 1)).to(device))
    left, right, near, far = (t[:, None, :] for t in torch.from_numpy(np.stack(across, 1)).to(device))

    def row(y: Tensor) -> Tensor:
        mixed = _pixels(frames, y, left) * near[..., None] + _pixels(frames, y, right) * far[..., None]
        return mixed >> 4

    total = ((row(top) * upper[..., None]) >> 16) + ((row(bottom) * lower[..., None]) >> 16)
    return ((total + 2) >> 2).to(torch.uint8)


def _pixels(frames: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return int32 pixels at rows y (n, side, 1) and columns x (n, 1, side), grey beyond the frame."""
    n, height, width, _ = frames.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    number = torch.arange(n, device=frames.device)[:, None, None]
    found = frames[number, y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()].int()
    return torch.where(inside[..., None], found, face_tracks.GREY)


def psnr(generated: Tensor, reference: Tensor) -> Tensor:
    """Return float64 dB per frame, see `bench.metrics.pixels.psnr`."""
    squares = (generated.int() - reference.int()).square().flatten(1)
    error = squares.sum(1).double() / squares.shape[1]
    return 10 * torch.log10(255**2 / error)


def ssim(generated: Tensor, reference: Tensor, window: Array, c1: float, c2: float) -> Tensor:
    """Return float64 similarity per frame, see `bench.metrics.pixels.ssim`.

    Args:
        generated, reference: uint8 (n, h, w, 3).
        window: the Gaussian along one axis.
        c1, c2: what keeps the fraction finite.
    """
    kernel = torch.from_numpy(window).to(generated.device)
    a, b = (x.permute(0, 3, 1, 2).double() for x in (generated, reference))
    s, d = a + b, a - b
    moments = torch.stack([s, d, s * s, d * d]).flatten(0, 2)[:, None]
    smooth = F.conv2d(F.conv2d(moments, kernel[None, None, :, None]), kernel[None, None, None, :])
    s, d, ss, dd = smooth.unflatten(0, (4, *a.shape[:2]))[:, :, :, 0]
    s, d = s * s, d * d
    ss, dd = ss - s, dd - d
    s, ss = s + 2 * c1, ss + 2 * c2
    return ((s - d) * (ss - dd) / ((s + d) * (ss + dd))).flatten(1).mean(1)
