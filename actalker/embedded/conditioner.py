"""From what a user has (picture, sound, driving video) to the embedded model's conditions.

Training and inference read faces and speech through the same `Reader`, so the network is trained on the errors
its encoders make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from actalker.conditioning.audio import AudioProjection
from actalker.embedded import alignment
from actalker.embedded.codec import PatchCodec
from actalker.embedded.encoders import MOUTH, SIZE, SmallAudioEncoder, SmallHeadExpression, SmallHeadPose
from actalker.conditioning.identity import IResNet
from actalker.gates import Gates
from actalker.training.data import Features, TrainingClip, Window

FPS = 25.0
AUDIO_RATE = 50.0
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
    def speech(self, samples: Tensor) -> Tensor:
        """Samples (s,) in [-1, 1] at 16 kHz to hidden states (steps, 1, channels) at 50 Hz."""
        usable = samples[: len(samples) // 320 * 320]
        return self.audio(usable[None])[0][:, None]


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
    return _box_masks(alignment.face_box(pose, size)[None], alignment.mouth_box(pose, size)[None], size)


def _box_masks(face: Tensor, mouth: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Boxes (b, n, 4) to 0/1 masks (b, 1, size, size) of their unions' bounding boxes."""
    pair = []
    for boxes, factor in ((face, FACE_MARGIN), (mouth, 1.0)):
        low, high = boxes[..., :2].amin(1), boxes[..., 2:].amax(1)
        centre, half = (low + high) / 2, (high - low) / 2 * factor
        at = torch.arange(size) + 0.5
        inside = [
            (at >= (centre - half)[:, i : i + 1]) & (at < (centre + half)[:, i : i + 1]) for i in (0, 1)
        ]
        pair.append((inside[1][:, :, None] & inside[0][:, None, :]).float()[:, None])
    return pair[0], pair[1]


def location_image(face: Tensor) -> Tensor:
    """Face mask (b, 1, H, W) to the pose guider's picture (b, 1, 3, H, W)."""
    return face[:, :, None].expand(-1, -1, 3, -1, -1)


class EmbeddedConditioner:
    """Prepares training clips of the synthetic world (64×64) and cuts windows out of them.

    Args:
        reader: frozen encoders.
        codec: latents of pictures.
        audio: decides the audio windows (its weights are not used).
    """

    def __init__(self, reader: Reader, codec: PatchCodec, audio: AudioProjection) -> None:
        self.reader, self.codec, self.audio = reader, codec, audio

    @torch.no_grad()
    def prepare(self, clip: TrainingClip) -> Features:
        """Read motion, identity and speech of a clip once."""
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames)).permute(0, 3, 1, 2).contiguous()
        pictures = frames.float() / 127.5 - 1
        motion = self.reader.motion(pictures)
        hidden = self.reader.speech(torch.from_numpy(clip.audio).float() / 32768)
        return {
            "frames": torch.tensor(len(frames)),
            "pictures": frames,
            "pose": motion.pose,
            "expression": motion.expression,
            "identity": self.reader.identity(pictures[::10]).half(),
            "audio": self.audio.windows(hidden, len(frames), FPS, AUDIO_RATE).half(),
        }

    @torch.no_grad()
    def window(
        self, features: Sequence[Features], frames: int, gates: Gates, generator: torch.Generator
    ) -> Window:
        """Cut windows, warp a random reference of each clip to the target poses and encode both.

        With the motion branch closed nothing tells gaze, blinks and smile, so the reference is a frame that
        shares them (but not the mouth): the network learns to keep what it is not told to change.
        """

        def below(n: int) -> int:
            return int(torch.randint(n, (1,), generator=generator))

        columns: dict[str, list[Tensor]] = {}

        def put(**tensors: Tensor) -> None:
            for name, tensor in tensors.items():
                columns.setdefault(name, []).append(tensor)

        for clip in features:
            length = int(clip["frames"])
            start = below(length - frames + 1)
            at = slice(start, start + frames)
            reference = below(length) if gates.visual else self._alike(clip, start, frames, generator)
            # Masks at inference are unions over a whole video: vary how much they cover.
            first, last = below(start + 1), start + frames + below(length - start - frames + 1)
            span = clip["pose"][first:last]
            put(
                pictures=clip["pictures"][at],
                pose=clip["pose"][at],
                expression=clip["expression"][at],
                audio=clip["audio"][at],
                source=clip["pictures"][reference],
                source_pose=clip["pose"][reference],
                source_expression=clip["expression"][reference],
                identity=clip["identity"][min(reference // 10, len(clip["identity"]) - 1)],
                face_box=_union(alignment.face_box(span, SIZE)),
                mouth_box=_union(alignment.mouth_box(span, SIZE)),
            )
        x = {name: torch.stack(values) for name, values in columns.items()}
        batch = len(features)
        pose, source_pose = x["pose"], x["source_pose"]
        target = x["pictures"].flatten(0, 1).float() / 127.5 - 1
        source = (x["source"].float() / 127.5 - 1).repeat_interleave(frames, 0)
        warped = alignment.warp(source, source_pose.repeat_interleave(frames, 0), pose.flatten(0, 1))
        reference_latents = self.codec.encode(warped)
        clean = self.codec.encode(target)
        weight = alignment.region_weight(pose.flatten(0, 1), SIZE, eyes=10.0 if gates.visual else 2.0)
        face, mouth = _box_masks(x["face_box"][:, None], x["mouth_box"][:, None], SIZE)
        expression, source_expression = x["expression"], x["source_expression"]
        if gates.audio:
            expression, source_expression = without_mouth(expression), without_mouth(source_expression)
        return Window(
            clean=clean.unflatten(0, (batch, frames)),
            reference=reference_latents.unflatten(0, (batch, frames)),
            identity=x["identity"].float(),
            audio=x["audio"].float(),
            expression=expression,
            reference_expression=source_expression,
            pose=pose_numbers(pose),
            reference_pose=pose_numbers(source_pose),
            location=location_image(face),
            face=face,
            mouth=mouth,
            weight=F.avg_pool2d(weight, self.codec.config.patch).unflatten(0, (batch, frames)),
        )

    def _alike(self, clip: Features, start: int, frames: int, generator: torch.Generator) -> int:
        """A frame at least five frames from the window's middle whose eyes and smile are like the window's."""
        expression = clip["expression"][:, 3:]
        distance = (expression - expression[start : start + frames].mean(0)).square().sum(1)
        apart = (torch.arange(len(distance)) - (start + frames // 2)).abs()
        distance = distance.masked_fill(apart < 5, torch.inf)
        best = distance.topk(min(4, len(distance)), largest=False).indices
        return int(best[int(torch.randint(len(best), (1,), generator=generator))])


def _union(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])
