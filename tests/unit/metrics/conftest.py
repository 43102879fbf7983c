"""Clips made of arrays, for metrics that see clips only through their interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from bench.core.spec import Unscored


class ArrayClip:
    """A ClipView over frames in memory and given features."""

    fps = 25.0
    image = None
    truth = None

    def __init__(self, frames=None, features: Mapping | None = None, n: int = 0, size=(256, 256), name="clip"):
        self.path = Path(f"{name}.mp4")
        self._frames = frames
        self.frames = n if frames is None else len(frames)
        self.height, self.width = size if frames is None else frames.shape[1:3]
        self._features = features or {}
        self.swapped: dict[str, ArrayClip] = {}

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


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """R_y(yaw) R_x(pitch) R_z(roll), angles in degrees."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


class Face:
    """Features of a made-up face track that tests then change.

    The face does not move; its outer eye corners are 100 px apart in a 256x256 frame.
    """

    def __init__(self, n: int, size: tuple[int, int] = (256, 256), seed: int = 0):
        generator = np.random.default_rng(seed)
        face = generator.uniform([60, 60, -40], [200, 200, 40], (478, 3))
        face[33], face[263] = (78, 100, 0), (178, 100, 0)
        self.landmarks = np.repeat(face[None], n, axis=0).astype(np.float32)
        self.blendshapes = np.full((n, 52), 0.2, np.float32)
        self.matrices = np.repeat(np.eye(4, dtype=np.float32)[None], n, axis=0)
        self.valid = np.ones(n, dtype=bool)
        self.size = np.array(size)

    def turn(self, angles) -> None:
        """Set yaw, pitch, roll of every frame, shape (n, 3), under a scale of 1.3 as MediaPipe has one."""
        for matrix, (yaw, pitch, roll) in zip(self.matrices, angles, strict=True):
            matrix[:3, :3] = 1.3 * rotation(yaw, pitch, roll)

    def lose(self, *frames: int) -> None:
        for index in frames:
            self.valid[index] = False
            for array in (self.landmarks, self.blendshapes, self.matrices):
                array[index] = np.nan

    def clip(self) -> ArrayClip:
        names = ("landmarks", "blendshapes", "matrices", "valid", "size")
        features = {"faces": {name: getattr(self, name) for name in names}}
        return ArrayClip(features=features, n=len(self.valid), size=tuple(self.size[::-1]))


@pytest.fixture
def make_face() -> type[Face]:
    return Face
