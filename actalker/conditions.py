"""What the sampler needs to know about a clip, and the interface that reads it from a user's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

        def move(t: Tensor) -> Tensor:
            return t.to(device, dtype)

        return replace(
            self,
            reference=self.reference.to(device),
            identity=self.identity.to(device, dtype),
            audio=_maybe(move, self.audio),
            silence=_maybe(move, self.silence),
            motion=_maybe(move, self.motion),
            stillness=_maybe(move, self.stillness),
            spatial=_maybe(move, self.spatial),
        )

    def frames(self, index: Tensor) -> Conditions:
        """The conditions of the frames in `index`."""

        def pick(t: Tensor) -> Tensor:
            return t if t.shape[1] == 1 else t[:, index.to(t.device)]

        return replace(
            self,
            reference=pick(self.reference),
            audio=_maybe(pick, self.audio),
            motion=_maybe(pick, self.motion),
            spatial=_maybe(pick, self.spatial),
            masks=self.masks.frames(index),
        )

    def followed_by(self, other: Conditions, mine: int) -> Conditions:
        """The last `mine` frames of these conditions, then `other`; whole-clip values are `other`'s."""

        def append(a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a[:, -mine:], b], dim=1)

        def join(a: Tensor, b: Tensor) -> Tensor:
            return b if a.shape[1] == b.shape[1] == 1 else append(a, b)

        return replace(
            other,
            reference=join(self.reference, other.reference),
            audio=_maybe(append, self.audio, other.audio),
            motion=_maybe(append, self.motion, other.motion),
            spatial=_maybe(join, self.spatial, other.spatial),
            masks=self.masks.followed_by(other.masks, mine),
        )

    def padded(self, count: int) -> Conditions:
        """Append `count` unconditional frames, which separate a clip's end from its beginning."""

        def extend(t: Tensor, filler: Tensor) -> Tensor:
            return torch.cat([t, filler[:, -1:].expand(-1, count, *t.shape[2:])], dim=1)

        def repeat(t: Tensor) -> Tensor:
            return t if t.shape[1] == 1 else extend(t, t)

        return replace(
            self,
            reference=repeat(self.reference),
            audio=_maybe(extend, self.audio, self.silence),
            motion=_maybe(extend, self.motion, self.stillness),
            spatial=_maybe(repeat, self.spatial),
            masks=self.masks.padded(count),
        )


def _maybe(change: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor | None:
    """`change` applied, or None when an argument is."""
    return None if any(t is None for t in tensors) else change(*tensors)


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
