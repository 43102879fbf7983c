"""Changing the frame rate of frames on their way to the encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


def retime(frames: Iterable[Frame], source: float, target: float) -> Iterator[Frame]:
    """Yield frames at another rate by repeating or dropping whole frames; nothing is blended.

    The rule is that of `bench.media.decode.resample_plan`: frame k takes output slot round(k * target /
    source), halves up; a later frame in the same slot replaces it and an empty slot repeats the one before.
    """
    if source == target:
        yield from frames
        return
    ratio = Fraction(target).limit_denominator(1001) / Fraction(source).limit_denominator(1001)
    shown = 0
    held: Frame | None = None
    count = 0
    for frame in frames:
        slot = int(count * ratio + Fraction(1, 2))
        while held is not None and shown < slot:
            yield held
            shown += 1
        held = frame
        count += 1
    end = max(1, int(count * ratio + Fraction(1, 2)))
    while held is not None and shown < end:
        yield held
        shown += 1
