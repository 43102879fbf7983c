"""From what a user has (picture, sound, driving video) to the embedded model's conditions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from actalker.components import Codec
from actalker.conditioning.audio import AudioProjection, take_steps
from actalker.conditioning.identity import IdentityProjection, IResNet
from actalker.conditioning.motion import MotionProjection
from actalker.conditioning.pose_guider import PoseGuider
from actalker.conditions import Conditions, Request
from actalker.config import Configured
from actalker.embedded import alignment
from actalker.embedded.encoders import SIZE, SmallAudioEncoder, SmallHeadExpression, SmallHeadPose
from actalker.embedded.reading import (
    AUDIO_RATE,
    Motion,
    Reader,
    location_image,
    masks,
    pose_numbers,
    smooth,
    without_mouth,
)
from actalker.errors import InputError
from actalker.masks import Box, control_masks

_BLANK = 0.02
"""Contrast (standard deviation, of a range of 2) below which a picture shows nothing."""

_PARTS: dict[str, type[Configured]] = {
    "pose_encoder": SmallHeadPose,
    "expression_encoder": SmallHeadExpression,
    "identity_encoder": IResNet,
    "audio_encoder": SmallAudioEncoder,
    "audio_projection": AudioProjection,
    "motion_projection": MotionProjection,
    "identity_projection": IdentityProjection,
    "pose_guider": PoseGuider,
}


class EmbeddedConditioner:
    """Conditions for the embedded model. The head is expected to fill the picture, as in the synthetic world.

    Args:
        reader: frozen encoders.
        audio, motion, identity, guider: projections trained with the UNet.
    """

    def __init__(
        self,
        reader: Reader,
        audio: AudioProjection,
        motion: MotionProjection,
        identity: IdentityProjection,
        guider: PoseGuider,
    ) -> None:
        self.reader = reader
        self.audio, self.motion, self.identity, self.guider = audio, motion, identity, guider

    def open(self, request: Request, codec: Codec) -> EmbeddedStream:
        """Read the portrait and the speech; the driving video is read as it is needed."""
        return EmbeddedStream(self, request, codec)

    def modules(self) -> dict[str, Configured]:
        """The stored parts by the name of their folder."""
        reader = self.reader
        parts = (reader.pose, reader.expression, reader.identity, reader.audio)
        return dict(zip(_PARTS, (*parts, self.audio, self.motion, self.identity, self.guider), strict=True))

    def to(self, device: torch.device) -> None:
        """Move everything to `device`; these networks are so small that they stay in single precision."""
        for module in self.modules().values():
            module.to(device)

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write one sub-folder per part."""
        for name, module in self.modules().items():
            module.save_pretrained(folder / name, dtype)

    @classmethod
    def from_pretrained(cls, folder: Path) -> EmbeddedConditioner:
        """Read what `save_pretrained` wrote.

        Raises:
            CheckpointError: a part is missing or does not fit.
        """
        parts: dict[str, Any] = {name: part.from_pretrained(folder / name) for name, part in _PARTS.items()}
        pose, expression, identity, audio, *projections = parts.values()
        return cls(Reader(pose, expression, identity, audio), *projections)


