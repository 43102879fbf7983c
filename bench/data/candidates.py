"""A clip that might become a sample, as annotations describe it, and the owners' rules for crop boxes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_SOURCE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.+-]{0,199}")
Pixels = tuple[int, int, int, int]  # x, y, width, height


class BadAnnotation(ValueError):
    """What the owners wrote cannot be used; permanent."""


class Mismatch(ValueError):
    """The media differs from what the annotation belongs to (size, frame rate, duration)."""


@dataclass(frozen=True, slots=True)
class Box:
    """A crop as it was published.

    Attributes:
        kind: `fraction`: top, bottom, left, right of the frame in [0, 1] (CelebV-HQ). `corners`: x0, y0, x1,
            y1 in pixels of `frame` (VFHQ). `window`: x, y, width, height in pixels of a frame of height
            `frame[1]` (HDTF). `face`: a static square around the detected face. `center`: the centre square.
        values: the four numbers; empty for the last two.
        frame: width and height the numbers belong to; 0 is unknown.
    """

    kind: Literal["fraction", "corners", "window", "face", "center"]
    values: tuple[float, ...] = ()
    frame: tuple[int, int] = (0, 0)

    def resolve(self, width: int, height: int) -> Pixels:
        """Return the square to cut from a frame of this size; even numbers, inside the frame.

        Raises:
            BadAnnotation: it lies outside, is inverted or empty.
            Mismatch: the frame has another shape than the one annotated.
        """
        if self.kind == "fraction":
            return _fraction(self.values, width, height)
        if self.kind == "corners":
            return _corners(self.values, self.frame, width, height)
        if self.kind == "window":
            return _window(self.values, self.frame[1], width, height)
        return centre_square(width, height)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip that might become a sample.

    Attributes:
        clip_id: the owners' id, byte for byte.
        identity: key that decides who counts as the same person.
        source_id: what holds it: a video id or an archive.
        start, end: seconds in the source; `end` 0 is the whole file.
        frames: first and last native frame (both included) instead of times, or None.
        fps: frame rate that frame numbers belong to.
        box: crop, or None for the whole frame.
        url: where the source is published.
        height: frame height the source has to have, or 0.
        problem: why the annotation cannot be used; such candidates are only accounted for.

    A source id names files, here and for whoever fetches them, and annotations can be anybody's: one that could be
    a path is such a problem.
    """

    clip_id: str
    identity: str
    source_id: str
    start: float = 0.0
    end: float = 0.0
    frames: tuple[int, int] | None = None
    fps: float = 0.0
    box: Box | None = None
    url: str = ""
    height: int = 0
    problem: str = ""

    def __post_init__(self) -> None:
        if self.source_id and not _SOURCE.fullmatch(self.source_id):
            object.__setattr__(self, "problem", f"no usable source id: {self.source_id[:80]!r}")
            object.__setattr__(self, "source_id", "")
            object.__setattr__(self, "url", "")


def centre_square(width: int, height: int) -> Pixels:
    """Return the largest centred square with even sides and corner."""
    side = min(width, height) // 2 * 2
    return ((width - side) // 2 // 2 * 2, (height - side) // 2 // 2 * 2, side, side)


def face_square(boxes: list[tuple[float, float, float, float]], width: int, height: int) -> Pixels:
    """Return one static square for a clip: centred on the median face, twice its median height, shifted inside.

    Args:
        boxes: x0, y0, x1, y1 of the face in each looked-at frame.
        width, height: of the frame.
    """

    def median(values: list[float]) -> float:
        ordered = sorted(values)
        return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2

    tall = median([b[3] - b[1] for b in boxes])
    x = median([(b[0] + b[2]) / 2 for b in boxes])
    y = median([(b[1] + b[3]) / 2 for b in boxes])
    side = min(int(2.0 * tall), width, height) // 2 * 2
    left = min(max(0, int(x - side / 2)), width - side) // 2 * 2
    top = min(max(0, int(y - side / 2)), height - side) // 2 * 2
    return left, top, side, side


def fraction_pixels(values: tuple[float, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right in pixels by CelebV-HQ's rule: grown by 0.02 of the frame, rounded.

    Source: `download_and_process.py` of CelebV-HQ (steps 2 and 3).
    """
    top, bottom, left, right = values
    top, left = max(0.0, top - 0.02), max(0.0, left - 0.02)
    bottom, right = min(1.0, bottom + 0.02), min(1.0, right + 0.02)
    return round(top * height), round(bottom * height), round(left * width), round(right * width)


def _fraction(values: tuple[float, ...], width: int, height: int) -> Pixels:
    if not all(0.0 <= v <= 1.0 for v in values) or values[0] >= values[1] or values[2] >= values[3]:
        raise BadAnnotation(f"box {values} is not inside the frame")
    top, bottom, left, right = fraction_pixels(values, width, height)
    half = min(bottom - top, right - left) // 2
    if half < 1:
        raise BadAnnotation(f"box {values} is empty")
    # The owners' centre may end in .5; FFmpeg's crop takes the even number below.
    x = int((left + right) / 2 - half) // 2 * 2
    y = int((top + bottom) / 2 - half) // 2 * 2
    return _inside((x, y, half * 2, half * 2), width, height)


def _corners(values: tuple[float, ...], frame: tuple[int, int], width: int, height: int) -> Pixels:
    own_width, own_height = frame
    if abs(width / height - own_width / own_height) > 0.01 * own_width / own_height:
        raise Mismatch(f"frame is {width}x{height}, annotated was {own_width}x{own_height}")
    x0, x1 = (int(v * width / own_width) for v in (values[0], values[2]))
    y0, y1 = (int(v * height / own_height) for v in (values[1], values[3]))
    side = min(x1 - x0, y1 - y0) // 2 * 2
    if side < 2:
        raise BadAnnotation(f"crop {values} is empty")
    x, y = (x0 + x1 - side) // 2 // 2 * 2, (y0 + y1 - side) // 2 // 2 * 2
    return _inside((x, y, side, side), width, height)


def _window(values: tuple[float, ...], own_height: int, width: int, height: int) -> Pixels:
    if height != own_height:
        raise Mismatch(f"frame height is {height}, the crop belongs to {own_height}")
    x, y, w, h = (int(v) for v in values)
    side = min(w, h) // 2 * 2
    # Checked before rounding down: FFmpeg would clamp a crop outside the frame without a word.
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise BadAnnotation(f"crop {w}x{h} at {x},{y} is not inside {width}x{height}")
    return x // 2 * 2, y // 2 * 2, side, side


def _inside(box: Pixels, width: int, height: int) -> Pixels:
    x, y, w, h = box
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise BadAnnotation(f"crop {w}x{h} at {x},{y} is not inside {width}x{height}")
    return box
