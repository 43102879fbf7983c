"""Decoding pictures: frames on the 25 fps grid, and stills. With `bench.media.sound` the only reader there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.media.errors import DecodeError
from bench.media.pictures import Converter, Picture, check_size
from bench.media.probe import decoded, is_still, open_media, pixel_aspect, resample_plan, video_stream
from bench.media.sound import SAMPLE_RATE, read_audio
from bench.media.still import exif_orientation, read_with_pillow
from bench.media.timeline import FPS, ResamplePlan

__all__ = ["FPS", "SAMPLE_RATE", "ResamplePlan", "chunks", "read_audio", "read_image", "resample_plan"]

_CHUNK_BYTES = 256 * 2**20


def chunks(path: Path, fps: float | None = FPS, size: int = 32) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the video's frames in order as uint8 arrays (n, height, width, 3), RGB, n <= size.

    Orientation metadata and non-square pixels are applied; 10-bit and other formats become 8-bit RGB, with the
    file's own colour matrix and range (BT.601, limited, where it says nothing); high dynamic range is tone-mapped
    (`bench.media.hdr`); transparent pixels are shown on white. Interlaced video is not deinterlaced. Resampling is
    by time stamp, see `bench.media.timeline.resample`. Memory: one chunk, of at most 256 MiB.

    Args:
        path: a video.
        fps: output frame rate; None keeps the native frames.
        size: frames per chunk; fewer where they are large.

    Raises:
        DecodeError: unreadable, damaged, or fewer frames than the file announces.
    """
    plan = resample_plan(path, fps)
    repeats = np.bincount(plan.indices, minlength=plan.native_frames)
    batch: list[Picture] = []
    count = 0
    with open_media(path) as container:
        convert = Converter(path, pixel_aspect(video_stream(path, container)))
        for frame in decoded(path, container):
            if count < len(repeats) and repeats[count]:
                picture = convert(frame)
                for _ in range(repeats[count]):
                    batch.append(picture)
                    if len(batch) >= min(size, max(1, _CHUNK_BYTES // picture.nbytes)):
                        yield np.stack(batch)
                        batch = []
            count += 1
    if count != plan.native_frames:
        raise DecodeError(
            f"Cannot read {path}: it announces {plan.native_frames} frames but {count} can be decoded.",
            "The file is incomplete or damaged: fetch or make it again, or leave it out.",
        )
    if batch:
        yield np.stack(batch)


def read_image(path: Path) -> Picture:
    """Return a picture (or a video's first frame) as uint8 (height, width, 3), RGB.

    Orientation metadata is applied; transparent pixels are shown on white. A picture's density does not count: it
    is about paper. Of an animated picture the first is read. Memory: the decoded picture and its RGB pixels.

    Raises:
        DecodeError: unreadable, damaged, too large, or not a picture.
    """
    if (picture := read_with_pillow(path)) is not None:
        return picture
    with open_media(path) as container:
        stream = video_stream(path, container)
        check_size(path, stream.codec_context.width, stream.codec_context.height, stream.codec_context.format)
        if is_still(container):
            for frame in container.decode(stream):
                return Converter(path, None, exif_orientation(path))(frame)
        else:
            for frame in decoded(path, container):
                return Converter(path, pixel_aspect(stream))(frame)
    raise DecodeError(f"Cannot read {path}: it holds no picture.", "Give another picture.")
