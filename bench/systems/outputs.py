"""From the file a system left behind to frames that may be scored, or to a reason why not."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core.spec import Cause
from bench.media.decode import chunks
from bench.media.probe import DecodeError, resample_plan
from bench.media.retime import retime
from bench.methods.base import GenerationFailed
from bench.systems.contract import Output
from bench.systems.inputs import FPS, Inputs

_VIDEO = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")

Frame = npt.NDArray[np.uint8]


class NoOutput(Exception):
    """A run that left nothing usable; the text says what was looked for and what is there instead."""


def find_output(output: Output, inputs: Inputs, cwd: Path) -> Path:
    """Return the one file that matches the contract.

    Raises:
        NoOutput: none or several.
    """
    for pattern in output.glob:
        filled = inputs.fill(pattern)
        base = Path(filled) if Path(filled).is_absolute() else cwd / filled
        matches = [
            Path(name)
            for name in sorted(glob.glob(str(base)))  # noqa: PTH207 - absolute patterns
            if not any(fnmatch(Path(name).name, e) for e in output.exclude) and Path(name).is_file()
        ]
        if len(matches) > 1:
            names = ", ".join(m.name for m in matches[:5])
            raise NoOutput(f"{len(matches)} files match {pattern}: {names}")
        if matches:
            return matches[0]
    others = [p for root in (inputs.job / "out", cwd) for p in _videos(root)]
    instead = f"; other videos there: {', '.join(sorted({p.name for p in others})[:5])}" if others else ""
    raise NoOutput(f"no file matches {' or '.join(output.glob)}{instead}")


def _videos(root: Path) -> Iterator[Path]:
    # Links lead into the checkout, whose sample videos are nobody's result.
    for path in root.iterdir() if root.is_dir() else ():
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _videos(path)
        elif path.suffix.lower() in _VIDEO:
            yield path


def check_output(path: Path, output: Output, frames: int) -> None:
    """Decode the whole file once and compare it with the contract and with the length asked for.

    Args:
        path: the file.
        output: what the contract says of it.
        frames: how many frames at 25 fps the sample needs.

    Raises:
        NoOutput: it does not decode, has another layout, or is too short.
    """
    try:
        plan = resample_plan(path, None)
        total = 0
        for chunk in chunks(path, None):
            _cut(chunk, output)
            total += len(chunk)
        if output.retime == "frames":
            seconds = plan.native_frames / output.rate
        else:
            seconds = resample_plan(path, FPS).frames / FPS
    except DecodeError as error:
        raise NoOutput(f"{path.name} does not decode: {error.message}") from error
    usable = seconds - output.drop_start - output.drop_end + output.starts_at
    if usable < frames / FPS - output.hold - 1e-6:
        raise NoOutput(f"{path.name} lasts {usable:.2f} s where {frames / FPS:.2f} s were asked for: truncated")


def read_output(path: Path, output: Output, frames: int) -> Iterator[Frame]:
    """Yield exactly `frames` frames at 25 fps: retimed, aligned, cropped. Call `check_output` first.

    Args:
        path: the file.
        output: what the contract says of it.
        frames: how many frames the sample needs.

    Yields:
        uint8 (height, width, 3), RGB.
    """
    if output.retime == "frames":
        native = (frame for chunk in chunks(path, None) for frame in chunk)
        timed: Iterator[Frame] = retime(native, output.rate, float(FPS))
    else:
        timed = (frame for chunk in chunks(path, float(FPS)) for frame in chunk)
    body: Iterator[Frame] = islice(timed, round(output.drop_start * FPS), None)
    if output.drop_end:
        body = _until_end(body, round(output.drop_end * FPS))
    first = next(body, None)
    if first is None:
        raise GenerationFailed(Cause.METHOD, f"{path.name} has no frame left between its dropped ends.")
    late = round(output.starts_at * FPS)
    shown = 0
    last = first
    for frame in islice(chain(repeat(first, late), [first], body), frames):
        last = _cut(frame, output)
        yield last
        shown += 1
    yield from repeat(last, frames - shown)


def _until_end(frames: Iterator[Frame], dropped: int) -> Iterator[Frame]:
    """Yield all but the last `dropped` frames."""
    waiting: list[Frame] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) > dropped:
            yield waiting.pop(0)


def _cut(pictures: Frame, output: Output) -> Frame:
    """Return the part of (..., height, width, 3) that is the result.

    Raises:
        NoOutput: the picture has not the size the crop belongs to.
    """
    height, width = pictures.shape[-3:-1]
    if output.panel:
        columns = output.panel.columns
        if width % columns:
            raise NoOutput(f"the picture is {width} wide, which {columns} equal panels do not divide")
        part = width // columns
        return np.ascontiguousarray(pictures[..., part * output.panel.index : part * (output.panel.index + 1), :])
    if output.crop:
        if (width, height) != output.frame_size:
            wanted = "x".join(map(str, output.frame_size))
            raise NoOutput(f"the picture measures {width}x{height}, and the crop belongs to {wanted}")
        x, y, w, h = output.crop
        return np.ascontiguousarray(pictures[..., y : y + h, x : x + w, :])
    return pictures
