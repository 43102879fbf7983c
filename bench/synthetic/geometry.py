"""Where things are on a synthetic face: drawn mouth geometry, landmarks and boxes.

The renderer and the ground truth read the same functions, so a landmark is exactly where its feature is
drawn.

Coordinates. *Face* coordinates (X, Y, Z) lie on a unit sphere fixed to the head: X to the picture's right,
Y down, Z towards the viewer; one unit is the head's half-width (X) or half-height (Y). *Head* coordinates
(u, v) are face coordinates after yaw and pitch, projected along Z. *Picture* coordinates (x, y) run from -1
to 1 over the picture; pixel i has its centre at (2 i + 1) / size - 1. Landmarks are given in pixels, with
integers at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.synthetic.parameters import EXPRESSION, IDENTITY, POSE, Floats

EYE_Y = -0.12
MOUTH_Y = 0.52
MOUTH_DRAWN = ("half_width", "opening", "protrusion")
"""Columns of `mouth_drawn`: half-width of the mouth in head half-widths, gap between the lips at mid mouth
in head half-heights (0 = closed), and how far the lips are pushed out (0..1, drawn as thicker, brighter
lips)."""

_OUTLINE_ANGLES = np.linspace(0.06 * np.pi, 0.94 * np.pi, 9)
_MOUTH_INNER = (-0.5, 0.0, 0.5)

LANDMARKS: tuple[str, ...] = (
    *(
        f"eye_{side}_{part}"
        for side in ("left", "right")
        for part in ("outer", "inner", "upper", "lower", "pupil")
    ),
    *(f"brow_{side}_{part}" for side in ("left", "right") for part in ("inner", "middle", "outer")),
    *("nose_bridge", "nose_tip", "nostril_left", "nostril_right"),
    *("mouth_corner_left", "mouth_corner_right"),
    *(f"lip_upper_outer_{i}" for i in range(3)),
    *(f"lip_lower_outer_{i}" for i in range(3)),
    *(f"lip_upper_inner_{i}" for i in range(3)),
    *(f"lip_lower_inner_{i}" for i in range(3)),
    *(f"outline_{i}" for i in range(9)),
)
"""Names of the landmarks, in order. `outline` runs along the head's edge from the right ear over the chin
(4) to the left ear and, being a silhouette, does not turn with the head."""

EYES = slice(0, 10)
BROWS = slice(10, 16)
NOSE = slice(16, 20)
MOUTH = slice(20, 34)
OUTLINE = slice(34, 43)
PUPILS = (4, 9)


def named(values: Floats, names: tuple[str, ...]) -> dict[str, Floats]:
    """Split (B, n) parameters into n columns of shape (B,), by name."""
    return {name: values[..., i] for i, name in enumerate(names)}


def batch(values: npt.ArrayLike, names: tuple[str, ...], count: int) -> Floats:
    """Return parameters as float32 (count, n); a single vector is repeated.

    Raises:
        ValueError: the shape is neither (n,) nor (count, n).
    """
    array = np.asarray(values, np.float32)
    if array.shape not in ((len(names),), (count, len(names))):
        raise ValueError(
            f"expected shape ({len(names)},) or ({count}, {len(names)}) for {names[0]}.., got {array.shape}"
        )
    return np.broadcast_to(array, (count, len(names)))


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the drawn features, each (B,), in face units unless said otherwise."""

    jaw: Floats  # how much the outline narrows towards the chin
    jaw_drop: Floats  # stretch of the lower half of the head by the opening
    eye_x: Floats  # distance of the eye centres from the middle
    eye_width: Floats  # half-width of an eye
    eye_open: Floats  # (B, 2) openness of left and right eye, 1 = neutral
    gaze: Floats  # (B, 2) offset of the pupil from the eye centre
    brow_height: Floats  # brow centre above the eye centre
    furrow: Floats
    brow_thickness: Floats
    nose_length: Floats
    nose_width: Floats
    mouth_width: Floats  # half-width
    mouth_gap: Floats  # half-height unit of the opening; the gap is 1.9 times this
    mouth_y: Floats  # centre line at mid mouth
    mouth_curve: Floats  # rise of the corners (negative = up)
    lip: Floats  # lip thickness
    protrusion: Floats


