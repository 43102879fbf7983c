"""Pixels as a viewer shows them: orientation, pixel shape, transparency, colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from bench.media.errors import DecodeError
from bench.media.hdr import CURVES, ToneMap

Picture = npt.NDArray[np.uint8]

MAX_BYTES = 800 * 2**20
"""What one picture may take while it is read: its decoded form and its RGB pixels."""

MAX_SIDE = 16384
MAX_ASPECT = 8
"""Pixels wider or taller than this are a broken number, not a picture's shape."""

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_NO_MATRIX = {
    8: "YCgCo",
    11: "YDzDx",
    12: "derived",
    13: "derived",
    14: "ICtCp",
    15: "IPT",
    16: "YCgCo",
    17: "YCgCo",
}
_ROWS = 2**20  # values that are blended at once


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways a stored picture can lie: rows and columns exchanged first, then flipped.

    Attributes:
        transposed: stored rows are shown as columns.
        left_right, upside_down: what is shown is flipped along that axis.
    """

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: Any) -> Orientation:
        """Return the orientation nearest to the frame's display matrix.

        The matrix takes a stored point (x, y) to (a x + c y, b x + d y); see FFmpeg, libavutil/display.h.
        """
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV cannot list a frame's side data when it does not know one of its kinds
            turns = round(frame.rotation / 90) % 4
            return cls(turns % 2 == 1, turns in (2, 3), turns in (1, 2))
        if data is None:
            return cls()
        a, b, _, c, d = (float(v) for v in np.frombuffer(data, np.int32)[:5])
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @classmethod
    def of_exif(cls, number: int) -> Orientation:
        """Return EXIF's orientation 1 to 8 (CIPA DC-008, tag 274); any other number is 1."""
        left_right, upside_down = number in (2, 3, 6, 7), number in (3, 4, 7, 8)
        return cls(5 <= number <= 8, left_right, upside_down)

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged, before the picture is turned by `rotation`."""
        return self.transposed ^ self.left_right ^ self.upside_down

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise by which the (perhaps mirrored) picture is turned: 0, 90, 180 or 270."""
        if self.transposed:
            return 90 if self.upside_down != self.mirrored else 270
        return 180 if self.upside_down else 0

    def __call__(self, rgb: Picture) -> Picture:
        """Return the picture as shown; contiguous."""
        if self.transposed:
            rgb = rgb.swapaxes(0, 1)
        return np.ascontiguousarray(rgb[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1])


def check_size(path: Path, width: int, height: int, layout: Any) -> None:
    """Refuse pictures that cannot be read in bounded memory, before they are decoded.

    Args:
        path: the file.
        width, height: stored pixels.
        layout: `av.VideoFormat` of the decoded picture, or None where it is not known yet.

    Raises:
        DecodeError: too large.
    """
    bits = layout.padded_bits_per_pixel if layout is not None else 24
    needed = width * height * (bits / 8 + 3)
    if needed > MAX_BYTES:
        raise DecodeError(
            f"Cannot read {path}: {width}x{height} pixels take {needed / 2**20:.0f} MiB,"
            f" and at most {MAX_BYTES // 2**20} MiB are allowed.",
            "Scale it down; the benchmark shows at most a few hundred pixels of a face.",
        )


def stored_size(path: Path, frame: Any, aspect: Any) -> tuple[int, int]:
    """Return width and height of the stored picture with square pixels; the width is what changes.

    Raises:
        DecodeError: the pixels' shape is absurd.
    """
    width, height = frame.width, frame.height
    if not aspect or aspect == 1:
        return width, height
    wide = max(1, round(width * aspect))
    if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT or wide > MAX_SIDE:
        raise DecodeError(
            f"Cannot read {path}: its pixels are said to be {float(aspect):.4g} times as wide as high.",
            f"Write it with another shape: ffmpeg -i {str(path)!r} -vf setsar=1 fixed.mp4",
        )
    return wide, height


def colour_note(frame: Any) -> str:
    """Return what is done to high dynamic range, or an empty string."""
    curve = CURVES.get(frame.color_trc)
    return f"HDR ({curve}) tone-mapped to BT.709" if curve else ""


class Converter:
    """Turns decoded frames into RGB arrays as shown, all of the first one's size; keeps the scaler between frames.

    Args:
        path: the file, for messages.
        aspect: width over height of a pixel; None or 0 where it does not count.
        orientation: how the picture lies; None asks its display matrix.
    """

    def __init__(self, path: Path, aspect: Any = None, orientation: Orientation | None = None) -> None:
        self._path = path
        self._aspect = aspect
        self._scaler = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._orientation = orientation
        self._tone: ToneMap | None = None
        self._alpha = False

    def __call__(self, frame: Any) -> Picture:
        """Return uint8 (height, width, 3).

        Raises:
            DecodeError: the file's colours or its shape cannot be shown.
        """
        if self._size is None:
            check_size(self._path, frame.width, frame.height, frame.format)
            self._size = stored_size(self._path, frame, self._aspect)
            if self._orientation is None:
                self._orientation = Orientation.of(frame)
            # A palette may hold transparent colours.
            self._alpha = frame.format.name == "pal8" or any(c.is_alpha for c in frame.format.components)
            if frame.color_trc in CURVES:
                self._tone = ToneMap(frame.color_trc, wide=frame.color_primaries != 1)
        if frame.colorspace in _NO_MATRIX:
            raise DecodeError(
                f"Cannot read {self._path}: its colours are coded as {_NO_MATRIX[frame.colorspace]}.",
                f"Convert it: ffmpeg -i {str(self._path)!r} -vf zscale=matrix=709 -c:v libx264 -c:a aac fixed.mp4",
            )
        if self._tone is not None:
            rgb = self._tone(self._reformat(frame, "rgb48le"))
        elif self._alpha:
            rgb = np.empty((self._size[1], self._size[0], 3), np.uint8)
            on_white(self._reformat(frame, "rgba"), rgb)
        else:
            rgb = self._reformat(frame, "rgb24")
        assert self._orientation is not None
        return rgb if self._orientation == Orientation() else self._orientation(rgb)

    def _reformat(self, frame: Any, layout: str) -> Any:
        assert self._size is not None
        # Default swscale flags on purpose: the pixels are then those of OpenCV, torchcodec and decord,
        # which the reference implementations of the metrics read with.
        return self._scaler.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format=layout,
            src_colorspace=_MATRICES.get(frame.colorspace, Colorspace.DEFAULT),
            dst_color_range=ColorRange.JPEG,
            threads=1,
        ).to_ndarray()


def _bands(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _ROWS // width)
    for top in range(0, height, rows):
        yield slice(top, top + rows)


def on_white(rgba: Picture, rgb: Picture) -> None:
    """Show colours with their transparency on white: c a + 255 (1 - a), rounded; in integers, a band at a time."""
    for band in _bands(*rgba.shape[:2]):
        alpha = rgba[band, :, 3:].astype(np.uint32)
        blended = rgba[band, :, :3] * alpha + 255 * (255 - alpha)
        rgb[band] = (2 * blended + 255) // 510
