"""What the networks see of a portrait and of a driving frame: one set of functions for inference and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from actalker.components import Face
from actalker.conditioning.blendshapes import Blendshapes, HeadMatrix
from actalker.conditioning.motion import HeadExpression, HeadPose
from actalker.masks import Box, box_mask, mouth_box
from actalker.preprocess import Picture, expression_crop, location_image, pose_box, pose_crop, scale_box

Size = tuple[int, int]
"""(width, height) in pixels."""
ExpressionEncoder = HeadExpression | Blendshapes
PoseEncoder = HeadPose | HeadMatrix
Seen = tuple[Tensor, Tensor]
"""Inputs of expression and pose encoder for one frame, one row each."""


def lips(face: Face) -> Box:
    """Box of the lips, or the lower half of the face where no lips were found."""
    return face.mouth or mouth_box(face.box)


def face_masks(face: Box, mouth: Box, source: Size, size: Size, area: float) -> tuple[Tensor, Tensor]:
    """Where the face and where the mouth is.

    Args:
        face, mouth: boxes in the source picture, see `lips`.
        source, size: of the source picture and of the result.
        area: factor on the face box's sides.

    Returns:
        face-location image and mouth mask, each (1, 1, height, width) in [0, 1].
    """
    location = location_image(face, source, size, area)
    return location, box_mask(scale_box(mouth, source, size), size[1], size[0]) * location


class MotionReader:
    """Reads expression and head pose of faces.

    Args:
        expression, pose: the encoders; either may take its numbers from the face itself.
        working: side in pixels through which the pose crop is resampled, as released.
    """

    def __init__(self, expression: nn.Module, pose: nn.Module, working: int) -> None:
        self.expression, self.pose, self.working = expression, pose, working

    def see(
        self, picture: Picture, face: Face, box: Box, change: Callable[[Tensor], Tensor] | None = None
    ) -> Seen:
        """What the encoders read of one frame.

        Args:
            picture: the frame.
            face: the face in it.
            box: square for the pose crop, see `preprocess.pose_box`; the same for a whole video.
            change: augments the expression crop (1, 3, size, size) in [0, 1].
        """
        if isinstance(self.expression, Blendshapes):
            expression = self.expression.read(face)
        else:
            size = int(self.expression.config.size)  # type: ignore[arg-type]
            expression = expression_crop(picture, face.features or face.box, size)
            expression = expression if change is None else change(expression)
        if isinstance(self.pose, HeadMatrix):
            return expression, self.pose.read(face)
        return expression, pose_crop(picture, box, int(self.pose.config.size), self.working)  # type: ignore[arg-type]

    def own(self, picture: Picture, face: Face) -> Seen:
        """What the encoders read of a portrait, whose pose square lies around its own face."""
        return self.see(picture, face, pose_box(face.box, picture.shape[1], picture.shape[0]))

    def encode(self, seen: Sequence[Seen], device: torch.device) -> tuple[Tensor, Tensor]:
        """Expression (n, features) and pose (n, 6) of n frames."""
        expression, pose = (torch.cat(part).to(device) for part in zip(*seen, strict=True))
        return self.expression(expression), self.pose(pose)