def shape(identity: Floats, expression: Floats) -> Shape:
    """Return the drawn sizes for identity (B, 16) and expression (B, 10)."""
    who, now = named(identity, IDENTITY), named(expression, EXPRESSION)
    eye_width = 0.135 + 0.075 * who["eye_size"]
    blink = np.stack([now["blink_left"], now["blink_right"]], -1)
    smile = np.maximum(now["smile"], 0)
    width = (0.27 + 0.08 * who["mouth_width"]) * (1 + 0.28 * now["width"] - 0.42 * now["round"])
    return Shape(
        jaw=0.06 + 0.26 * who["jaw"],
        jaw_drop=0.10 * now["open"],
        eye_x=0.34 + 0.10 * who["eye_spacing"],
        eye_width=eye_width,
        eye_open=np.clip(1 - blink, 0, 1) * ((1 - 0.28 * smile) * (1 + 0.18 * now["brow"]))[:, None],
        gaze=np.stack([now["gaze_x"] * eye_width * 0.48, now["gaze_y"] * eye_width * 0.25], -1),
        brow_height=0.225 + 0.05 * who["eye_size"] + 0.13 * now["brow"],
        furrow=now["furrow"],
        brow_thickness=0.022 + 0.045 * who["brow_thickness"],
        nose_length=0.18 + 0.14 * who["nose"],
        nose_width=0.085 + 0.06 * who["nose"],
        mouth_width=width * (1 + 0.22 * np.maximum(now["smile"], -0.3)),
        mouth_gap=0.20 * np.clip(now["open"], 0, 1.2),
        mouth_y=MOUTH_Y + 0.03 * now["open"],
        mouth_curve=-0.11 * now["smile"],
        lip=(0.030 + 0.040 * who["lip_thickness"]) * (1 + 0.55 * now["round"]),
        protrusion=np.asarray(now["round"]),
    )


def lid_heights(eye_width: Floats, eye_open: Floats) -> tuple[Floats, Floats]:
    """Return how far the upper lid is above and the lower lid below the eye centre, at mid eye."""
    return eye_width * 0.62 * eye_open, eye_width * 0.48 * eye_open


def brow_offset(along: Floats, half_width: Floats, furrow: Floats) -> Floats:
    """Return how far a brow lies below its height at distance `along` from its middle (outwards positive)."""
    t = along / half_width
    return 0.32 * furrow * np.clip(0.12 - along, -0.05, 0.25) + 0.05 * t * t - 0.045 * t


