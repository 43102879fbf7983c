"""What a pipeline hands back: frames while they are made, and reports of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from actalker.request import Picture
from actalker.sampler import OnStep

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any] | None]
"""`callback(pipeline, step, timestep, {"latents": ...})`, as diffusers calls it."""


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """A clip being generated; iterate over it once.

    Attributes:
        frames: RGB frames, computed while they are consumed: uint8 (height, width, 3), or as `output_type` says.
        count: how many there will be.
        fps: their frame rate.
        height, width: their size.
    """

    frames: Iterator[Any]
    count: int
    fps: float
    height: int
    width: int

    def __iter__(self) -> Iterator[Any]:
        return self.frames

    def __len__(self) -> int:
        return self.count


def reporting(pipeline: Any, callback: StepCallback) -> OnStep:
    """Call a diffusers callback after each step; the latents it returns, if any, replace the present ones."""

    def on_step(step: int, time: Tensor, latents: Tensor) -> Tensor:
        returned = callback(pipeline, step, time, {"latents": latents}) or {}
        return returned.get("latents", latents)

    return on_step


OUTPUTS: dict[str, Callable[[Picture], Any]] = {
    "np": lambda frame: frame,
    "pil": Image.fromarray,
    "pt": lambda frame: torch.from_numpy(frame.copy()).permute(2, 0, 1).float().div(255),
}
"""How a frame is handed out, by `output_type`."""
