"""A face finder without MediaPipe and its model file: one face in the middle, expressive when bright."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from actalker.components import Face
from actalker.conditioning import portrait
from actalker.conditioning.blendshapes import BLENDSHAPES


class Faces:
    def __init__(self, model: object = None, *, expressions: bool = False) -> None:
        pass

    def find(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        height, width = image.shape[:2]
        level = float(image.mean()) / 255

        def part(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
            return (x1 * width, y1 * height, x2 * width, y2 * height)

        return [
            Face(
                part(0.2, 0.15, 0.8, 0.9),
                part(0.35, 0.6, 0.65, 0.8),
                part(0.25, 0.25, 0.75, 0.8),
                blendshapes=(level,) * BLENDSHAPES,
                head=(0.0, 10 * level, 0.0, 0.0, 0.0, 0.0),
            )
        ]


def install(put: Callable[[Any, str, object], None]) -> None:
    """Let every conditioner look with it."""
    put(portrait, "MediaPipeFaces", Faces)
