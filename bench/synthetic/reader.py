"""Reads pose, expression and landmarks off synthetic faces with the embedded networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.synthetic import embedded
from bench.synthetic.parameters import Floats

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 64
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader sees in T frames.

    Attributes:
        readings: (T, 10) float32, see `labels.READINGS`.
        pose: (T, 6) float32, see `parameters.POSE`.
        landmarks: (T, 43, 2) float32, x and y in pixels of the given frames, see `geometry.LANDMARKS`.
    """

    readings: Floats
    pose: Floats
    landmarks: Floats


def to_input(frames: npt.NDArray[np.uint8]) -> Tensor:
    """Return frames (T, H, W, 3) as the networks want them: (T, 3, 64, 64) in [0, 1].

    Other sizes are resampled with antialiasing; the picture is squashed if it is not square.
    """
    import torch
    from torch.nn.functional import interpolate

    x = torch.from_numpy(np.array(frames)).movedim(-1, 1).float() / 255
    if x.shape[2:] == (SIZE, SIZE):
        return x
    return interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def read(frames: npt.NDArray[np.uint8]) -> Reading:
    """Read frames of a synthetic face.

    Args:
        frames: uint8 (T, H, W, 3), RGB, T >= 1; the face fills the picture as it does in the world.

    Raises:
        Unscored: the embedded weights are missing.
    """
    import torch

    frame_net, face_net = embedded.load("frame"), embedded.load("face")
    height, width = frames.shape[1:3]
    parts: list[tuple[Floats, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(frames), _BATCH):
            x = to_input(frames[start : start + _BATCH])
            pose = frame_net.pose(x)
            values, points = face_net(x, pose)
            parts.append((values.numpy(), pose.numpy(), points.numpy()))
    values, pose, points = (np.concatenate(column) for column in zip(*parts, strict=True))
    scale = np.array([width, height], np.float32) / SIZE
    return Reading(values, pose, (points + 0.5) * scale - 0.5)


def read_landmarks(frames: npt.NDArray[np.uint8]) -> Floats:
    """Return the landmarks of frames (T, H, W, 3): (T, 43, 2) float32 in pixels, see `geometry.LANDMARKS`.

    Raises:
        Unscored: the embedded weights are missing.
    """
    return read(frames).landmarks
