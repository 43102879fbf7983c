"""Which frame of a generated clip is compared with which frame of its reference.

Frames are paired by index at 25 fps, as self-reenactment needs. The longer clip loses its surplus; more than
two surplus frames mean that the clips are not what the user thinks, and there is no value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Reason, Unscored
from bench.core.views import ClipView, resident

MAX_SURPLUS = 2  # frames

Frames = npt.NDArray[np.uint8]


def check_lengths(generated: int, reference: int) -> int:
    """Return the number of pairs of two sequences of frames.

    Raises:
        Unscored: one is empty, or they differ by more than two frames.
    """
    if min(generated, reference) < 1:
        raise Unscored(Reason.TOO_SHORT, f"{generated} generated and {reference} reference frames")
    if abs(generated - reference) > MAX_SURPLUS:
        raise Unscored(
            Reason.LENGTH_MISMATCH,
            f"{generated} generated and {reference} reference frames differ by more than {MAX_SURPLUS}",
        )
    return min(generated, reference)


def require_reference(reference: ClipView | None) -> ClipView:
    """Return the reference.

    Raises:
        Unscored: there is none.
    """
    if reference is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no ground-truth video")
    return reference


def paired_chunks(clip: ClipView, reference: ClipView | None, size: int = 16) -> Iterator[tuple[Frames, Frames]]:
    """Yield generated and reference frames, each uint8 (n, height, width, 3) with the same n <= size.

    Tensors when both clips lie on the GPU, see `bench.core.views.resident`.

    Raises:
        Unscored: no reference, lengths differ by more than two frames, or the frame sizes differ.
    """
    reference = require_reference(reference)
    pairs = check_lengths(clip.frames, reference.frames)
    if (clip.width, clip.height) != (reference.width, reference.height):
        raise Unscored(
            Reason.SHAPE_MISMATCH,
            f"generated frames are {clip.width}x{clip.height}, reference frames "
            f"{reference.width}x{reference.height}; this protocol does not resize",
        )
    done = 0
    tensors = [resident(c) for c in (clip, reference)]
    if any(t is None for t in tensors):
        sides = [c.chunks(size) for c in (clip, reference)]
    else:
        sides = [t.split(size) for t in tensors]
    for ours, theirs in zip(*sides, strict=False):
        n = min(len(ours), len(theirs), pairs - done)
        if n > 0:
            yield ours[:n], theirs[:n]
        done += n


def summarize(values: npt.NDArray[Any], clip: ClipView, reference: ClipView | None = None) -> dict[str, float]:
    """Return `n_frames` and `coverage` of per-frame values: used frames over those of the longer clip."""
    frames = max(clip.frames, reference.frames if reference is not None else 0)
    return {"n_frames": float(len(values)), "coverage": len(values) / frames}
