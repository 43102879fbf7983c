"""Reading faces and speech with the embedded model's frozen encoders.

Training and inference read through the same `Reader`, so the network is trained on the errors its encoders make.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from actalker.conditioning.identity import IResNet
from actalker.embedded import alignment
from actalker.embedded.encoders import MOUTH, SmallAudioEncoder, SmallHeadExpression, SmallHeadPose, for_identity

FPS = 25.0
AUDIO_RATE = 50.0
PEAK = 0.7
FACE_MARGIN = 1.2
"""The control mask is the face box enlarged by this factor, as in the released script."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What a face does.

    Attributes:
        pose: (n, 6) yaw, pitch, roll in radians, x, y, scale.
        expression: (n, 10), see `encoders.EXPRESSION`.
    """

    pose: Tensor
    expression: Tensor

    def frames(self, index: Tensor) -> Motion:
        """The motion of the frames in `index`."""
        return Motion(self.pose[index], self.expression[index])


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """The frozen encoders: pose, expression, identity, audio."""

    pose: SmallHeadPose
    expression: SmallHeadExpression
    identity: IResNet
    audio: SmallAudioEncoder

    @torch.no_grad()
    def motion(self, pictures: Tensor) -> Motion:
        """Read consecutive pictures (n, 3, 64, 64) in [-1, 1]; the pose is smoothed over three frames."""
        pose = torch.cat([self.pose(part) for part in pictures.split(64)])
        pose = smooth(pose)
        parts = zip(pictures.split(64), pose.split(64), strict=True)
        return Motion(pose, torch.cat([self.expression(picture, p) for picture, p in parts]))

    @torch.no_grad()
    def who(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, 64, 64) to identity embeddings (n, e)."""
        return self.identity(for_identity(pictures))

    @torch.no_grad()
    def speech(self, samples: Tensor) -> Tensor:
        """Samples (s,) at 16 kHz to hidden states (steps, 1, channels) at 50 Hz; loudness does not matter."""
        return self.audio.encode(samples * (PEAK / samples.abs().max().clamp_min(1e-4)))


def smooth(pose: Tensor) -> Tensor:
    """Average poses (n, 6) over three frames with weights 1:2:1; the ends repeat."""
    if len(pose) < 3:
        return pose
    padded = torch.cat([pose[:1], pose, pose[-1:]])
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def pose_numbers(pose: Tensor) -> Tensor:
    """Poses (..., 6) in the units `MotionProjection` takes: degrees, and offsets whose spread is about one."""
    offset = torch.stack([pose[..., 3], pose[..., 4], pose[..., 5] - 1], -1) * 15
    return torch.cat([torch.rad2deg(pose[..., :3]), offset], -1)


def without_mouth(expression: Tensor) -> Tensor:
    """Hide the articulation (..., 10): when audio is open, the mouth is its business."""
    expression = expression.clone()
    expression[..., MOUTH] = 0
    return expression


def masks(pose: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return face and mouth masks (1, 1, size, size), the union over the poses (n, 6)."""
    return box_masks(alignment.face_box(pose, size)[None], alignment.mouth_box(pose, size)[None], size)


def box_masks(face: Tensor, mouth: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Boxes (b, n, 4) to 0/1 masks (b, 1, size, size) of their unions' bounding boxes."""
    pair = []
    for boxes, factor in ((face, FACE_MARGIN), (mouth, 1.0)):
        low, high = boxes[..., :2].amin(1), boxes[..., 2:].amax(1)
        centre, half = (low + high) / 2, (high - low) / 2 * factor
        at = torch.arange(size) + 0.5
        inside = [(at >= (centre - half)[:, i : i + 1]) & (at < (centre + half)[:, i : i + 1]) for i in (0, 1)]
        pair.append((inside[1][:, :, None] & inside[0][:, None, :]).float()[:, None])
    return pair[0], pair[1]


def location_image(face: Tensor, pose: Tensor) -> Tensor:
    """The pose guider's picture (b, f, 5, H, W): face mask, mouth and eyes where the pose puts them, and which
    point of the head is seen where.

    The last two let coarse latents place an eyelid or a lip to a fraction of their cells.

    Args:
        face: face mask (b, 1, H, W).
        pose: (b, f, 6).
    """
    batch, frames = pose.shape[:2]
    poses, size = pose.flatten(0, 1), face.shape[-1]
    maps = torch.cat([alignment.regions(poses, size), alignment.coordinates(poses, size)], 1)
    maps = maps.unflatten(0, (batch, frames))
    return torch.cat([face[:, :, None].expand(-1, frames, -1, -1, -1), maps], 2)
