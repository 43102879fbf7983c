"""Clips made of arrays, for metrics that see clips only through their interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from bench.spec import Unscored


class ArrayClip:
    """A ClipView over frames in memory and given features."""

    fps = 25.0
    image = None
    truth = None

    def __init__(
        self, frames=None, features: Mapping | None = None, n: int = 0, size=(256, 256), name="clip"
    ):
        self.path = Path(f"{name}.mp4")
        self._frames = frames
        self.frames = n if frames is None else len(frames)
        self.height, self.width = size if frames is None else frames.shape[1:3]
        self._features = features or {}
        self.swapped: Mapping[str, ArrayClip] | None = None

    def chunks(self, size: int = 32) -> Iterator[np.ndarray]:
        for start in range(0, self.frames, size):
            yield self._frames[start : start + size]

    def audio(self):
        return None

    def features(self, extractor: str):
        found = self._features[extractor]
        if isinstance(found, Unscored):
            raise found
        return found


@pytest.fixture
def array_clip() -> type[ArrayClip]:
    return ArrayClip
