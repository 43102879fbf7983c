"""Geometry of the released pre-processing: working size, crops, and the face-location image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from actalker.errors import InputError
from actalker.masks import Box

Picture = npt.NDArray[np.uint8]


def working_size(width: int, height: int, short_side: int, multiple: int) -> tuple[int, int]:
    """Scale the shorter side to `short_side` and round both to multiples; returns (width, height)."""
    short = min(width, height)
    if short < 1:
        raise InputError(f"a picture of {width}x{height} pixels cannot be used")
    w, h = (max(1, round(side * short_side / short / multiple)) * multiple for side in (width, height))
    return w, h


def to_tensor(picture: Picture) -> Tensor:
    """uint8 RGB (H, W, 3) -> float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(255).unsqueeze(0)


def resized(picture: Picture, width: int, height: int, kernel: Image.Resampling) -> Picture:
    """The picture at another size, filtered over the area it shrinks."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), kernel))


def crop(picture: Picture, box: Box) -> Picture:
    """Cut (x1, y1, x2, y2), rounded to pixels; what lies outside the picture is black."""
    return np.asarray(Image.fromarray(picture).crop((round(box[0]), round(box[1]), round(box[2]), round(box[3]))))


def head_crop(picture: Picture, face: Box, size: int) -> Tensor:
    """The face box as the identity encoder sees it: (1, 3, size, size) in [-1, 1], not aligned."""
    return to_tensor(resized(crop(picture, face), size, size, Image.Resampling.BILINEAR)) * 2 - 1


def expression_box(features: Box) -> Box:
    """Square around the brow-to-mouth box at integer centre and half side."""
    x1, y1, x2, y2 = features
    cx, cy, half = int((x1 + x2) / 2), int((y1 + y2) / 2), int(max(x2 - x1, y2 - y1)) // 2
    return (cx - half, cy - half, cx + half, cy + half)


def expression_crop(picture: Picture, features: Box, size: int) -> Tensor:
    """The square around brows and mouth, (1, 3, size, size) in [0, 1]."""
    return to_tensor(resized(crop(picture, expression_box(features)), size, size, Image.Resampling.BILINEAR))


def pose_box(face: Box, width: int, height: int) -> Box:
    """Fixed square for the head-pose encoder: the face box grown by its size on each side, clipped.

    The square's side is the shorter side of the clipped box; along the longer one it is centred on the face
    as far as the box allows.
    """
    x1, y1, x2, y2 = face
    w, h = x2 - x1, y2 - y1
    left, top = max(0.0, x1 - w), max(0.0, y1 - h)
    right, bottom = min(float(width), x2 + w), min(float(height), y2 + h)
    side = min(right - left, bottom - top)
    cx = min(max((x1 + x2) / 2, left + side / 2), right - side / 2)
    cy = min(max((y1 + y2) / 2, top + side / 2), bottom - side / 2)
    return (cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2)


def pose_crop(picture: Picture, box: Box, size: int, intermediate: int) -> Tensor:
    """The pose square, (1, 3, size, size) in [-1, 1], resampled through the working size as released."""
    large = resized(crop(picture, box), intermediate, intermediate, Image.Resampling.BICUBIC)
    return to_tensor(resized(large, size, size, Image.Resampling.BILINEAR)) * 2 - 1


def location_image(face: Box, source: tuple[int, int], target: tuple[int, int], area: float) -> Tensor:
    """White rectangle on black where the face is, (1, 1, height, width) in [0, 1], with soft edges.

    Args:
        face: face box in the source picture.
        source: (width, height) of the source picture, at which the rectangle is drawn.
        target: (width, height) of the result.
        area: factor on the box's sides about its centre.
    """
    width, height = source
    x1, y1, x2, y2 = face
    cx, cy = (x1 + x2) // 2, (y1 + y2) // 2
    half_w, half_h = ((x2 - x1) * area) // 2, ((y2 - y1) * area) // 2
    canvas = np.zeros((height, width), np.uint8)
    rows = slice(int(max(0, cy - half_h)), int(min(height, cy + half_h)))
    columns = slice(int(max(0, cx - half_w)), int(min(width, cx + half_w)))
    canvas[rows, columns] = 255
    image = Image.fromarray(canvas).resize(target, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).float().div(255)[None, None]


def scale_box(box: Box, source: tuple[int, int], target: tuple[int, int]) -> Box:
    """A box of a (width, height) picture in the coordinates of a resized one."""
    sx, sy = target[0] / source[0], target[1] / source[1]
    return (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)
