"""What the sampler needs to know about a clip, and the interface that reads it from a user's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from actalker.components import Codec
from actalker.gates import Gates
from actalker.masks import Box, ControlMasks, MaskMode


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One clip to generate, checked: what an open gate needs is there, what a closed one excludes is not.

    Attributes:
        image: portrait, uint8 RGB (H, W, 3), as read.
        waveform: mono float32 in [-1, 1] at 16 kHz, at least as long as the clip; None when audio is closed.
        driving: driving frames, uint8 RGB (H, W, 3), at the model's frame rate, at least `frames` of them;
            None when motion is closed. Consumed once.
        gates: which branches are open.
        frames: output frames.
        fps: the model's frame rate.
        masks: mask mode with both gates open.
        face: the portrait's face box (x1, y1, x2, y2) in pixels, or None to find it.
        largest_face: take the largest face where several are found, instead of refusing.
    """

    image: npt.NDArray[np.uint8]
    waveform: npt.NDArray[np.float32] | None
    driving: Iterator[npt.NDArray[np.uint8]] | None
    gates: Gates
    frames: int
    fps: float
    masks: MaskMode
    face: Box | None = None
    largest_face: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """Conditions of consecutive frames of one clip; a frame dimension of 1 means "the same in every frame".

    Attributes:
        reference: latents of the portrait, unscaled (1, frames or 1, c, h, w).
        identity: token (1, 1, 1, condition).
        audio: tokens (1, frames, n, condition), None when the branch is closed.
        silence: unconditional audio tokens (1, 1, n, condition), None when the branch is closed.
        motion: tokens (1, frames, m, condition), None when the branch is closed.
        stillness: unconditional motion tokens (1, 1, m, condition), None when the branch is closed.
        masks: where audio and motion act.
        spatial: pose-guider features (1, frames or 1, channels, h, w), or None.
    """

    reference: Tensor
    identity: Tensor
    audio: Tensor | None
    silence: Tensor | None
    motion: Tensor | None
    stillness: Tensor | None
    masks: ControlMasks
    spatial: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditions:
        """On `device`; tokens and features as `dtype`, reference latents as they are."""

        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device, dtype)

        return replace(
            self,
            reference=self.reference.to(device),
            identity=self.identity.to(device, dtype),
            audio=move(self.audio),
            silence=move(self.silence),
            motion=move(self.motion),
            stillness=move(self.stillness),
            spatial=move(self.spatial),
        )

    def frames(self, index: Tensor) -> Conditions:
        """The conditions of the frames in `index`."""

        def pick(t: Tensor | None) -> Tensor | None:
            return t if t is None or t.shape[1] == 1 else t[:, index.to(t.device)]

        return replace(
            self,
            reference=pick(self.reference),
            audio=pick(self.audio),
            motion=pick(self.motion),
            spatial=pick(self.spatial),
            masks=self.masks.frames(index),
        )

    def followed_by(self, other: Conditions, mine: int) -> Conditions:
        """The last `mine` frames of these conditions, then `other`; whole-clip values are `other`'s."""

        def join(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return b if a is None or b is None or b.shape[1] == 1 else torch.cat([a[:, -mine:], b], dim=1)

        return replace(
            other,
            reference=join(self.reference, other.reference),
            audio=join(self.audio, other.audio),
            motion=join(self.motion, other.motion),
            spatial=join(self.spatial, other.spatial),
        )

    def padded(self, count: int) -> Conditions:
        """Append `count` unconditional frames, which separate a clip's end from its beginning."""

        def extend(t: Tensor | None, filler: Tensor | None) -> Tensor | None:
            if t is None or filler is None or (t.shape[1] == 1 and filler is t):
                return t
            return torch.cat([t, filler[:, -1:].expand(-1, count, *t.shape[2:])], dim=1)

        return replace(
            self,
            reference=extend(self.reference, self.reference),
            audio=extend(self.audio, self.silence),
            motion=extend(self.motion, self.stillness),
            spatial=extend(self.spatial, self.spatial),
        )


class ConditionStream(Protocol):
    """Conditions of one request, read front to back.

    Attributes:
        height, width: size of the output in pixels.
    """

    height: int
    width: int

    def read(self, count: int) -> Conditions:
        """Conditions of the next `count` frames; never more than the request's frames in all."""


class Conditioner(Protocol):
    """Turns portrait, speech and driving video into conditions. Holds the encoders; stored with the model.

    A conditioner named in `model_index.json` also has the class method `from_pretrained(folder)` and the
    method `save_pretrained(folder, dtype=None)`.
    """

    def open(self, request: Request, codec: Codec) -> ConditionStream:
        """Check the inputs and read what does not change over time; `codec` encodes the portrait.

        Raises:
            actalker.errors.InputError: no face, several faces, or a signal that cannot be used.
        """

    def to(self, device: torch.device) -> Any:
        """Move the encoders; they run in single precision."""
