"""Control masks: which tokens of a feature map a driving signal may touch.

A mask is an image in [0, 1] at pixel resolution. At a feature level it is resampled bicubically to the grid
and used twice: its values weigh the adapter cross-attention, and the cells whose value reaches 1 are the
tokens handed to the selective scan ("mask-drop", paper Eq. 5-7; with the strides 8, 16 and 32 of the model a
cell is selected when its four central pixels are inside).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

MaskMode = Literal["paper", "overlap", "released", "none"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class LevelMask:
    """A control mask at one feature level; m is 1 for a mask common to all, else batch·frames.

    Attributes:
        weight: interpolated values (m, tokens), or None when all are 1.
        index: token indices of the selected cells (m, n); shorter rows are filled up with 0, see `valid`.
        valid: bool (m, n), or None when every row has n selected cells.
        full: every token is selected.
        empty: no token is selected and every weight is zero.
    """

    weight: Tensor | None
    index: Tensor
    valid: Tensor | None
    full: bool
    empty: bool


@dataclass(eq=False)
class ControlMask:
    """A control mask in pixels; its levels are computed once and reused by every layer and step.

    Args:
        pixels: values (batch or 1, frames or 1, height, width) in [0, 1].
    """

    pixels: Tensor
    _levels: dict[tuple[object, ...], LevelMask] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4:
            raise ValueError(
                f"a control mask has shape (batch, frames, height, width), got {tuple(self.pixels.shape)}"
            )

    def level(self, grid: tuple[int, int], batch: int, frames: int, like: Tensor) -> LevelMask:
        """The mask on a (height, width) `grid` for `batch` clips of `frames`, typed and placed as `like`."""
        key = (grid, batch, frames, like.device, like.dtype)
        if key not in self._levels:
            self._levels[key] = self._build(grid, batch, frames, like.device, like.dtype)
        return self._levels[key]

    def frames(self, index: Tensor) -> ControlMask:
        """The mask of the frames in `index`; the same object when it does not vary over frames."""
        return self if self.pixels.shape[1] == 1 else ControlMask(self.pixels[:, index])

    def _build(
        self, grid: tuple[int, int], batch: int, frames: int, device: torch.device, dtype: torch.dtype
    ) -> LevelMask:
        # On the CPU in full precision: the selection is a threshold, and there is nothing to wait for.
        pixels = self.pixels.detach().to(
            "cpu", torch.float64 if self.pixels.dtype == torch.float64 else torch.float32
        )
        values = F.interpolate(pixels.flatten(0, 1)[:, None], size=grid, mode="bicubic")
        values = values.reshape(*pixels.shape[:2], grid[0] * grid[1])
        if values.shape[:2] == (1, 1):
            values = values[0]
        else:
            values = values.expand(batch, frames, -1).flatten(0, 1)
        # Interpolating a constant 1 may fall short of 1 by rounding.
        chosen = values >= 1 - 1e-6
        counts = chosen.sum(1)
        most = int(counts.max())
        order = torch.argsort((~chosen).to(torch.uint8), dim=1, stable=True)[:, :most]
        valid = torch.arange(most) < counts[:, None]
        index = torch.where(valid, order, torch.zeros_like(order))
        ones = bool(torch.all((values - 1).abs() < 1e-6))
        return LevelMask(
            weight=None if ones else values.to(device, dtype),
            index=index.to(device),
            valid=None if bool(valid.all()) else valid.to(device),
            full=bool(chosen.all()),
            empty=bool((values == 0).all()),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ControlMasks:
    """The audio and the motion mask of a run; None acts everywhere."""

    audio: ControlMask | None = None
    motion: ControlMask | None = None

    def followed_by(self, other: ControlMasks, mine: int) -> ControlMasks:
        """The last `mine` frames of these masks, then `other`; masks constant over frames are `other`'s."""

        def join(a: ControlMask | None, b: ControlMask | None) -> ControlMask | None:
            if a is None or b is None or a.pixels.shape[1] == b.pixels.shape[1] == 1:
                return b
            return ControlMask(torch.cat([a.pixels[:, -mine:], b.pixels], dim=1))

        return ControlMasks(join(self.audio, other.audio), join(self.motion, other.motion))

    def padded(self, count: int) -> ControlMasks:
        """The masks with the last frame's repeated `count` times at the end."""

        def extend(mask: ControlMask | None) -> ControlMask | None:
            if mask is None or mask.pixels.shape[1] == 1:
                return mask
            last = mask.pixels[:, -1:].expand(-1, count, -1, -1)
            return ControlMask(torch.cat([mask.pixels, last], dim=1))

        return ControlMasks(extend(self.audio), extend(self.motion))

    @property
    def constant(self) -> bool:
        """The masks do not vary over frames."""
        return all(mask is None or mask.pixels.shape[1] == 1 for mask in (self.audio, self.motion))

    def frames(self, index: Tensor) -> ControlMasks:
        """The masks of the frames in `index`."""
        pick = [None if mask is None else mask.frames(index) for mask in (self.audio, self.motion)]
        return ControlMasks(*pick)


def mouth_box(face: Box) -> Box:
    """Lower half of a face box: where the paper's audio mask lies when no mouth landmarks are known."""
    x1, y1, x2, y2 = face
    return (x1, (y1 + y2) / 2, x2, y2)


def box_mask(box: Box, height: int, width: int) -> Tensor:
    """A 0/1 mask (1, 1, height, width) of the pixels whose centre lies inside `box` (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box
    rows = torch.arange(height) + 0.5
    columns = torch.arange(width) + 0.5
    inside = ((rows >= y1) & (rows < y2))[:, None] & ((columns >= x1) & (columns < x2))[None]
    return inside.float()[None, None]


def control_masks(
    face: Tensor, mouth: Tensor, *, audio: bool, visual: bool, mode: MaskMode = "paper"
) -> ControlMasks:
    """Masks for a gate setting (paper §3.4, A.3; released code: `Inference.py` modes 0-2).

    Args:
        face: face mask (batch or 1, frames or 1, height, width).
        mouth: mouth mask, same shape.
        audio, visual: which gates are open. A single open gate controls the whole face.
        mode: with both gates open, `paper` gives audio the mouth and motion the rest of the face, `released`
            lets both act everywhere, as the published script does, and `overlap` gives audio the mouth and
            motion the whole face, for motion tokens that leave articulation out. `none` removes mask-drop
            altogether: every open branch acts everywhere.

    Raises:
        ValueError: both gates closed, or an unknown mode.
    """
    if not (audio or visual):
        raise ValueError("at least one gate must be open")
    if mode not in get_args(MaskMode):
        raise ValueError(f"unknown mask mode {mode!r}; known: {', '.join(get_args(MaskMode))}")
    zeros, ones = torch.zeros_like(face[:1, :1]), torch.ones_like(face[:1, :1])
    if audio and visual:
        both = {"paper": (mouth, (face - mouth).clamp_min(0)), "overlap": (mouth, face)}
        pair = both.get(mode, (ones, ones))
    else:
        region = ones if mode == "none" else face
        pair = (region if audio else zeros, region if visual else zeros)
    return ControlMasks(ControlMask(pair[0]), ControlMask(pair[1]))
