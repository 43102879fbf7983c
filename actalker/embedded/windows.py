"""Training windows of the embedded model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from actalker.conditioning.audio import AudioProjection, take_steps
from actalker.embedded import alignment
from actalker.embedded.codec import PatchCodec
from actalker.embedded.encoders import BLINK, SIZE
from actalker.embedded.reading import (
    AUDIO_RATE,
    FPS,
    Reader,
    box_masks,
    location_image,
    pose_numbers,
    without_mouth,
)
from actalker.gates import Gates
from actalker.training.data import Features, TrainingClip, Window

BLINK_SHARE = 0.4
"""Share of the windows with an open motion branch that are drawn around a blink, where the clip has one."""


class EmbeddedPreparation:
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
            "identity": self.reader.who(pictures[::10]).half(),
            "audio": take_steps(hidden, self.audio.steps(0, len(frames), FPS, AUDIO_RATE)).half(),
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
            start = self._start(clip, frames, gates, generator)
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
        eyes = self._eye_weight(x["expression"].flatten(0, 1)) if gates.visual else 2.0
        weight = alignment.region_weight(pose.flatten(0, 1), SIZE, eyes=eyes)
        face, mouth = box_masks(x["face_box"][:, None], x["mouth_box"][:, None], SIZE)
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
            location=location_image(face, pose),
            face=face,
            mouth=mouth,
            weight=F.avg_pool2d(weight, self.codec.config.patch).unflatten(0, (batch, frames)),
        )

    def _shut(self, expression: Tensor) -> Tensor:
        """How far the eyes are shut, 0..1, for expressions (n, 10)."""
        scale = self.reader.expression
        return (expression * scale.spread + scale.mean)[:, BLINK].amax(1).clamp(0, 1)

    def _eye_weight(self, expression: Tensor) -> Tensor:
        """Weight of the eyes: three times as much while they are shut."""
        return 12 * (1 + 2 * self._shut(expression))

    def _start(self, clip: Features, frames: int, gates: Gates, generator: torch.Generator) -> int:
        """First frame of a window. Blinks are rare, so part of the windows are drawn around one."""
        last = int(clip["frames"]) - frames
        start = int(torch.randint(last + 1, (1,), generator=generator))
        around = float(torch.rand(1, generator=generator)) < BLINK_SHARE
        inside = int(torch.randint(frames, (1,), generator=generator))
        shut = torch.nonzero(self._shut(clip["expression"]) > 0.4).flatten()
        if not (around and gates.visual and len(shut)):
            return start
        blink = int(shut[int(torch.randint(len(shut), (1,), generator=generator))])
        return min(max(0, blink - inside), last)

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
