"""Head geometry of the embedded model: the reference follows the driving pose before the network sees it.

A head is treated as an ellipsoid whose half-height is 0.72 and whose half-width is 0.57 of half the picture at
scale 1. Six numbers place it: yaw, pitch, roll in radians, x and y of its centre in units of half the picture's
width, and scale. Two things follow from them: crops of eyes and mouth that stay put while the head moves, and a
warp that turns the reference picture to another pose. All functions work on batches of square pictures
(n, 3, s, s) and poses (n, 6).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

HALF_HEIGHT = 0.72
ASPECT = 0.79
"""Half-width of an average head over its half-height."""

EYES = ((-0.39, -0.16), (0.39, -0.16))
MOUTH = (0.0, 0.55)
"""Centres of eyes and mouth on the head's front, in units of its half-width and half-height."""

CROP_HEIGHT, CROP_WIDTH = 64, 48
EYE_ROWS = 28


def _columns(pose: torch.Tensor, dims: int = 2) -> tuple[torch.Tensor, ...]:
    return tuple(pose[:, i].view(-1, *(1,) * dims) for i in range(6))


def _picture_grid(size: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    line = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x[None], y[None]


def _to_head(x: torch.Tensor, y: torch.Tensor, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture coordinates to coordinates in which the head's outline is the unit circle."""
    _, _, roll, cx, cy, scale = _columns(pose)
    x, y = x - cx, y - cy
    height = HALF_HEIGHT * scale
    u = (x * roll.cos() + y * roll.sin()) / (height * ASPECT)
    v = (y * roll.cos() - x * roll.sin()) / height
    return u, v


def _to_picture(u: torch.Tensor, v: torch.Tensor, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    _, _, roll, cx, cy, scale = _columns(pose)
    height = HALF_HEIGHT * scale
    u, v = u * height * ASPECT, v * height
    return u * roll.cos() - v * roll.sin() + cx, u * roll.sin() + v * roll.cos() + cy


def _front(
    u: torch.Tensor, v: torch.Tensor, pose: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Head coordinates to the point of the head seen there, as X, Y, Z of the same head looking ahead."""
    yaw, pitch, *_ = _columns(pose)
    z = (1 - u * u - v * v).clamp(min=0).sqrt()
    y, z = v * pitch.cos() - z * pitch.sin(), v * pitch.sin() + z * pitch.cos()
    return u * yaw.cos() - z * yaw.sin(), y, u * yaw.sin() + z * yaw.cos()


def _on_outline(point: tuple[float, float], pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a point of the head's front appears in head coordinates once yaw and pitch turned it."""
    yaw, pitch, *_ = _columns(pose)
    X, Y = point
    Z = (1 - X * X - Y * Y) ** 0.5
    depth = Z * yaw.cos() - X * yaw.sin()
    return X * yaw.cos() + Z * yaw.sin(), Y * pitch.cos() + depth * pitch.sin()


def warp(picture: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Turn the head in a picture from one pose to another; background and shoulders stay.

    Args:
        picture: (n, 3, s, s).
        source: pose in the picture (n, 6).
        target: pose wanted (n, 6).

    Returns:
        (n, 3, s, s). What the source does not show is filled with what lies beside it.
    """
    x, y = _picture_grid(picture.shape[-1], picture)
    u, v = _to_head(x, y, target)
    X, Y, Z = _front(u, v, target)
    yaw, pitch, *_ = _columns(source)
    U, depth = X * yaw.cos() + Z * yaw.sin(), Z * yaw.cos() - X * yaw.sin()
    V = Y * pitch.cos() + depth * pitch.sin()
    # The sphere has no outside: blend to a plain similarity transform at its edge, and to no motion beyond.
    radius = (u * u + v * v).sqrt()
    edge = ((radius - 0.93) / 0.1).clamp(0, 1)
    U, V = U * (1 - edge) + u * edge, V * (1 - edge) + v * edge
    sx, sy = _to_picture(U, V, source)
    near = ((1.5 - radius) / 0.35).clamp(0, 1) * ((1.05 - v) / 0.15).clamp(0, 1)
    grid = torch.stack([x * (1 - near) + sx * near, y * (1 - near) + sy * near], -1)
    return F.grid_sample(picture, grid.to(picture.dtype), align_corners=False, padding_mode="border")


def feature_crops(picture: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """Cut eyes and mouth out of pictures (n, 3, s, s), stabilised by the pose (n, 6).

    Returns:
        (n, 3, 64, 48): 28 rows of the eye region above 36 rows of the mouth region. Both are magnified, because
        a pupil moves by a fraction of a pixel in the whole picture.
    """

    def grid(centre: float, half: float, width: float, rows: int) -> torch.Tensor:
        v = torch.linspace(centre - half, centre + half, rows, device=pose.device)
        u = torch.linspace(-width, width, CROP_WIDTH, device=pose.device)
        v, u = torch.meshgrid(v, u, indexing="ij")
        yaw, pitch, *_ = _columns(pose)
        x, y = _to_picture(u[None] + 0.95 * yaw.sin(), v[None] + 0.95 * pitch.sin(), pose)
        return torch.stack([x, y], -1)

    grids = [grid(-0.18, 0.34, 0.80, EYE_ROWS), grid(0.53, 0.36, 0.62, CROP_HEIGHT - EYE_ROWS)]
    return F.grid_sample(picture, torch.cat(grids, 1), align_corners=False, padding_mode="border")


def regions(pose: torch.Tensor, size: int) -> torch.Tensor:
    """Return soft maps (n, 2, size, size) in [0, 1] of where the mouth and where the eyes are."""
    x, y = _picture_grid(size, pose)
    u, v = _to_head(x, y, pose)
    maps = []
    for points, half_width, half_height in (((MOUTH,), 0.46, 0.28), (EYES, 0.26, 0.24)):
        total = torch.zeros_like(u)
        for point in points:
            pu, pv = _on_outline(point, pose)
            total = total + torch.exp(-(((u - pu) / half_width) ** 4) - ((v - pv) / half_height) ** 4)
        maps.append(total)
    return torch.stack(maps, 1)


def coordinates(pose: torch.Tensor, size: int) -> torch.Tensor:
    """Return maps (n, 2, size, size) in [-1, 1] of which point of the head is seen: X and Y, 0 beside the head."""
    u, v = _to_head(*_picture_grid(size, pose), pose)
    X, Y, _ = _front(u, v, pose)
    return torch.stack([X, Y], 1) * ((u * u + v * v) < 1)[:, None]


def region_weight(
    pose: torch.Tensor, size: int, mouth: float = 10.0, eyes: float | torch.Tensor = 10.0
) -> torch.Tensor:
    """Return loss weights (n, 1, size, size) with mean 1 that favour mouth and eyes.

    Most of a talking-head picture never changes, so an unweighted error is won by copying the reference.
    `eyes` is a number or one per picture (n,).
    """
    maps = regions(pose, size)
    eyes = torch.as_tensor(eyes, dtype=pose.dtype, device=pose.device).reshape(-1, 1, 1, 1)
    weight = 1 + (mouth - 1) * maps[:, :1] + (eyes - 1) * maps[:, 1:]
    return weight / weight.mean((1, 2, 3), keepdim=True)


def face_box(pose: torch.Tensor, size: int) -> torch.Tensor:
    """Return the box x0, y0, x1, y1 in pixels (n, 4) around the head, clipped to the picture."""
    return _box(pose, (0.0, 0.0), 1.0, 1.05, size, turn=False)


def mouth_box(pose: torch.Tensor, size: int) -> torch.Tensor:
    """Return the box x0, y0, x1, y1 in pixels (n, 4) around mouth, jaw and cheeks, clipped to the picture."""
    return _box(pose, (0.0, 0.66), 0.85, 0.46, size, turn=True)


def _box(
    pose: torch.Tensor,
    centre: tuple[float, float],
    half_width: float,
    half_height: float,
    size: int,
    turn: bool,
) -> torch.Tensor:
    u, v = _on_outline(centre, pose) if turn else (torch.zeros(len(pose), 1, 1, device=pose.device),) * 2
    x, y = _to_picture(u, v, pose)
    scale = HALF_HEIGHT * pose[:, 5]
    x, y = x.flatten(), y.flatten()
    w, h = half_width * ASPECT * scale, half_height * scale
    box = torch.stack([x - w, y - h, x + w, y + h], -1)
    return ((box + 1) * size / 2).clamp(0, size)
