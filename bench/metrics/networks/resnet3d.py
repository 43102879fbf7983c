"""3-D ResNet-50 on Kinetics, the network behind DisCo's FID-VID ("FVD-Res").

Hara et al. 2018, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?"; bottleneck blocks
with projection shortcuts (type B). Module names follow the released checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 112
SEGMENT = 16
MEAN_RGB = (114.7748, 107.7354, 99.4750)


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 (with the stride), 1x1x1, and the shortcut."""

    def __init__(self, inputs: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, inner * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(inner * 4)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != inner * 4:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, inner * 4, 1, stride, bias=False), nn.BatchNorm3d(inner * 4)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, t, h, w) to (n, 4 inner, t', h', w')."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut, inplace=True)


class ResNet3d(nn.Module):
    """3-D ResNet-50. The classifier is kept because the checkpoint has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.layer1 = self._stage(64, 64, 3, 1)
        self.layer2 = self._stage(256, 128, 4, 2)
        self.layer3 = self._stage(512, 256, 6, 2)
        self.layer4 = self._stage(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 400)

    @staticmethod
    def _stage(inputs: int, inner: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(inputs, inner, stride)
        return nn.Sequential(first, *(Bottleneck(inner * 4, inner) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map segments (n, 3, 16, 112, 112), RGB in 0..255 minus `MEAN_RGB`, to pooled features (n, 2048)."""
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3, 4))


def prepare(frames: Tensor) -> Tensor:
    """Turn segments (n, t, 112, 112, 3) in 0..255 into network input."""
    return frames.permute(0, 4, 1, 2, 3) - torch.tensor(MEAN_RGB, device=frames.device)[:, None, None, None]
