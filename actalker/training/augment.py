"""Augmented copies of a training clip, as the released data set class draws them.

Source: `portrait_audio_dataset_arcface_vasa.py`: a random square or 9:16 or 16:9 crop around the face, and colour
changes on the crop that the expression is read from, so that it cannot carry what the face looks like.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from actalker.masks import Box
from actalker.preprocess import Picture

_ASPECTS = (1.0, 9 / 16, 16 / 9)
_GAIN = (0.3, 1.6)
_MEDIANS = (3, 5, 7, 9)


def generator(frame: Picture, variant: int) -> np.random.Generator:
    """Random numbers of one copy of a clip, decided by its first frame and the copy's number."""
    return np.random.default_rng([variant, zlib.crc32(np.ascontiguousarray(frame).tobytes())])


def random_crop(face: Box, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A crop (x1, y1, x2, y2) inside the picture that holds the face with up to its own size around it.

    Args:
        face: union of the face boxes of a clip.
        width, height: of the picture.
        rng: random numbers.
    """
    x1, y1, x2, y2 = face
    side = max(x2 - x1, y2 - y1) * (1 + rng.uniform(0, 2))
    aspect = float(rng.choice(_ASPECTS))
    w = min(float(width), max(side * max(1.0, aspect), x2 - x1))
    h = min(float(height), max(side * max(1.0, 1 / aspect), y2 - y1))
    left = min(max(0.0, (x1 + x2 - w) / 2), width - w)
    top = min(max(0.0, (y1 + y2 - h) / 2), height - h)
    return int(left), int(top), int(left + w), int(top + h)


def colour_change(rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A gain per channel, then a median blur or sharpening: the same for every frame of a copy.

    Returns:
        Changes crops (1, 3, h, w) in [0, 1].
    """
    gain = torch.from_numpy(rng.uniform(*_GAIN, 3).astype(np.float32)).view(1, 3, 1, 1)
    size = int(rng.choice(_MEDIANS))
    sharpen = bool(rng.random() < 0.5)

    def change(crop: Tensor) -> Tensor:
        changed = (crop * gain).clamp(0, 1).mul(255).round().byte()[0].permute(1, 2, 0).numpy()
        image = Image.fromarray(np.ascontiguousarray(changed))
        image = image.filter(ImageFilter.SHARPEN if sharpen else ImageFilter.MedianFilter(size))
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float().div(255)

    return change
