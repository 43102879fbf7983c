"""Inception-v3 as the FID uses it: TensorFlow's graph of 2015-12-05.

Szegedy et al. 2016, "Rethinking the Inception Architecture", figures 5-7 and table 1; with the deviations of
the TensorFlow graph that the FID was defined on: average pooling that leaves padding out of the mean, and a
max pool in the last block. Module names follow the converted checkpoint, so it loads with `strict=True`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.metrics.networks.loading import State, arrange, fold_batchnorm, frames_tensor, official, ready
from bench.metrics.precision import Precision

SIDE = 299
# Feature size -> name of the last module before it is tapped.
TAPS = {64: "Conv2d_2b_3x3", 192: "Conv2d_4a_3x3", 768: "Mixed_6e", 2048: "Mixed_7c"}


class Conv(nn.Module):
    """Convolution without bias, batch normalisation (eps 1e-3), ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: Any = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h', w')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _mean3(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class BlockA(nn.Module):
    """35x35 block: 1x1, 5x5, double 3x3 and pooled branches."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inputs, 64, 1)
        self.branch5x5_1 = Conv(inputs, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches along channels."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_mean3(x))], 1)


class BlockB(nn.Module):
    """Reduction from 35x35 to 17x17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches along channels."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """17x17 block with factorised 7x7 convolutions."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        wide: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
        tall: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Conv(inputs, 192, 1)
        self.branch7x7_1 = Conv(inputs, inner, 1)
        self.branch7x7_2 = Conv(inner, inner, **wide)
        self.branch7x7_3 = Conv(inner, 192, **tall)
        self.branch7x7dbl_1 = Conv(inputs, inner, 1)
        self.branch7x7dbl_2 = Conv(inner, inner, **tall)
        self.branch7x7dbl_3 = Conv(inner, inner, **wide)
        self.branch7x7dbl_4 = Conv(inner, inner, **tall)
        self.branch7x7dbl_5 = Conv(inner, 192, **wide)
        self.branch_pool = Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches along channels."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_mean3(x))], 1)


class BlockD(nn.Module):
    """Reduction from 17x17 to 8x8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(inputs, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(inputs, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches along channels."""
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """8x8 block with branches that fork; `max_pool` selects the pooling of the graph's last block."""

    def __init__(self, inputs: int, max_pool: bool) -> None:
        super().__init__()
        wide: dict[str, Any] = {"kernel": (1, 3), "padding": (0, 1)}
        tall: dict[str, Any] = {"kernel": (3, 1), "padding": (1, 0)}
        self.max_pool = max_pool
        self.branch1x1 = Conv(inputs, 320, 1)
        self.branch3x3_1 = Conv(inputs, 384, 1)
        self.branch3x3_2a = Conv(384, 384, **wide)
        self.branch3x3_2b = Conv(384, 384, **tall)
        self.branch3x3dbl_1 = Conv(inputs, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, **wide)
        self.branch3x3dbl_3b = Conv(384, 384, **tall)
        self.branch_pool = Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches along channels."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.max_pool else _mean3(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, 1)


class Inception(nn.Module):
    """The feature network of the FID. The classifier is kept because the checkpoint has it."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, max_pool=False)
        self.Mixed_7c = BlockE(2048, max_pool=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor, size: int = 2048) -> Tensor:
        """Return features averaged over space.

        Args:
            x: (n, 3, 299, 299) in [-1, 1].
            size: 64 (after the first max pool), 192 (after the second), 768 or 2048.

        Returns:
            (n, size).
        """
        last = TAPS[size]
        for name, module in self.named_children():
            x = module(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = F.max_pool2d(x, 3, 2)
            if name == last:
                break
        return x.mean((2, 3))


def prepare(frames: Tensor) -> Tensor:
    """Squash uint8 frames (n, h, w, 3) to (n, 3, 299, 299) in [-1, 1], bilinear without antialiasing."""
    x = frames.permute(0, 3, 1, 2).float()
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False).mul_(2 / 255).sub_(1)


class FrameFeatures:
    """The network ready for inference.

    Args:
        state: weights to use instead of the official file's.
        precision: arithmetic.
    """

    def __init__(self, state: State | None = None, precision: Precision = Precision.FP32) -> None:
        network = fold_batchnorm(ready(Inception(), state or official("inception_fid")))
        self.network = arrange(network, precision)
        self._dtype = next(self.network.parameters()).dtype

    @torch.inference_mode()
    def features(self, frames: npt.NDArray[np.uint8] | Tensor, size: int = 2048) -> Tensor:
        """Return the features (n, size) of uint8 frames (n, h, w, 3), on the device."""
        return self.network(prepare(frames_tensor(frames)).to(self._dtype), size)

    def __call__(self, frames: npt.NDArray[np.uint8], size: int = 2048) -> npt.NDArray[np.float32]:
        """Return the features (n, size) of uint8 frames (n, h, w, 3)."""
        return self.features(frames, size).float().cpu().numpy()
