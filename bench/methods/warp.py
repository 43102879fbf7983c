"""Moving a still picture by landmarks: a piecewise affine forward warp, inverted without ever tearing.

Displacements are given at landmarks of the reference picture and interpolated linearly over a Delaunay
triangulation of it, which is fixed for a clip. The picture is read backwards: for an output pixel y the source
x solves x + u(x) = y, by fixed-point iteration. Where u folds, the iteration still ends somewhere near, so
there are no holes and no tears.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.methods.face_shape import FaceShape, Points, as_complex, as_points

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 8
_FINE, _COARSE = 200, 48  # nodes along the shorter side of the grids the field is solved on, at least
_STEPS, _REFINEMENTS = 16, 3  # on the coarsest and on every finer grid
_DAMPING = 0.7  # share of a step that is taken: below 1 so that folds settle

# Head radii (1 = chin and crown) at which surrounding points are placed, and the share of the head's motion
# they follow: hair and ears fully, the background not at all, and the shoulders hardly.
_RINGS = ((1.3, 1.0), (1.9, 0.7), (2.8, 0.15))
_SHOULDERS = 0.3
_RING_POINTS = 16


class FaceWarp:
    """Warps one reference picture.

    Args:
        picture: uint8 (height, width, 3), RGB.
        shape: roles of the landmarks.
        landmarks: (K, 2) pixels of the picture.
    """

    def __init__(self, picture: npt.NDArray[np.uint8], shape: FaceShape, landmarks: Points) -> None:
        import torch

        self._height, self._width = picture.shape[:2]
        self._shape = shape
        self._surround, self._follow = _surround(shape, landmarks, self._width, self._height)
        stride = max(1, min(self._height, self._width) // _FINE)
        self._grid = (-(-self._height // stride), -(-self._width // stride))
        y = np.linspace(0, self._height - 1, self._grid[0])
        x = np.linspace(0, self._width - 1, self._grid[1])
        nodes = np.concatenate([landmarks[list(shape.moved)], self._surround])
        self._weights = _interpolation(nodes, x, y)
        self._picture = torch.from_numpy(picture.astype(np.float32)).movedim(-1, 0)[None]

    def frames(
        self,
        displacements: Points,
        head: tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]] | None = None,
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield one warped picture per displacement.

        Args:
            displacements: (n, K, 2), pixels each landmark moves by.
            head: similarity (a, b) of the head per frame, each (n,), which hair and ears follow; None = still.
        """
        import torch

        moved = displacements[:, list(self._shape.moved)]
        around = np.zeros((len(moved), len(self._surround), 2))
        if head is not None:
            z = as_complex(self._surround)
            around = as_points((head[0][:, None] - 1) * z + head[1][:, None]) * self._follow[:, None]
        nodes = np.concatenate([moved, around], axis=1)
        half_picture = np.array([2 / max(1, self._width - 1), 2 / max(1, self._height - 1)])
        with torch.inference_mode():
            for at in range(0, len(nodes), _BATCH):
                batch = nodes[at : at + _BATCH]
                flat = batch.transpose(1, 0, 2).reshape(batch.shape[1], -1)
                field = (self._weights @ flat).reshape(*self._grid, len(batch), 2) * half_picture
                forward = torch.from_numpy(field.astype(np.float32)).permute(2, 3, 0, 1).contiguous()
                yield from self._read(self._inverted(forward))

    def _inverted(self, forward: Tensor) -> Tensor:
        """Solve x = y - u(x) on the grid; (n, 2, rows, columns), from y to x in units of the half-picture."""
        from torch.nn.functional import interpolate

        sizes = [(forward.shape[2], forward.shape[3])]
        while min(sizes[-1]) > 2 * _COARSE:
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        backward = -interpolate(forward, sizes[-1], mode="bilinear", align_corners=True)
        for size, steps in zip(reversed(sizes), (_STEPS, *[_REFINEMENTS] * len(sizes)), strict=False):
            if backward.shape[2:] != size:
                backward = interpolate(backward, size, mode="bilinear", align_corners=True)
            field = forward
            if size != forward.shape[2:]:
                field = interpolate(forward, size, mode="bilinear", align_corners=True)
            grid = _unit_grid(*size)
            for _ in range(steps):
                backward = backward.lerp(-_sampled(field, grid + backward), _DAMPING)
        return backward

    def _read(self, backward: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """Read the picture where the solved field points."""
        import torch
        from torch.nn.functional import interpolate

        size = (self._height, self._width)
        grid = _unit_grid(*size)
        for field in backward.split(1):
            if field.shape[2:] != size:
                field = interpolate(field, size, mode="bilinear", align_corners=True)
            pixels = _sampled(self._picture, grid + field)
            yield pixels[0].add_(0.5).clamp_(0, 255).to(torch.uint8).movedim(0, -1).contiguous().numpy()


@cache
def _unit_grid(rows: int, columns: int) -> Tensor:
    """Coordinates (1, 2, rows, columns), x then y, -1 at the first and 1 at the last pixel centre."""
    import torch

    y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
    return torch.stack([x, y])[None]


def _sampled(values: Tensor, where: Tensor) -> Tensor:
    from torch.nn.functional import grid_sample

    return grid_sample(values, where.movedim(1, -1), mode="bilinear", padding_mode="border", align_corners=True)


def _surround(
    shape: FaceShape, landmarks: Points, width: int, height: int
) -> tuple[Points, npt.NDArray[np.float64]]:
    """Return points around the head and a frame far outside the picture, with the share of motion they follow."""
    eyes = landmarks[list(shape.eyes)].mean(axis=0)
    down = landmarks[shape.chin] - eyes
    across = np.array([down[1], -down[0]]) * 0.8
    angles = np.arange(_RING_POINTS) * 2 * np.pi / _RING_POINTS
    circle = np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * down
    points = [eyes + radius * circle for radius, _ in _RINGS]
    above = 1 - (1 - _SHOULDERS) * np.clip(np.sin(angles), 0, 1)
    follow = [share * above for _, share in _RINGS]
    reach = 4 * float(np.hypot(*down)) + max(width, height)
    centre = np.array([width / 2, height / 2])
    points.append(
        centre + reach * np.array([(-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0)])
    )
    follow.append(np.zeros(8))
    return np.concatenate(points), np.concatenate(follow)


def _interpolation(nodes: Points, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Any:
    """Return the sparse matrix (len(y) * len(x), nodes) of linear interpolation over Delaunay triangles."""
    from scipy.sparse import csr_array
    from scipy.spatial import Delaunay

    mesh = Delaunay(nodes)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    simplex = mesh.find_simplex(grid)
    affine = mesh.transform[simplex]
    partial = np.einsum("nij,nj->ni", affine[:, :2], grid - affine[:, 2])
    weights = np.concatenate([partial, 1 - partial.sum(axis=1, keepdims=True)], axis=1)
    rows = np.repeat(np.arange(len(grid)), 3)
    return csr_array((weights.ravel(), (rows, mesh.simplices[simplex].ravel())), shape=(len(grid), len(nodes)))
