"""Inflated 3-D Inception (I3D) on Kinetics-400, the network of the FVD, for clips of any length.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", figure 3; TensorFlow's SAME padding computed
from the input's size, as in the PyTorch port that VideoGPT, TATS and DisCo share. Module names follow its
checkpoint.

A clip is pushed through in pieces. Every layer that spans time keeps the few frames its next window needs, so
the result equals one forward pass over the whole clip while memory stays that of one piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 224
CLASSES = 400

Size3 = tuple[int, int, int]


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding before and after an axis of `length`."""
    rest = length % stride or stride
    total = max(kernel - rest, 0)
    return total // 2, total - total // 2


class _Windowed(nn.Module):
    """Shared streaming of layers that look at several frames.

    `start(frames)` tells the length of the whole input; every `forward` returns the outputs that the frames
    seen so far allow, possibly none.
    """

    window: Size3
    step: Size3

    def start(self, frames: int) -> int:
        """Prepare for an input of `frames` frames; return the number of output frames."""
        self.before, self.after = same_padding(frames, self.window[0], self.step[0])
        self.left = frames
        self.kept: Tensor | None = None
        return -(-frames // self.step[0])

    def gather(self, x: Tensor) -> Tensor | None:
        """Pad a piece in space, join it with what was kept, and return the frames that complete windows."""
        top, bottom = same_padding(x.shape[3], self.window[1], self.step[1])
        left, right = same_padding(x.shape[4], self.window[2], self.step[2])
        self.left -= x.shape[2]
        before, self.before = self.before, 0
        after = self.after if self.left == 0 else 0
        if before or after or top or bottom or left or right:
            x = F.pad(x, (left, right, top, bottom, before, after))
        if self.kept is not None:
            x = torch.cat([self.kept, x], 2)
        count = (x.shape[2] - self.window[0]) // self.step[0] + 1
        if count <= 0:
            self.kept = x
            return None
        rest = x[:, :, count * self.step[0] :]
        self.kept = rest.clone() if rest.shape[2] else None  # a view would keep the whole piece alive
        return x[:, :, : (count - 1) * self.step[0] + self.window[0]]


class Pool(_Windowed):
    """Max pool with SAME padding by zeros (its inputs follow a ReLU, so zero never wins wrongly)."""

    def __init__(self, window: Size3, step: Size3) -> None:
        super().__init__()
        self.window, self.step = window, step

    def forward(self, x: Tensor | None) -> Tensor | None:
        """Pool a piece (n, c, t, h, w)."""
        ready = None if x is None else self.gather(x)
        return None if ready is None else F.max_pool3d(ready, self.window, self.step)


class Unit(_Windowed):
    """Convolution with SAME padding, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.window, self.step = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor | None) -> Tensor | None:
        """Convolve a piece (n, inputs, t, h, w)."""
        ready = None if x is None else self.gather(x)
        return None if ready is None else F.relu(self.bn(self.conv3d(ready)), inplace=True)


class Mixed(nn.Module):
    """Inception block: 1x1, two 3x3 branches and a pooled branch, kept in step with each other."""

    def __init__(self, inputs: int, one: int, three: tuple[int, int], small: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.b0 = Unit(inputs, one)
        self.b1a, self.b1b = Unit(inputs, three[0]), Unit(three[0], three[1], 3)
        self.b2a, self.b2b = Unit(inputs, small[0]), Unit(small[0], small[1], 3)
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit(inputs, pooled)

    def start(self, frames: int) -> int:
        """Prepare for an input of `frames` frames; return the number of output frames."""
        for layer in self.children():
            layer.start(frames)  # type: ignore[operator]
        self.ahead: Tensor | None = None
        return frames

    def forward(self, x: Tensor | None) -> Tensor | None:
        """Run a piece (n, inputs, t, h, w) through all branches."""
        if x is None:
            return None
        first = self.b0(x)
        if self.ahead is not None:
            first = torch.cat([self.ahead, first], 2)
        others = [self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        if others[0] is None:
            self.ahead = first
            return None
        # The 1x1 branch needs no future frame and runs ahead of the others.
        count = others[0].shape[2]
        self.ahead = first[:, :, count:].clone() if first.shape[2] > count else None
        return torch.cat([first[:, :, :count], *others], 1)


class Logits(nn.Module):
    """The classifier's 1x1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, CLASSES, 1)


class I3d(nn.Module):
    """The network.

    Args:
        pool_frames: temporal extent of the last average pool: 1 in DisCo, 2 in VideoGPT and TATS.
    """

    def __init__(self, pool_frames: int = 1) -> None:
        super().__init__()
        self.pool_frames = pool_frames
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = Mixed(192, 64, (96, 128), (16, 32), 32)
        self.Mixed_3c = Mixed(256, 128, (128, 192), (32, 96), 64)
        self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = Mixed(480, 192, (96, 208), (16, 48), 64)
        self.Mixed_4c = Mixed(512, 160, (112, 224), (24, 64), 64)
        self.Mixed_4d = Mixed(512, 128, (128, 256), (24, 64), 64)
        self.Mixed_4e = Mixed(512, 112, (144, 288), (32, 64), 64)
        self.Mixed_4f = Mixed(528, 256, (160, 320), (32, 128), 128)
        self.MaxPool3d_5a_2x2 = Pool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = Mixed(832, 256, (160, 320), (32, 128), 128)
        self.Mixed_5c = Mixed(832, 384, (192, 384), (48, 128), 128)
        self.logits = Logits()

    def forward(self, pieces: Iterable[Tensor], frames: int) -> Tensor:
        """Return the class scores before the softmax, averaged over time.

        Args:
            pieces: consecutive parts (n, 3, t, 224, 224) of the clips, in [-1, 1].
            frames: frames in all pieces together.

        Returns:
            (n, 400).
        """
        layers: list[Any] = [layer for name, layer in self.named_children() if name != "logits"]
        for layer in layers:
            frames = layer.start(frames)
        ends = []
        for piece in pieces:
            x: Tensor | None = piece
            for layer in layers:
                x = layer(x)
            if x is not None:
                # 7x7 is all of space at 224 pixels; the mean over space commutes with the rest.
                ends.append(x.float().mean((3, 4)))
        pooled = F.avg_pool1d(torch.cat(ends, 2), self.pool_frames, 1)
        # Dropout is off and the classifier is linear, so averaging over time first is the same and cheaper.
        head = self.logits.conv3d.float()
        return F.linear(pooled.mean(2), head.weight.flatten(1), head.bias)