class EmbeddedStream:
    """Conditions of one request, front to back."""

    height = width = SIZE

    def __init__(self, conditioner: EmbeddedConditioner, request: Request, codec: Codec) -> None:
        self._parts, self._request, self._codec = conditioner, request, codec
        self._device = conditioner.motion.proj1.weight.device
        picture = self._picture(request.image, request.face)
        if picture.std() < _BLANK:
            raise InputError("no face found in the image: it is blank", "Use a picture whose middle shows a face.")
        self._portrait = picture
        self._own = conditioner.reader.motion(picture)
        with torch.no_grad():
            embedding = conditioner.reader.who(picture)
            self._identity = conditioner.identity(embedding)[:, None, None]
            self._windows: Tensor | None = None
            if request.gates.audio:
                if request.waveform is None:
                    raise InputError("gate audio is open, but there is no speech", "Pass audio=...")
                samples = torch.from_numpy(np.ascontiguousarray(request.waveform)).to(self._device)
                steps = conditioner.audio.steps(0, request.frames, request.fps, AUDIO_RATE)
                self._windows = take_steps(conditioner.reader.speech(samples), steps)
        self._done = 0
        self._driving: _Lookahead | None = None
        if request.gates.visual:
            if request.driving is None:
                raise InputError("gate visual is open, but there is no driving video", "Pass video=...")
            self._driving = _Lookahead(self._picture(frame, None) for frame in request.driving)

    @torch.no_grad()
    def read(self, count: int) -> Conditions:
        """Conditions of the next `count` frames."""
        parts, request = self._parts, self._request
        at = slice(self._done, self._done + count)
        self._done += count
        pose, motion, still = self._own.pose, None, None
        if self._driving is not None:
            driven = self._driving.read(count, parts.reader)
            pose = driven.pose
            expression, own = driven.expression, self._own.expression
            if request.gates.audio:
                expression, own = without_mouth(expression), without_mouth(own)
            motion = parts.motion(expression, pose_numbers(pose), (own, pose_numbers(self._own.pose)))[None]
            still = parts.motion.still()
        audio = silence = None
        if self._windows is not None:
            audio, silence = parts.audio(self._windows[at])[None], parts.audio.silent()
        if len(pose) == 1:
            warped = self._portrait
        else:
            n = len(pose)
            warped = alignment.warp(self._portrait.expand(n, -1, -1, -1), self._own.pose.expand(n, -1), pose)
        face, mouth = masks(torch.cat([self._own.pose, pose]), SIZE)
        return Conditions(
            reference=self._codec.encode(warped)[None],
            identity=self._identity,
            audio=audio,
            silence=silence,
            motion=motion,
            stillness=still,
            masks=control_masks(
                face, mouth, audio=request.gates.audio, visual=request.gates.visual, mode=request.masks
            ),
            spatial=parts.guider(location_image(face.to(self._device), pose[None])),
        )

    def _picture(self, frame: npt.NDArray[np.uint8], face: Box | None) -> Tensor:
        return square(frame, face).to(self._device)


class _Lookahead:
    """Reads a driving video in pieces; smoothing the pose needs one frame on either side of a piece."""

    def __init__(self, pictures: Iterator[Tensor]) -> None:
        self._pictures = pictures
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._before: Tensor | None = None

    def read(self, count: int, reader: Reader) -> Motion:
        """Motion of the next `count` frames; the last frame is held when the video ends too early."""
        new: list[Tensor] = []
        while len(self._waiting) + len(new) < count + 1:
            picture = next(self._pictures, None)
            if picture is None:
                break
            new.append(picture)
        if new:
            poses = reader.pose(torch.cat(new))
            self._waiting += [(picture, pose[None]) for picture, pose in zip(new, poses, strict=True)]
        if not self._waiting:
            raise InputError("the driving video has no frame")
        while len(self._waiting) < count:
            self._waiting.append(self._waiting[-1])
        known = [pose for _, pose in self._waiting[: count + 1]]
        first = known[0] if self._before is None else self._before
        last = known[-1] if len(known) == count else known[count]
        pose = smooth(torch.cat([first, *known[:count], last]))[1:-1]
        pictures = torch.cat([picture for picture, _ in self._waiting[:count]])
        self._before = known[count - 1]
        del self._waiting[:count]
        return Motion(pose, reader.expression(pictures, pose))


def square(frame: npt.NDArray[np.uint8], face: Box | None = None) -> Tensor:
    """Picture (H, W, 3) to (1, 3, 64, 64) in [-1, 1].

    Without a face box the middle square is taken; with one, the square in which the box has the size and
    place a head has in the synthetic world (four fifths of the height, centred).
    """
    height, width = frame.shape[:2]
    if face is None:
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
    else:
        x1, y1, x2, y2 = face
        side = max(x2 - x1, y2 - y1) / 0.75
        left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 127.5 - 1
    x, y, s = round(left), round(top), max(1, round(side))
    pad = (max(0, -x), max(0, x + s - width), max(0, -y), max(0, y + s - height))
    if any(pad):
        picture = F.pad(picture, pad, mode="replicate")
    picture = picture[:, :, y + pad[2] : y + pad[2] + s, x + pad[0] : x + pad[0] + s]
    if picture.shape[-1] == SIZE:
        return picture
    return F.interpolate(picture, size=(SIZE, SIZE), mode="bilinear", antialias=True)
