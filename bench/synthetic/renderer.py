"""Draws synthetic talking faces.

Every pixel is put on a unit half-sphere scaled to the head, turned back by yaw and pitch, and all features
are antialiased implicit shapes in face coordinates, which gives the right foreshortening for free. See
`geometry` for the coordinate systems and for the sizes shared with the ground truth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.synthetic import geometry as geo
from bench.synthetic.parameters import EXPRESSION, IDENTITY, NUISANCE, POSE, Floats

BACKGROUND, HEAD, MOUTH = 0, 1, 2
"""Labels in the masks: everything else, the head without hair hanging beside it, the lips and what is
between."""

_SKIN = (
    (0.98, 0.86, 0.77),
    (0.94, 0.78, 0.66),
    (0.85, 0.65, 0.49),
    (0.66, 0.46, 0.33),
    (0.45, 0.30, 0.22),
    (0.30, 0.20, 0.15),
)
_HAIR = (
    (0.06, 0.05, 0.06),
    (0.22, 0.13, 0.08),
    (0.45, 0.26, 0.12),
    (0.62, 0.20, 0.10),
    (0.86, 0.70, 0.38),
    (0.93, 0.90, 0.82),
    (0.60, 0.60, 0.62),
)
_IRIS = ((0.20, 0.12, 0.06), (0.42, 0.27, 0.10), (0.35, 0.45, 0.20), (0.20, 0.50, 0.45), (0.25, 0.45, 0.75))
_CHUNK = 16  # frames drawn together: small enough to stay in the processor's cache


def render(
    identity: npt.ArrayLike,
    expression: npt.ArrayLike,
    pose: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    size: int = 64,
) -> npt.NDArray[np.uint8]:
    """Draw frames.

    Args:
        identity: (16,) or (B, 16), see `parameters.IDENTITY`.
        expression: (B, 10), see `parameters.EXPRESSION`.
        pose: (6,) or (B, 6), see `parameters.POSE`.
        nuisance: (9,) or (B, 9), see `parameters.NUISANCE`.
        size: width and height in pixels.

    Returns:
        uint8 (B, size, size, 3), RGB.
    """
    return render_with_masks(identity, expression, pose, nuisance, size)[0]


def render_with_masks(
    identity: npt.ArrayLike,
    expression: npt.ArrayLike,
    pose: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    size: int = 64,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw frames and label maps; arguments as in `render`.

    Returns:
        Frames uint8 (B, size, size, 3) and labels uint8 (B, size, size) of `BACKGROUND`, `HEAD`, `MOUTH`.
    """
    expression = np.atleast_2d(np.asarray(expression, np.float32))
    count = len(expression)
    who, where = geo.batch(identity, IDENTITY, count), geo.batch(pose, POSE, count)
    around = geo.batch(nuisance, NUISANCE, count)
    frames = np.empty((count, size, size, 3), np.uint8)
    masks = np.empty((count, size, size), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        picture = _Picture(who[part], expression[part], where[part], around[part], size)
        frames[part], masks[part] = picture.draw()
    return frames, masks


def _coverage(distance: Floats, width: Floats | float) -> Floats:
    """Turn a signed distance (negative inside) into opacity over an edge of the given width."""
    return np.clip(0.5 - distance / width, 0, 1)


def _ellipse(x: Floats, y: Floats, width: Floats | float, height: Floats | float) -> Floats:
    """Return the radius relative to an ellipse, minus one: negative inside."""
    return np.sqrt((x / width) ** 2 + (y / height) ** 2) - 1


def _palette(position: Floats, colours: tuple[tuple[float, ...], ...]) -> Floats:
    """Interpolate in a list of colours: (B,) in [0, 1] to (B, 3, 1, 1)."""
    table = np.asarray(colours, np.float32)
    at = np.clip(position, 0, 1) * (len(table) - 1)
    low = np.minimum(at.astype(int), len(table) - 2)
    share = (at - low)[:, None]
    return (table[low] * (1 - share) + table[low + 1] * share).astype(np.float32)[:, :, None, None]


def _colour(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], np.float32).reshape(1, 3, 1, 1)


