"""Motion without trained files: MediaPipe's blendshapes and head matrix in place of the two motion encoders.

The released expression and head-pose encoders cannot be had any more. These two take their roles: what they return
comes with the face a finder found, and the motion projection, which is trained with the model, learns to read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from actalker.components import Face
from actalker.conditioning.motion import POSE_NUMBERS
from actalker.config import Configured
from actalker.errors import InputError

BLENDSHAPES = 52


@dataclass(frozen=True, slots=True)
class BlendshapesConfig:
    """Attributes:
    features: coefficients per face (MediaPipe's Face Landmarker gives 52).
    """

    features: int = BLENDSHAPES


class Blendshapes(Configured):
    """The expression as a finder's blendshape coefficients; no weights."""

    Config = BlendshapesConfig
    config: BlendshapesConfig

    def __init__(self, config: BlendshapesConfig | None = None) -> None:
        super().__init__()
        self.config = config or BlendshapesConfig()

    def read(self, face: Face) -> Tensor:
        """Coefficients of a face, (1, features) in [0, 1].

        Raises:
            InputError: the face finder gives none.
        """
        if face.blendshapes is None or len(face.blendshapes) != self.config.features:
            raise InputError(
                f"this model reads expressions from {self.config.features} blendshapes, and the face has none",
                "Use MediaPipe's Face Landmarker with blendshapes, and frames in which it finds the face.",
            )
        return torch.tensor([face.blendshapes])

    def forward(self, coefficients: Tensor) -> Tensor:
        """(n, features) -> the same: nothing is learned here."""
        return coefficients


@dataclass(frozen=True, slots=True)
class HeadMatrixConfig:
    """Nothing to choose."""


class HeadMatrix(Configured):
    """The head pose as a finder's transformation matrix; no weights."""

    Config = HeadMatrixConfig
    config: HeadMatrixConfig

    def __init__(self, config: HeadMatrixConfig | None = None) -> None:
        super().__init__()
        self.config = config or HeadMatrixConfig()

    def read(self, face: Face) -> Tensor:
        """Pose of a face, (1, 6): rotation in degrees, translation in decimetres.

        Raises:
            InputError: the face finder gives none.
        """
        if face.head is None or len(face.head) != POSE_NUMBERS:
            raise InputError(
                "this model reads the head's pose from MediaPipe's matrix, and the face has none",
                "Use MediaPipe's Face Landmarker, and frames in which it finds the face.",
            )
        return torch.tensor([face.head])

    def forward(self, pose: Tensor) -> Tensor:
        """(n, 6) -> the same."""
        return pose