def lip_offsets(across: Floats, gap: Floats, lip: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the lip contours relative to the mouth's centre line.

    Args:
        across: position between the corners, -1..1.
        gap: `Shape.mouth_gap`, broadcastable.
        lip: `Shape.lip`, broadcastable.

    Returns:
        outer upper (above), inner upper (above), inner lower (below), outer lower (below), all >= 0.
    """
    # |1 - x^2| to the power 0 < p < 1 has an infinite slope at the corners, which keeps thin lips visible
    # there.
    q = np.maximum(1 - across * across, 0)
    root = np.sqrt(q)
    fade = lip * q**0.6
    upper, lower = 0.75 * gap * root, 1.15 * gap * root
    bow = 1 - 0.25 * np.exp(-((across / 0.18) ** 2))
    return upper + fade * bow, upper, lower, lower + 1.25 * fade


def mouth_drawn(identity: npt.ArrayLike, expression: npt.ArrayLike) -> Floats:
    """Return the drawn mouth geometry (B, 3), see `MOUTH_DRAWN`.

    The expression numbers `width` and `round` cannot be read from one picture, since several combinations
    with `smile` and the identity draw the same mouth; these three can.
    """
    expression = np.atleast_2d(np.asarray(expression, np.float32))
    sizes = shape(batch(identity, IDENTITY, len(expression)), expression)
    return np.stack([sizes.mouth_width, 1.9 * sizes.mouth_gap, sizes.protrusion], -1).astype(np.float32)


def head_radii(identity: Floats, pose: Floats) -> tuple[Floats, Floats]:
    """Return the head's half-width and half-height in picture units, each (B,)."""
    half_height = 0.72 * pose[:, 5]
    return half_height * (0.70 + 0.18 * identity[:, 0]), half_height


def face_to_head(points: Floats, pose: Floats) -> tuple[Floats, Floats]:
    """Turn face points (B, n, 3) by yaw and pitch (B, 6) and return head coordinates u, v, each (B, n)."""
    yaw, pitch = pose[:, 0:1], pose[:, 1:2]
    X, Y, Z = points[..., 0], points[..., 1], points[..., 2]
    depth = -X * np.sin(yaw) + Z * np.cos(yaw)
    return X * np.cos(yaw) + Z * np.sin(yaw), Y * np.cos(pitch) + depth * np.sin(pitch)


def head_to_pixels(u: Floats, v: Floats, identity: Floats, pose: Floats, sizes: Shape, size: int) -> Floats:
    """Place head coordinates (B, n) in the picture: pixels (B, n, 2)."""
    lower = np.maximum(v, 0)
    u = u * (1 - sizes.jaw[:, None] * lower**2)
    v = v * (1 + sizes.jaw_drop[:, None] * (v > 0))
    rx, ry = head_radii(identity, pose)
    cos, sin = np.cos(pose[:, 2:3]), np.sin(pose[:, 2:3])
    x = u * rx[:, None] * cos - v * ry[:, None] * sin + pose[:, 3:4]
    y = u * rx[:, None] * sin + v * ry[:, None] * cos + pose[:, 4:5]
    return np.stack([(x + 1) * size / 2 - 0.5, (y + 1) * size / 2 - 0.5], -1).astype(np.float32)


def on_sphere(X: Floats, Y: Floats) -> Floats:
    """Complete face coordinates X, Y to points (..., 3) of the front half of the unit sphere."""
    return np.stack([X, Y, np.sqrt(np.maximum(1 - X * X - Y * Y, 0))], -1)


def landmarks(identity: npt.ArrayLike, expression: npt.ArrayLike, pose: npt.ArrayLike, size: int = 64) -> Floats:
    """Return the exact landmarks in pixels.

    Args:
        identity: (16,) or (B, 16).
        expression: (B, 10).
        pose: (6,) or (B, 6).
        size: width and height of the picture in pixels.

    Returns:
        (B, 43, 2) float32, x then y, named by `LANDMARKS`.
    """
    expression = np.atleast_2d(np.asarray(expression, np.float32))
    count = len(expression)
    identity, pose = batch(identity, IDENTITY, count), batch(pose, POSE, count)
    sizes = shape(identity, expression)
    X: list[Floats] = []
    Y: list[Floats] = []

    def add(x: Floats, y: Floats) -> None:
        X.append(x)
        Y.append(y)

    level = np.full(count, EYE_Y, np.float32)
    for side in (0, 1):
        sign = 2 * side - 1
        middle = sign * sizes.eye_x
        up, low = lid_heights(sizes.eye_width, sizes.eye_open[:, side])
        add(middle + sign * sizes.eye_width, level)
        add(middle - sign * sizes.eye_width, level)
        add(middle, level - up)
        add(middle, level + low)
        add(middle + sizes.gaze[:, 0], level + sizes.gaze[:, 1])
    for sign in (-1, 1):
        half = 1.35 * sizes.eye_width
        for t in (-1.0, 0.0, 1.0):
            along = t * half
            offset = brow_offset(along, half, sizes.furrow)
            add(sign * (sizes.eye_x + along), EYE_Y - sizes.brow_height + offset)
    add(np.zeros(count, np.float32), np.full(count, -0.10, np.float32))
    tip_at = len(X)
    corner = sizes.mouth_y + sizes.mouth_curve
    add(-sizes.mouth_width, corner)
    add(sizes.mouth_width, corner)
    for contour, sign in ((0, -1), (3, 1), (1, -1), (2, 1)):
        for t in _MOUTH_INNER:
            offset = lip_offsets(np.array(t, np.float32), sizes.mouth_gap, sizes.lip)[contour]
            add(t * sizes.mouth_width, sizes.mouth_y + sizes.mouth_curve * t * t + sign * offset)
    points = on_sphere(np.stack(X, -1), np.stack(Y, -1))
    u, v = face_to_head(points, pose)
    tip_u, tip_v = nose_tip(sizes, pose)
    nostril = 0.55 * sizes.nose_width
    nose_u = np.stack([tip_u, tip_u - nostril, tip_u + nostril], -1)
    nose_v = np.stack([tip_v, tip_v + 0.045, tip_v + 0.045], -1)
    edge_u = np.broadcast_to(np.cos(_OUTLINE_ANGLES).astype(np.float32), (count, 9))
    edge_v = np.broadcast_to(np.sin(_OUTLINE_ANGLES).astype(np.float32), (count, 9))
    u = np.concatenate([u[:, :tip_at], nose_u, u[:, tip_at:], edge_u], 1)
    v = np.concatenate([v[:, :tip_at], nose_v, v[:, tip_at:], edge_v], 1)
    return head_to_pixels(u, v, identity, pose, sizes, size)


def nose_tip(sizes: Shape, pose: Floats) -> tuple[Floats, Floats]:
    """Return the nose tip in head coordinates; it stands out (Z = 1.2), hence the parallax under yaw."""
    zero = np.zeros_like(sizes.nose_length)
    tip = np.stack([zero, sizes.nose_length, zero + 1.2], -1)[:, None]
    u, v = face_to_head(tip, pose)
    return u[:, 0], v[:, 0]


def boxes(points: Floats, size: int = 64) -> tuple[Floats, Floats]:
    """Return face and mouth boxes around landmarks (B, 43, 2).

    Returns:
        Two (B, 4) arrays x0, y0, x1, y1 in pixels, clipped to the picture. The face box spans brows to chin
        and the outline; the mouth box holds the lips with a margin of a quarter of the mouth's width.
    """
    face = np.concatenate([points.min(1), points.max(1)], -1)
    mouth = points[:, MOUTH]
    margin = 0.25 * np.linalg.norm(mouth[:, 1] - mouth[:, 0], axis=-1, keepdims=True)
    lips = np.concatenate([mouth.min(1) - margin, mouth.max(1) + margin], -1)
    return np.clip(face, 0, size - 1).astype(np.float32), np.clip(lips, 0, size - 1).astype(np.float32)
