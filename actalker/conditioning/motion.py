"""Driving video to motion tokens: an expression encoder, a head-pose encoder and a projection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.config import Configured

POSE_NUMBERS = 6


@dataclass(frozen=True, slots=True)
class ExpressionConfig:
    """Sizes; the defaults are the released `expression_model` (24,557,120 parameters).

    Attributes:
        width: channels after the stem; a stage's output has 4, 8, 16, 32 times as many.
        blocks: bottlenecks per stage.
        features: size of the expression vector.
        size: side in pixels of the crop it was trained on.
    """

    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    features: int = 512
    size: int = 256


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.gn1 = nn.GroupNorm(1, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.gn2 = nn.GroupNorm(1, width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.gn3 = nn.GroupNorm(1, outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.GroupNorm(1, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.gn1(self.conv1(x)))
        h = F.relu(self.gn2(self.conv2(h)))
        return F.relu(self.gn3(self.conv3(h)) + (x if self.downsample is None else self.downsample(x)))


class _ResNet(nn.Module):
    """Bottleneck ResNet whose every norm is a GroupNorm with one group."""

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
        self.gn1 = nn.GroupNorm(1, config.width)
        inputs = config.width
        self.stages = len(config.blocks)
        for stage, count in enumerate(config.blocks):
            width = config.width * 2**stage
            blocks = []
            for i in range(count):
                blocks.append(_Bottleneck(inputs, width, 2 if stage and not i else 1))
                inputs = width * _Bottleneck.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, config.features)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.gn1(self.conv1(x))), 3, stride=2, padding=1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class HeadExpression(Configured):
    """Expression of a brow-to-mouth crop."""

    Config = ExpressionConfig
    config: ExpressionConfig

    def __init__(self, config: ExpressionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ExpressionConfig()
        self.resnet50 = _ResNet(config)

    def forward(self, crop: Tensor) -> Tensor:
        """(n, 3, size, size) in [0, 1] -> (n, features)."""
        return self.resnet50(crop)


@dataclass(frozen=True, slots=True)
class HeadPoseConfig:
    """Sizes; the defaults are the released `pose_model` (11,179,590 parameters).

    Attributes:
        width: channels of the first stage, doubled by each following one.
        blocks: basic blocks per stage.
        groups: GroupNorm groups.
        size: side in pixels of the crop it was trained on.
    """

    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    groups: int = 32
    size: int = 256


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.GroupNorm(groups, width)  # the checkpoint calls its group norms "bn"
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.GroupNorm(groups, width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride=stride, bias=False), nn.GroupNorm(groups, width)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + self.shortcut(x))


class _PoseNet(nn.Module):
    def __init__(self, config: HeadPoseConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.GroupNorm(config.groups, config.width)
        inputs = config.width
        self.stages = len(config.blocks)
        for stage, count in enumerate(config.blocks):
            width = config.width * 2**stage
            blocks = []
            for i in range(count):
                blocks.append(_BasicBlock(inputs, width, 2 if stage and not i else 1, config.groups))
                inputs = width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, POSE_NUMBERS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class HeadPose(Configured):
    """Head rotation and translation of a face crop."""

    Config = HeadPoseConfig
    config: HeadPoseConfig

    def __init__(self, config: HeadPoseConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HeadPoseConfig()
        self.head_pose_net = _PoseNet(config)

    def forward(self, crop: Tensor) -> Tensor:
        """(n, 3, size, size) in [-1, 1] -> (n, 6): rotation in degrees (-180, 180), translation (-2, 2)."""
        raw = torch.sigmoid(self.head_pose_net(crop))
        return torch.cat([raw[:, :3] * 360 - 180, raw[:, 3:] * 4 - 2], dim=1)


@dataclass(frozen=True, slots=True)
class MotionProjectionConfig:
    """Sizes; the defaults are the released `vasa_linear` file and how its script fills the token.

    Attributes:
        features: size of the expression vector.
        condition: channels of the token; the last 6 (12 with `difference`) carry the head pose.
        rotation_scale: factor on the rotation in degrees (released: 1).
        translation: pass the translation on (the released script multiplies it by zero).
        difference: also see the difference to the reference portrait's expression and pose.
    """

    features: int = 512
    condition: int = 1024
    rotation_scale: float = 1.0
    translation: bool = False
    difference: bool = False


class MotionProjection(Configured):
    """Expression vector and head pose to one token."""

    Config = MotionProjectionConfig
    config: MotionProjectionConfig

    def __init__(self, config: MotionProjectionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MotionProjectionConfig()
        copies = 2 if config.difference else 1
        width = config.condition - copies * POSE_NUMBERS
        self.proj1 = nn.Linear(copies * config.features, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, expression: Tensor, pose: Tensor, reference: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Tokens of driving frames.

        Args:
            expression: (..., features).
            pose: (..., 6), rotation in degrees and translation.
            reference: expression and pose of the portrait, broadcastable; needed with `difference`.

        Returns:
            (..., 1, condition).
        """
        pose = self._scaled(pose)
        if self.config.difference:
            if reference is None:
                raise ValueError("this motion projection needs the portrait's own expression and pose")
            expression = torch.cat([expression, expression - reference[0]], dim=-1)
            pose = torch.cat([pose, pose - self._scaled(reference[1])], dim=-1)
        return torch.cat([self.norm(self.proj1(expression)), pose], dim=-1).unsqueeze(-2)

    def still(self) -> Tensor:
        """Token of an all-zero expression and pose (1, 1, 1, condition): the unconditional motion."""
        expression = self.proj1.weight.new_zeros(1, 1, self.proj1.in_features)
        copies = 2 if self.config.difference else 1
        pose = expression.new_zeros(1, 1, copies * POSE_NUMBERS)
        return torch.cat([self.norm(self.proj1(expression)), pose], dim=-1).unsqueeze(-2)

    def _scaled(self, pose: Tensor) -> Tensor:
        rotation, translation = pose[..., :3] * self.config.rotation_scale, pose[..., 3:]
        return torch.cat([rotation, translation if self.config.translation else translation * 0], dim=-1)
