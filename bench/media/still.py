"""What Pillow knows better about stills: orientation tags, TIFF, and animated WebP."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from bench.media.errors import DecodeError
from bench.media.pictures import MAX_BYTES, Orientation, Picture, on_white
from bench.media.probe import identity

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ANIMATED = b"ANIM"


def read_with_pillow(path: Path) -> Picture | None:
    """Return the first picture of a TIFF or animated WebP as uint8 (height, width, 3), RGB; None for other files.

    FFmpeg refuses sound TIFF files or reads damaged ones, and knows no animated WebP.

    Raises:
        DecodeError: unreadable, damaged or too large.
    """
    identity(path)
    with path.open("rb") as file:
        head = file.read(64)
    tiff = head[:4] in _TIFF
    if not tiff and not (head[:4] == b"RIFF" and head[8:12] == b"WEBP" and _ANIMATED in head):
        return None
    from PIL import Image, ImageOps

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(path, formats=("TIFF" if tiff else "WEBP",)) as image,
        ):
            width, height = image.size
            if width * height * 10 > MAX_BYTES:
                raise DecodeError(f"Cannot read {path}: {width}x{height} pixels are too many.", "Scale it down.")
            image.load()
            shown = ImageOps.exif_transpose(image)
            if shown.mode.startswith(("I;16", "I", "F")):
                return _grey(path, np.asarray(shown))
            if shown.has_transparency_data:
                rgba = np.asarray(shown.convert("RGBA"))
                rgb = np.empty((*rgba.shape[:2], 3), np.uint8)
                on_white(rgba, rgb)
                return rgb
            return np.array(shown.convert("RGB"))
    except DecodeError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        raise DecodeError(
            f"Cannot read {path}: {error}. It is damaged, incomplete or not a picture.",
            "Save it again as PNG.",
        ) from error


def exif_orientation(path: Path) -> Orientation:
    """Return how a photograph lies, by its EXIF tag; as it is stored where the tag is missing or damaged."""
    from PIL import ExifTags, Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return Orientation.of_exif(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # not a format of Pillow's, or a tag that is no number
        return Orientation()


def _grey(path: Path, values: Picture) -> Picture:
    """Show 16-bit grey as 8-bit RGB.

    Raises:
        DecodeError: numbers without a known range.
    """
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise DecodeError(f"Cannot read {path}: its numbers are not grey levels.", "Save it again as PNG.")
    return np.repeat((values.astype(np.uint32) * 255 // 65535).astype(np.uint8)[..., None], 3, axis=2)
