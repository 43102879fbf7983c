"""First stage of training: the small encoders, each on labels the synthetic world knows exactly.

Every encoder is fitted by the same loop: AdamW, linear warm-up, cosine decay to zero, gradient clipping, an
optional bf16 autocast. Pictures are augmented with brightness, noise and the colour subsampling that video
codecs do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.conditioning.identity import IResNet
from actalker.embedded.alignment import feature_crops
from actalker.embedded.encoders import (
    ARCFACE,
    EXPRESSION,
    SmallAudioEncoder,
    SmallAudioEncoderConfig,
    SmallHeadExpression,
    SmallHeadExpressionConfig,
    SmallHeadPose,
    SmallHeadPoseConfig,
    channels_last,
    for_identity,
)

POSE_NOISE = torch.tensor([0.05, 0.03, 0.025, 0.012, 0.012, 0.015])
"""Standard deviation of the pose errors the expression encoder is trained to bear; `SmallHeadPose` makes fewer."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fit:
    """How long and how fast one encoder is trained."""

    steps: int
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 1e-2
    bf16: bool = False
    seed: int = 0


class Portraits:
    """Labelled single pictures (`portraits.npz`): uint8 frames and float labels as tensors.

    Attributes:
        frames: uint8 (n, 3, s, s).
        pose: (n, 6).
        expression: (n, 10) in the order of `encoders.EXPRESSION`.
        identity: (n, 16) what the face was drawn from.
        person: (n,) int64, who is shown.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as data:
            self.frames = torch.from_numpy(data["frames"]).permute(0, 3, 1, 2).contiguous()
            self.pose = torch.from_numpy(data["pose"])
            self.expression = expression_labels(data["expression"], data["mouth_drawn"])
            self.identity = torch.from_numpy(data["identity"])
            self.person = torch.from_numpy(data["identity_index"]).long()

    def __len__(self) -> int:
        return len(self.frames)


def expression_labels(expression: np.ndarray, mouth_drawn: np.ndarray) -> Tensor:
    """Replace the mouth numbers, which no single picture determines, by the mouth as drawn: (n, 10).

    Args:
        expression: (n, 10) open, width, round, smile, brow, furrow, blinks, gaze.
        mouth_drawn: (n, 3) half-width, opening, protrusion.
    """
    drawn = mouth_drawn[:, [1, 0, 2]]
    return torch.from_numpy(np.concatenate([drawn, expression[:, 3:]], 1).astype(np.float32))


def augment(frames: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (n, 3, s, s) to [-1, 1] with brightness, noise and, for half of them, 4:2:0 colour."""
    x = frames.float() / 127.5 - 1
    n = len(x)
    x = x * (0.9 + 0.2 * torch.rand(n, 1, 1, 1, generator=generator))
    grey = x.mean(1, keepdim=True)
    colour = F.interpolate(F.avg_pool2d(x - grey, 2), scale_factor=2, mode="bilinear")
    sub = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    x = torch.where(sub, grey + colour, x)
    return (x + 0.02 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def fit(module: nn.Module, loss: Callable[[torch.Generator], Tensor], plan: Fit, report: Report) -> None:
    """Minimise `loss(generator)` over the parameters of `module` and leave it in evaluation mode."""
    generator = torch.Generator().manual_seed(plan.seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, plan.lr, weight_decay=plan.weight_decay)
    warm_up = min(50, plan.steps // 10 + 1)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / plan.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    module.train()
    start, mean = time.process_time(), 0.0
    for step in range(plan.steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
            value = loss(generator)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        mean = value.item() if step == 0 else 0.95 * mean + 0.05 * value.item()
        if (step + 1) % max(1, plan.steps // 5) == 0:
            seconds = time.process_time() - start
            report(f"{type(module).__name__} step {step + 1}/{plan.steps} loss {mean:.4f} ({seconds:.0f} CPU-s)")
    module.eval()


def train_pose(data: Portraits, plan: Fit, report: Report) -> SmallHeadPose:
    """Fit the head-pose encoder."""
    torch.manual_seed(plan.seed)
    net = channels_last(SmallHeadPose(SmallHeadPoseConfig()))
    net.mean.copy_(data.pose.mean(0))
    net.spread.copy_(data.pose.std(0))

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(data), (plan.batch,), generator=generator)
        pictures = augment(data.frames[pick], generator).contiguous(memory_format=torch.channels_last)
        wanted = (data.pose[pick] - net.mean) / net.spread
        return F.smooth_l1_loss(net.standardised(pictures), wanted, beta=0.2)

    fit(net, loss, plan, report)
    return net


def train_expression(data: Portraits, plan: Fit, report: Report) -> SmallHeadExpression:
    """Fit the expression encoder on crops cut along slightly wrong poses."""
    torch.manual_seed(plan.seed)
    net = channels_last(SmallHeadExpression(SmallHeadExpressionConfig()))
    net.mean.copy_(data.expression.mean(0))
    net.spread.copy_(data.expression.std(0))

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(data), (plan.batch,), generator=generator)
        pose = data.pose[pick] + torch.randn(plan.batch, 6, generator=generator) * POSE_NOISE
        crops = feature_crops(augment(data.frames[pick], generator), pose)
        wanted = (data.expression[pick] - net.mean) / net.spread
        return F.smooth_l1_loss(
            net.from_crops(crops.contiguous(memory_format=torch.channels_last)), wanted, beta=0.3
        )

    fit(net, loss, plan, report)
    return net


def train_identity(data: Portraits, plan: Fit, report: Report) -> IResNet:
    """Fit the identity encoder: its embedding must tell the numbers a face was drawn from.

    With a thousand people and twenty pictures each, this learns in a minute what a classification loss over the
    people has not learned in five.
    """
    torch.manual_seed(plan.seed)
    net = channels_last(IResNet(ARCFACE))
    read = nn.Linear(ARCFACE.embedding, data.identity.shape[1])
    mean, spread = data.identity.mean(0), data.identity.std(0)

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(data), (plan.batch,), generator=generator)
        pictures = augment(data.frames[pick], generator).contiguous(memory_format=torch.channels_last)
        wanted = (data.identity[pick] - mean) / spread
        return F.smooth_l1_loss(read(net(for_identity(pictures))).float(), wanted, beta=0.5)

    fit(nn.ModuleList([net, read]), loss, plan, report)
    return net


def train_audio(audio: Tensor, mouth: Tensor, plan: Fit, report: Report) -> SmallAudioEncoder:
    """Fit the audio encoder to the mouth's shape, so that later stages start from something that speaks.

    Args:
        audio: int16 samples (clips, frames * 640).
        mouth: opening, half-width and protrusion (clips, frames, 3).
        plan: length of training; `batch` counts clips.
        report: receives progress lines.
    """
    torch.manual_seed(plan.seed)
    net = SmallAudioEncoder(SmallAudioEncoderConfig())
    samples = audio.float() / 32768
    with torch.no_grad():
        mel = net.log_mel(samples[:64])
        net.mean.copy_(mel.mean((0, 2)))
        net.spread.copy_(mel.std((0, 2)))
    mean, spread = mouth.mean((0, 1)), mouth.std((0, 1))

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(samples), (plan.batch,), generator=generator)
        gain = 0.5 + torch.rand(plan.batch, 1, generator=generator)
        x = samples[pick] * gain
        x = x + 0.001 * torch.randn(x.shape, generator=generator)
        reading = net(x)[..., -3:].unflatten(1, (-1, 2)).mean(2)
        return F.mse_loss(reading.float(), (mouth[pick] - mean) / spread)

    fit(net, loss, plan, report)
    return net


def explained(prediction: Tensor, truth: Tensor) -> list[float]:
    """Return R² of each column of (n, k)."""
    residual = ((prediction - truth) ** 2).mean(0)
    return (1 - residual / truth.var(0, unbiased=False)).tolist()


@torch.no_grad()
def judge(pose: SmallHeadPose, expression: SmallHeadExpression, data: Portraits) -> dict[str, float]:
    """Return held-out errors: pose MAE in the units of the pose, expression R² with regressed pose."""
    poses, readings = [], []
    for part in data.frames.split(256):
        pictures = part.float() / 127.5 - 1
        poses.append(pose(pictures))
        readings.append(expression(pictures, poses[-1]))
    names = ("yaw", "pitch", "roll", "x", "y", "scale")
    result = dict(
        zip((f"mae_{n}" for n in names), (torch.cat(poses) - data.pose).abs().mean(0).tolist(), strict=True)
    )
    wanted = (data.expression - expression.mean) / expression.spread
    return result | dict(zip((f"r2_{n}" for n in EXPRESSION), explained(torch.cat(readings), wanted), strict=True))
