"""The numbers that describe a synthetic face, and how they are drawn.

A frame is decided by four vectors: identity (16 numbers), expression (10), pose (6) and nuisance (9:
background, light, clothes). Identities, clips and everything else random come from seed namespaces, one per
partition, so that training, validation and test data cannot share a face or a sentence.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Partition = Literal["train", "validation", "test"]

IDENTITY = (
    "aspect",
    "jaw",
    "skin",
    "hair_colour",
    "hair_length",
    "hairline",
    "eye_spacing",
    "eye_size",
    "iris",
    "brow_thickness",
    "nose",
    "mouth_width",
    "lip_thickness",
    "beard",
    "glasses",
    "lip_red",
)
"""Identity numbers, each in [0, 1]. Beard shows above 0.68 and glasses above 0.70."""

EXPRESSION = (
    "open",
    "width",
    "round",
    "smile",
    "brow",
    "furrow",
    "blink_left",
    "blink_right",
    "gaze_x",
    "gaze_y",
)
"""Expression numbers. Ranges: open, round, furrow, blinks 0..1 (open up to 1.2); width -0.5..1; smile and
brow -0.6..1; gaze_x -0.9..0.9 and gaze_y -0.6..0.6. Left and right are those of the picture."""

POSE = ("yaw", "pitch", "roll", "x", "y", "scale")
"""Pose numbers: yaw (+-0.5), pitch (+-0.3) and roll in radians; x and y of the head centre in units of half
the picture's width; scale around 1. Beyond the stated angles features slide off the sphere."""

NUISANCE = (
    "background_red",
    "background_green",
    "background_blue",
    "background_slope",
    "light_x",
    "light_y",
    "clothes_red",
    "clothes_green",
    "clothes_blue",
)
"""What a metric should ignore; each in [0, 1]."""

_PARTITIONS: dict[str, int] = {"train": 1, "validation": 2, "test": 3}


def generator(partition: Partition, purpose: str, *index: int) -> np.random.Generator:
    """Return the random generator of one thing in one partition.

    Args:
        partition: `train`, `validation` or `test`; different partitions never share a stream.
        purpose: what is drawn, e.g. `identity`; different purposes are independent.
        index: non-negative integers that number the thing.
    """
    return np.random.default_rng([_PARTITIONS[partition], zlib.crc32(purpose.encode()), *index])


def identity(partition: Partition, index: int) -> Floats:
    """Return identity number `index` of a partition: shape (16,), uniform in [0, 1]."""
    return generator(partition, "identity", index).random(len(IDENTITY), dtype=np.float32)


def nuisance(rng: np.random.Generator, count: int = 1) -> Floats:
    """Draw background, light and clothes: shape (count, 9)."""
    values = rng.random((count, len(NUISANCE)), dtype=np.float32)
    values[:, :3] = 0.15 + 0.7 * values[:, :3]
    values[:, 6:9] = 0.1 + 0.75 * values[:, 6:9]
    return values
