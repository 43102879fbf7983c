"""Changes of pictures for `bench sensitivity`: pure functions of frames, of a size that is known.

All take and return uint8 (n, height, width, 3). Sizes in pixels are those of a 512-pixel frame and scale with the
shorter side, so that a level means the same on a small clip.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from bench.methods.face_shape import FaceShape, Points, as_complex, as_points, similarity

Frames = npt.NDArray[np.uint8]


def size_of(frames: Frames) -> float:
    """Return the shorter side over 512, at least a quarter: less of a pixel than that shows nothing."""
    return max(128, min(frames.shape[1:3])) / 512


def _uint8(values: npt.NDArray[np.floating]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _each(frames: Frames, change: Callable[[Frames], npt.NDArray[np.floating]]) -> Frames:
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        out[i] = _uint8(change(frame))
    return out


def blurred(frames: Frames, sigma: float) -> Frames:
    """Blur by a Gaussian of `sigma` pixels at 512."""
    s = sigma * size_of(frames)
    return _each(frames, lambda f: gaussian_filter(f.astype(np.float32), (s, s, 0), mode="nearest"))


def noisy(frames: Frames, sigma: float, rng: np.random.Generator, static: bool = False) -> Frames:
    """Add Gaussian noise of `sigma` of 255, new in each frame or the same in all."""
    grain = rng.standard_normal(frames.shape[1:], dtype=np.float32)
    return _each(
        frames, lambda f: f + sigma * (grain if static else rng.standard_normal(f.shape, dtype=np.float32))
    )


def rescaled(frames: Frames, factor: float) -> Frames:
    """Shrink by `factor` and enlarge again."""
    from bench.media.scale import Resizer

    height, width = frames.shape[1:3]
    small = Resizer(max(2, round(width * factor)), max(2, round(height * factor)))
    large = Resizer(width, height)
    return np.stack([large(small(f)) for f in frames])


def cropped(frames: Frames, share: float) -> Frames:
    """Keep the middle `share` of either side and enlarge it again."""
    from bench.media.scale import Resizer

    height, width = frames.shape[1:3]
    y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    large = Resizer(width, height)
    return np.stack([large(f[y : height - y, x : width - x]) for f in frames])


def gamma(frames: Frames, power: float) -> Frames:
    """Raise values to a power."""
    table = _uint8(255 * (np.arange(256) / 255) ** power)
    return table[frames]


def shifted(frames: Frames, pixels: float) -> Frames:
    """Move right and down by so many pixels at 512, whole ones on frames that large; edges are repeated."""
    side = min(frames.shape[1:3])
    if side < 384:
        return moved(frames, np.ones(len(frames), complex), np.full(len(frames), pixels * side / 512 * (1 + 1j)))
    whole = int(pixels)
    return np.pad(frames, ((0, 0), (whole, 0), (whole, 0), (0, 0)), mode="edge")[:, :-whole, :-whole]


def mouth_blurred(frames: Frames, sigma: float, boxes: Points) -> Frames:
    """Blur inside a soft ellipse around the mouth.

    Args:
        frames: see above.
        sigma: pixels at 512.
        boxes: x0, y0, x1, y1 of the mouth in every frame (n, 4).
    """
    s = sigma * size_of(frames)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    out = frames.copy()
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        reach = np.hypot((x - (x0 + x1) / 2) / ((x1 - x0) / 2), (y - (y0 + y1) / 2) / ((y1 - y0) / 2))
        weight = np.clip(2 * (1.25 - reach), 0, 1)[..., None]
        soft = gaussian_filter(frames[i].astype(np.float32), (s, s, 0), mode="nearest")
        out[i] = _uint8(frames[i] * (1 - weight) + soft * weight)
    return out


def dropped(frames: Frames, share: float, rng: np.random.Generator) -> Frames:
    """Replace a share of the frames by the one before."""
    at = np.arange(len(frames))
    lost = rng.random(len(frames)) < share
    lost[0] = False
    return frames[np.maximum.accumulate(np.where(lost, 0, at))]


def frozen(frames: Frames, moving: float) -> Frames:
    """Stand still after a share of the clip."""
    return frames[np.minimum(np.arange(len(frames)), int(moving * (len(frames) - 1)))]


def shuffled(frames: Frames, block: int, rng: np.random.Generator) -> Frames:
    """Permute frames inside blocks of so many."""
    order = [rng.permutation(np.arange(i, min(i + block, len(frames)))) for i in range(0, len(frames), block)]
    return frames[np.concatenate(order)]


def jittered(frames: Frames, sigma: float, rng: np.random.Generator) -> Frames:
    """Move every frame by a random amount of `sigma` pixels at 512, both ways."""
    moves = rng.normal(0, sigma * size_of(frames), (len(frames), 2))
    return moved(frames, np.ones(len(frames), complex), moves[:, 0] + 1j * moves[:, 1])


def moved(frames: Frames, a: npt.NDArray[np.complex128], b: npt.NDArray[np.complex128]) -> Frames:
    """Move every frame by a similarity: z goes to a z + b, z = x + iy in pixels; edges are repeated."""
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        source = (x + 1j * y - b[i]) / a[i]
        for channel in range(3):
            out[i, ..., channel] = _uint8(
                map_coordinates(
                    frame[..., channel].astype(np.float32), [source.imag, source.real], order=1, mode="nearest"
                )
            )
    return out


def flickering(frames: Frames, percent: float, rng: np.random.Generator) -> Frames:
    """Multiply every frame by its own gain, up to so many per cent away from 1."""
    gains = 1 + rng.uniform(-percent, percent, len(frames)) / 100
    return np.stack([_uint8(f * g) for f, g in zip(frames, gains, strict=True)])


def reddened(frames: Frames, percent: float) -> Frames:
    """Let the red channel gain up to so many per cent by the end."""
    gains = np.ones((len(frames), 1, 1, 3), np.float32)
    gains[:, 0, 0, 0] += percent / 100 * np.linspace(0, 1, len(frames))
    return np.stack([_uint8(f * g) for f, g in zip(frames, gains, strict=True)])


def faster(frames: Frames, factor: float) -> Frames:
    """Run through the clip faster; the last frame stands."""
    return frames[np.minimum(np.arange(len(frames)) * factor, len(frames) - 1).astype(int)]


def switched(frames: Frames, other: Frames, share: float) -> Frames:
    """Show another clip, brought to the same size, in the last share of the clip."""
    from bench.media.scale import Resizer

    count = round(share * len(frames))
    fit = Resizer(frames.shape[2], frames.shape[1])
    start = len(frames) - count
    out = frames.copy()
    for i in range(count):
        out[start + i] = fit(other[(start + i) % len(other)])
    return out


def steadied(frames: Frames, share: float, points: Points, rigid: tuple[int, ...]) -> Frames:
    """Remove a share of the head's shift, roll and size by moving the whole picture against them.

    Args:
        frames: see above.
        share: 1 holds the head where it is in the first frame.
        points: landmarks (n, K, 2).
        rigid: indices of those that move with the head.
    """
    a, _ = similarity(points[0, list(rigid)], points[:, list(rigid)])  # from the first frame to each
    part_a = np.exp(-share * np.log(a))
    centre = as_complex(points[:, list(rigid)]).mean(axis=1)
    still = (1 - share) * centre + share * centre[0]
    return moved(frames, part_a, still - part_a * centre)


def damped(frames: Frames, share: float, points: Points, shape: FaceShape, only: tuple[int, ...] = ()) -> Frames:
    """Pull landmarks a share of the way to where they are on average over the clip, seen from the head.

    Args:
        frames: see above.
        share: 1 leaves a face without expression.
        points: landmarks (n, K, 2).
        shape: their roles.
        only: landmarks to pull; all that shape the face when empty.
    """
    from bench.methods.warp import FaceWarp

    rigid = list(shape.rigid)
    a, b = similarity(points[0, rigid], points[:, rigid])
    seen = (as_complex(points) - b[:, None]) / a[:, None]
    pull = share * (seen.mean(axis=0) - seen) * a[:, None]
    if only:
        kept = np.zeros(points.shape[1], bool)
        kept[list(only)] = True
        pull = pull * kept
    moves = as_points(pull)
    warped = [
        next(iter(FaceWarp(frame, shape, points[i]).frames(moves[i : i + 1]))) for i, frame in enumerate(frames)
    ]
    return np.stack(warped)