class _Picture:
    """One chunk of frames being painted, back to front; fields are (B, rows, columns), image (B, 3, ...)."""

    def __init__(self, who: Floats, now: Floats, pose: Floats, around: Floats, size: int) -> None:
        self.size, self.count = size, len(now)
        self.sizes = geo.shape(who, now)
        self.pose_rows, self.who_rows = pose, who
        column = lambda values: values[:, None, None]  # noqa: E731 - broadcasts (B,) over the picture
        self.column = column
        self.who = {name: column(who[:, i]) for i, name in enumerate(IDENTITY)}
        self.now = {name: column(now[:, i]) for i, name in enumerate(EXPRESSION)}
        self.pose = {name: column(pose[:, i]) for i, name in enumerate(POSE)}
        self.around = around
        self.skin = _palette(who[:, 2], _SKIN)
        self.hair = _palette(who[:, 3], _HAIR)
        self.iris = _palette(who[:, 8], _IRIS)
        half_width, half_height = geo.head_radii(who, pose)
        self.rx, self.ry = column(half_width), column(half_height)
        self.edge = 2.2 / size / self.ry  # about one pixel, in face units
        line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
        self.x, self.y = line[None, None, :], line[None, :, None]
        self.image = np.empty((self.count, 3, size, size), np.float32)
        self.window: tuple[slice, slice] = (slice(None), slice(None))

    def draw(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Paint everything and return frames and labels."""
        self._background_and_body()
        self._head_coordinates()
        self._back_hair_and_ears()
        self._skin_and_hair()
        for side in (0, 1):
            self._eye(side)
        self._furrow_and_glasses()
        self._nose()
        lips = self._mouth()
        labels = np.where(self.head > 0.5, HEAD, BACKGROUND).astype(np.uint8)
        labels[lips > 0.5] = MOUTH
        pixels = (np.clip(self.image, 0, 1) * 255 + 0.5).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels

    def _over(self, opacity: Floats, colour: Floats) -> None:
        """Paint a colour (B, 3, ...) with an opacity (B, rows, columns) over the current window."""
        target = self.image[:, :, self.window[0], self.window[1]]
        target += (colour - target) * opacity[:, None]

    def _focus(self, left: float, top: float, right: float, bottom: float) -> None:
        """Restrict painting to the pixels that can hold the given box of face coordinates in any frame."""
        yaw, pitch = self.pose_rows[:, 0], self.pose_rows[:, 1]
        shift_u, shift_v = np.sin(yaw) * 1.2, np.sin(pitch) * 1.2
        u = np.array([left, right])[:, None] + np.stack([np.minimum(shift_u, 0), np.maximum(shift_u, 0)])
        v = np.array([top, bottom])[:, None] + np.stack([np.minimum(shift_v, 0), np.maximum(shift_v, 0)])
        v = v * (1 + 0.12 * (v > 0))
        corners_u = np.stack([u[0], u[1], u[0], u[1]], -1)
        corners_v = np.stack([v[0], v[0], v[1], v[1]], -1)
        rx, ry = self.rx[:, 0], self.ry[:, 0]
        cos, sin = np.cos(self.pose_rows[:, 2:3]), np.sin(self.pose_rows[:, 2:3])
        x = corners_u * rx * cos - corners_v * ry * sin + self.pose_rows[:, 3:4]
        y = corners_u * rx * sin + corners_v * ry * cos + self.pose_rows[:, 4:5]

        def span(values: Floats) -> slice:
            low = int((values.min() + 1) / 2 * self.size) - 2
            high = int((values.max() + 1) / 2 * self.size) + 3
            return slice(min(max(low, 0), self.size - 1), max(min(high, self.size), 1))

        self.window = span(y), span(x)

    def _cut(self, field: Floats) -> Floats:
        """Return the current window of a full-size field."""
        return field[:, self.window[0], self.window[1]]

    def _background_and_body(self) -> None:
        around, pose = self.around, self.pose
        slope = (around[:, 3] - 0.5)[:, None, None, None] * 0.6
        self.image[:] = around[:, :3, None, None] * (1 + slope * self.y[:, None])
        x, y = (
            self.x - 0.5 * pose["x"],
            self.y - 0.5 * pose["y"],
        )  # the body follows half of the head's motion
        neck = _coverage((np.abs(x) - 0.34 * self.rx / 0.42) * 2, 0.06) * _coverage(0.25 - y, 0.1)
        self._over(neck, self.skin * 0.78)
        clothes = around[:, 6:9, None, None] * (1 - 0.25 * np.abs(x)[:, None])
        self._over(_coverage(_ellipse(x, y - 1.20, 0.80, 0.40), self.edge), clothes)

    def _head_coordinates(self) -> None:
        pose, sizes = self.pose, self.sizes
        cos, sin = np.cos(pose["roll"]), np.sin(pose["roll"])
        x, y = self.x - pose["x"], self.y - pose["y"]
        self.u0, self.v0 = (x * cos + y * sin) / self.rx, (y * cos - x * sin) / self.ry
        self.v = self.v0 / (1 + self.column(sizes.jaw_drop) * (self.v0 > 0))
        self.u = self.u0 / (1 - self.column(sizes.jaw) * np.maximum(self.v, 0) ** 2)
        square = self.u**2 + self.v**2
        depth = np.sqrt(np.maximum(1 - square, 0))
        self.head = _coverage(np.sqrt(square) - 1, self.edge)
        cos_yaw, self.sin_yaw = np.cos(pose["yaw"]), np.sin(pose["yaw"])
        cos_pitch, sin_pitch = np.cos(pose["pitch"]), np.sin(pose["pitch"])
        self.cos_yaw = cos_yaw
        turned = self.v * sin_pitch + depth * cos_pitch
        self.Y = self.v * cos_pitch - depth * sin_pitch
        self.X = self.u * cos_yaw - turned * self.sin_yaw
        self.Z = self.u * self.sin_yaw + turned * cos_yaw
        self.front = _coverage(-self.Z - 0.02, 0.15) * self.head
        light_x, light_y = self.column(self.around[:, 4]) - 0.5, self.column(self.around[:, 5]) - 0.5
        lit = self.u * light_x * 1.2 + self.v * (0.5 * light_y - 0.45) + depth * 0.75
        self.light_x = light_x
        self.shade = np.clip(0.62 + 0.45 * lit, 0.35, 1.15)

    def _back_hair_and_ears(self) -> None:
        u, v, length = self.u0, self.v0, self.who["hair_length"]
        volume = _coverage(_ellipse(u, v + 0.06, 1.13, 1.10), self.edge) * _coverage(v - 0.15, 0.1)
        self._over(volume, self.hair * 0.72)
        end = 1.35 * np.maximum((length - 0.35) / 0.65, 0) - 0.1
        side = np.abs(u) - 1.13 + 0.10 * np.maximum(v - 0.3, 0) ** 2
        strands = _coverage(side, self.edge) * _coverage(-(v + 0.05), 0.1) * _coverage(v - end, self.edge * 1.5)
        self._over(strands * (length > 0.35), self.hair * 0.66)
        for sign in (-1, 1):
            ear = sign * 0.99 * self.cos_yaw - 0.10 * self.sin_yaw
            self._over(_coverage(_ellipse(u - ear, v - 0.02, 0.14, 0.19) * 0.16, self.edge), self.skin * 0.80)

    def _skin_and_hair(self) -> None:
        X, Y, who = self.X, self.Y, self.who
        across = np.abs(X)
        shade = self.shade[:, None]
        face = self.skin * shade
        orbit = _coverage(_ellipse(across - 0.36, Y + 0.10, 0.30, 0.26), 0.8)
        face = face * (1 - 0.10 * orbit[:, None])
        blush = _coverage(_ellipse(across - 0.45, Y - 0.26, 0.24, 0.18), 1.0)
        blush = blush * (0.25 + 0.5 * np.maximum(self.now["smile"], 0))
        self._over(self.head, face * (1 - blush[:, None] * _colour(0.02, 0.16, 0.14)))
        beard = np.clip((who["beard"] - 0.68) / 0.12, 0, 1)
        chin = 0.44 - 0.55 * np.maximum(across - 0.35, 0) - Y
        self._over(_coverage(chin, 0.10) * beard * 0.80 * self.front, self.hair * 0.85 * shade)
        line = -0.78 + 0.34 * who["hairline"] + 0.55 * X**2 * (0.6 + 0.8 * who["hair_length"])
        line = line + 0.05 * np.sin(9 * X + 6 * who["hair_length"])
        sides = _coverage(self.Z + 0.02, 0.08) * _coverage(Y - 0.1 - 0.8 * (who["hair_length"] > 0.5), 0.1)
        # Nearly full wherever the head covers at all: the soft edge, squared, would leave a line of skin.
        covered = np.minimum(self.head * 4, 1)
        cap = np.maximum(_coverage(Y - line, self.edge * 1.3), sides) * covered
        self._over(cap, self.hair * (0.9 * shade + 0.035 * np.sin(28 * X + 5 * Y)[:, None]))

    def _eye(self, side: int) -> None:
        sign = 2 * side - 1
        self._focus(*((-0.75, -0.62, -0.05, 0.10) if side == 0 else (0.05, -0.62, 0.75, 0.10)))
        sizes, column, edge = self.sizes, self.column, self.edge
        front, shade = self._cut(self.front), self._cut(self.shade)[:, None]
        width = column(sizes.eye_width)
        x, y = self._cut(self.X) - sign * column(sizes.eye_x), self._cut(self.Y) - geo.EYE_Y
        arch = np.maximum(1 - (x / width) ** 2, 0)
        up, low = geo.lid_heights(width, column(sizes.eye_open[:, side]))
        up, low = up * arch, low * arch
        inside = np.clip(np.minimum(y + up, low - y) / edge + 0.3, 0, 1) * (arch > 0) * front
        self._over(inside, _colour(0.96, 0.96, 0.97) * np.clip(shade, 0.7, 1.05))
        gaze_x, gaze_y = x - column(sizes.gaze[:, 0]), y - column(sizes.gaze[:, 1])
        radius = np.sqrt((0.8 * gaze_x) ** 2 + gaze_y**2)
        self._over(inside * _coverage(radius - width * 0.50, edge), self.iris)
        self._over(inside * _coverage(radius - width * 0.24, edge), _colour(0.03, 0.03, 0.03))
        glint = np.sqrt((gaze_x + 0.03) ** 2 + (gaze_y + 0.035) ** 2) - 0.028
        self._over(inside * _coverage(glint, edge) * 0.9, _colour(1, 1, 1))
        self._over(_coverage(np.abs(y + up) - 0.022, edge) * (arch > 0.02) * front * 0.85, self.skin * 0.28)
        self._over(_coverage(np.abs(y - low) - 0.008, edge) * (arch > 0.1) * front * 0.35, self.skin * 0.4)
        along, half = x * sign, width * 1.35
        furrow = column(sizes.furrow)
        offset = y + column(sizes.brow_height) - geo.brow_offset(along, half, furrow)
        thickness = column(sizes.brow_thickness) * np.maximum(1 - 0.45 * along / half, 0.2)
        brow = np.maximum(np.abs(offset) - thickness, np.abs(along + 0.03 * furrow) - half)
        self._over(_coverage(brow, edge) * front * 0.92, self.hair * 0.55)

    def _furrow_and_glasses(self) -> None:
        self._focus(-0.80, -0.45, 0.80, 0.22)
        across, Y, front, edge = (
            np.abs(self._cut(self.X)),
            self._cut(self.Y),
            self._cut(self.front),
            self.edge,
        )
        crease = _coverage(np.abs(across - 0.06) - 0.012, edge) * _coverage(np.abs(Y + 0.27) - 0.09, edge)
        self._over(crease * np.maximum(self.now["furrow"], 0) * front * 0.5, self.skin * 0.5)
        worn = np.clip((self.who["glasses"] - 0.70) / 0.05, 0, 1)
        if not worn.any():
            return
        eye_x = self.column(self.sizes.eye_x)
        rim = _ellipse(across - eye_x, Y - geo.EYE_Y - 0.01, 0.25, 0.22) * 0.23
        bar = _coverage(np.abs(Y - geo.EYE_Y + 0.02) - 0.014, edge)
        bar = bar * ((across < eye_x - 0.24) | (across > eye_x + 0.24))
        frame = np.maximum(_coverage(np.abs(rim) - 0.014, edge), bar)
        self._over(frame * worn * front, _colour(0.10, 0.10, 0.13))

    def _nose(self) -> None:
        self._focus(-0.30, -0.20, 0.30, 0.55)
        u, v, head = self._cut(self.u), self._cut(self.v), self._cut(self.head)
        shade = self._cut(self.shade)[:, None]
        tip_u, tip_v = (self.column(t) for t in geo.nose_tip(self.sizes, self.pose_rows))
        width = self.column(self.sizes.nose_width)
        du, dv = u - tip_u, v - tip_v
        self._over(_coverage(_ellipse(du, dv, width, width * 0.75), 0.5) * 0.55 * head, self.skin * shade * 1.10)
        under = _coverage(_ellipse(du, dv - 0.055, width * 1.15, 0.035), 0.7)
        self._over(under * 0.55 * head, self.skin * shade * 0.55)
        for sign in (-1, 1):
            nostril = _coverage(_ellipse(du - sign * width * 0.55, dv - 0.045, 0.03, 0.022), 0.8)
            self._over(nostril * 0.75 * head, self.skin * 0.25)
        t = np.clip((v + 0.10) / (tip_v + 0.10), 0, 1)
        ridge = t * tip_u + (1 - t) * self.sin_yaw * 0.95  # shadow on the side away from the light
        shadow = _coverage(np.abs(u - ridge + 0.05 * np.sign(self.light_x + 1e-6)) - 0.012, self.edge * 1.6)
        self._over(shadow * (v > -0.12) * (v < tip_v) * 0.28 * head, self.skin * shade * 0.55)

    def _mouth(self) -> Floats:
        """Paint lips, teeth, tongue and folds; return the opacity of the mouth, full size."""
        self._focus(-0.62, 0.15, 0.62, 0.95)
        sizes, column, edge = self.sizes, self.column, self.edge
        X, Y, front = self._cut(self.X), self._cut(self.Y), self._cut(self.front)
        shade = self._cut(self.shade)[:, None]
        width, gap, lip = column(sizes.mouth_width), column(sizes.mouth_gap), column(sizes.lip)
        across = X / width
        y = Y - column(sizes.mouth_y) - column(sizes.mouth_curve) * across**2
        outer_up, up, low, outer_low = geo.lip_offsets(across, gap, lip)
        ends = np.clip((1 - across**2) * width * 0.5 / edge + 0.3, 0, 1) * front
        lips = np.clip(np.minimum(y + outer_up, outer_low - y) / edge + 0.5, 0, 1) * ends
        red = 0.35 + 0.55 * self.who["lip_red"][:, None]
        colour = self.skin * (1 - red * _colour(0.12, 0.52, 0.45)) * shade * 0.97
        self._over(lips, colour)
        pushed = column(sizes.protrusion)
        gleam = _coverage(_ellipse(X, y - low - 0.6 * lip, width * 0.6, lip * 0.55), 0.9) * lips
        self._over(gleam * pushed * 0.6, np.minimum(colour * 1.5 + 0.12, 1))
        hole = np.clip(np.minimum(y + up, low - y) / edge + 0.5, 0, 1) * ends * np.clip(gap / 0.02, 0, 1)
        self._over(hole, _colour(0.20, 0.05, 0.06))
        teeth = hole * _coverage(y + up - 0.055, edge) * np.clip((gap - 0.015) / 0.03, 0, 1)
        self._over(teeth * 0.95, _colour(0.95, 0.94, 0.90))
        tongue = _coverage(_ellipse(X, y - 1.15 * gap, width * 0.7, 0.085), 0.3) * hole
        self._over(tongue * np.clip((gap - 0.05) / 0.04, 0, 1) * 0.9, _colour(0.75, 0.32, 0.34))
        closed = _coverage(np.abs(y) - 0.012, edge) * ends * (1 - np.clip(gap / 0.03, 0, 1))
        self._over(closed * 0.8, self.skin * 0.28)
        below = _coverage((X / (width * 0.8)) ** 2 + ((y - low - 1.8 * lip) / 0.03) ** 2 - 1, 1.0)
        self._over(below * 0.18 * front, self.skin * 0.4)
        fold = _coverage(np.abs(np.abs(X) - 0.20 - 0.35 * (Y - 0.22)) - 0.012, edge * 1.3)
        fold = fold * (Y > 0.2) * (Y < 0.5) * np.clip(self.now["smile"], 0, 1)
        self._over(fold * 0.35 * front, self.skin * 0.45)
        covered = np.zeros((self.count, self.size, self.size), np.float32)
        covered[:, self.window[0], self.window[1]] = lips
        self.window = (slice(None), slice(None))
        return covered
