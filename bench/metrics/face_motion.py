"""How a face moves over a clip, in units that depend neither on the picture's size nor on where the head is.

Everything the motion metrics read: the unit is E, the distance of the outer eye corners, so a clip and its copy at
twice the size have the same numbers. Rates are mean steps per second, not root mean squares: the mean of steps is
the length of the path over its time, which dropping and repeating frames on the way to 25 fps does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, Domain, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView
from bench.media.faces import BROW_LEFT, BROW_RIGHT, EYE_LEFT, EYE_RIGHT, MOUTH
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, inter_ocular

Array = npt.NDArray[np.float64]

INNER_UPPER = (191, 80, 81, 82, 13, 312, 311, 310)
INNER_LOWER = (95, 88, 178, 87, 14, 317, 402, 318)
NOSE_BRIDGE = 168
MIN_FRAMES = 25
FPS = 25.0


@dataclass(frozen=True, slots=True)
class FaceMotion:
    """A face over n frames; rows without a face are NaN and `valid` is False there.

    Attributes:
        valid: bool (n,).
        opening: mean distance of inner lip pairs (n,), in E.
        aspect: height of the inner mouth over its width (n,).
        lips: lip points (n, p, 2 or 3), in E; only distances between them are read.
        brows: distance of brow and eye centres (n, 2), right and left, in E.
        rotation: of the head, orthonormal (n, 3, 3).
        position: of the nose bridge in the picture (n, 2), in the clip's median E.
    """

    valid: npt.NDArray[np.bool_]
    opening: Array
    aspect: Array
    lips: Array
    brows: Array
    rotation: Array
    position: Array

    def usage(self, used: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Return `n_frames` and `coverage`, of the frames with a face or of those used."""
        flags = self.valid if used is None else used
        return {"n_frames": float(flags.sum()), "coverage": float(self.valid.mean())}


def from_faces(clip: ClipView) -> FaceMotion:
    """Return the motion of a real face from stored landmarks."""
    faces = clip.features(FACES)
    points = faces["landmarks"].astype(np.float64)
    unit = inter_ocular(points)[:, None]
    upper, lower = points[:, list(INNER_UPPER)], points[:, list(INNER_LOWER)]
    sides = ((BROW_RIGHT, EYE_RIGHT), (BROW_LEFT, EYE_LEFT))
    gaps = [points[:, list(brow)].mean(axis=1) - points[:, list(eye)].mean(axis=1) for brow, eye in sides]
    matrices = faces["matrices"][:, :3, :3].astype(np.float64)
    valid = faces["valid"].astype(bool)
    flat = np.linalg.norm(points[valid][:, 263, :2] - points[valid][:, 33, :2], axis=-1)
    return FaceMotion(
        valid=valid,
        opening=np.linalg.norm(upper - lower, axis=-1).mean(axis=1) / unit[:, 0],
        aspect=_apart(points, 13, 14) / _apart(points, 78, 308),
        lips=points[:, list(MOUTH)] / unit[..., None],
        brows=np.stack([np.linalg.norm(gap, axis=-1) for gap in gaps], axis=1) / unit,
        rotation=matrices / np.linalg.norm(matrices, axis=-2, keepdims=True),
        position=points[:, NOSE_BRIDGE, :2] / np.median(flat),
    )


def _apart(points: Array, first: int, second: int) -> Array:
    return np.asarray(np.linalg.norm(points[:, first, :2] - points[:, second, :2], axis=-1))


@dataclass(frozen=True, slots=True)
class World:
    """Where faces come from: photographs, or the drawn world.

    Attributes:
        domain: of the protocols.
        infix: in their ids, before the version.
        features, weights, code: of the reader behind `motion`.
        motion: reads a clip.
    """

    domain: Domain
    infix: str
    features: tuple[str, ...]
    weights: tuple[WeightRef, ...]
    code: tuple[str, ...]
    motion: Callable[[ClipView], FaceMotion]


REAL = World("real", "", (FACES,), FACE_WEIGHTS, (__name__, *CODE), from_faces)


class MotionMetric:
    """A clip metric on the motion of one face; subclasses say what, `world` says whose.

    `protocol` is the id without world and `ending`, `parameters` go into the key.
    """

    world: World = REAL
    protocol: str
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ()
    parameters: ClassVar[Mapping[str, Any]]
    summary: str
    source: str
    default = True
    modules: tuple[str, ...] = ()
    ending = "v1"

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"{self.protocol}{self.world.infix}_{self.ending}",
            version="1",
            kind="clip",
            columns=self.columns,
            domains=(self.world.domain,),
            needs=self.needs,
            features=self.world.features,
            params=self.parameters,
            weights=self.world.weights,
            default=self.default,
            summary=self.summary,
            source=self.source,
        )
        self.code_modules = (*self.modules, __name__, *self.world.code)


def require_frames(count: int, least: int = MIN_FRAMES, what: str = "frames with a face") -> None:
    """Raise `too_short` for fewer than `least` frames."""
    if count < least:
        raise Unscored(Reason.TOO_SHORT, f"{count} {what}; at least {least} are needed")


def mean_step(path: Array, valid: npt.NDArray[np.bool_]) -> float:
    """Return the mean length of steps between neighbouring valid frames, per second; NaN without any.

    Args:
        path: (n,) or (n, d).
        valid: bool (n,); no step is taken across a gap.
    """
    both = valid[1:] & valid[:-1]
    steps = np.diff(path.reshape(len(path), -1), axis=0)[both]
    return float(np.linalg.norm(steps, axis=1).mean() * FPS) if len(steps) else float("nan")


def smoothed(values: Array, sigma: float) -> Array:
    """Smooth (n,) by a Gaussian of `sigma` frames, renormalised at the ends."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weight = np.convolve(np.ones(len(values)), kernel)[reach : reach + len(values)]
    return np.convolve(values, kernel)[reach : reach + len(values)] / weight


def bridged(values: Array, valid: npt.NDArray[np.bool_]) -> Array:
    """Fill frames without a face in a straight line; (n,)."""
    at = np.arange(len(values))
    return np.interp(at, at[valid], values[valid])


def in_world(world: World, name: str, metrics: Iterable[type[MotionMetric]]) -> tuple[type, ...]:
    """Return the metrics for another world, as classes of module `name`."""
    return tuple(
        type(m.__name__, (m,), {"world": world, "__module__": name, "__doc__": m.__doc__}) for m in metrics
    )
