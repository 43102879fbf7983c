"""How each embedded network is trained: its data, its batches and its loss.

A batch depends only on the seed and the step number, so a run that was cut off continues as if it had not
been.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.synthetic import networks, training_data
from bench.synthetic.training_data import Arrays, Report

FACES, IDENTITIES, FRAMES_EACH, CLIPS, CLIP_LENGTH = 32_000, 800, 24, 800, 50
"""Sizes of the training sets: portraits (one identity each), identities times frames, clips of 50 frames."""

_POSE_ERROR = (0.05, 0.03, 0.025, 0.012, 0.012, 0.015)
"""Spread of the pose jitter the face reader is trained with: about the error of the regressed pose."""


def faces(work: Path, scale: float, report: Report | None) -> Arrays:
    """Return the portrait set with one identity per frame, made on first use."""
    count = max(int(FACES * scale), 64)
    return training_data.cached(
        work / f"faces-{count}", lambda: training_data.portraits("train", "faces", count, 1, report)
    )


def identities(work: Path, scale: float, report: Report | None) -> Arrays:
    """Return the portrait set with many frames per identity, made on first use."""
    count = max(int(IDENTITIES * scale), 16)
    return training_data.cached(
        work / f"identities-{count}",
        lambda: training_data.portraits("train", "identities", count, FRAMES_EACH, report),
    )


def clips(work: Path, scale: float, report: Report | None) -> Arrays:
    """Return the talking clips, made on first use."""
    count = max(int(CLIPS * scale), 8)
    return training_data.cached(
        work / f"clips-{count}", lambda: training_data.talking("train", 0, count, CLIP_LENGTH, report)
    )


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) to float (..., 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(frames)).movedim(-1, -3).float() / 255


def degrade(x: Tensor, blur_up_to: float = 1.0, share: float = 0.25) -> tuple[Tensor, Tensor]:
    """Change brightness and tint, and blur or add noise to a share of the pictures.

    Args:
        x: (B, 3, H, W) in [0, 1].
        blur_up_to: 0.5 blurs to half, 1 to a quarter of the resolution.
        share: probability of blur, and of noise.

    Returns:
        The pictures and (B, 2) blur and noise levels in [0, 1].
    """
    count = len(x)
    x = x * (torch.rand(count, 1, 1, 1) * 0.3 + 0.85) + (torch.rand(count, 3, 1, 1) - 0.5) * 0.06
    blur = torch.rand(count) * (torch.rand(count) < share) * blur_up_to
    if blur.any():
        half = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
        quarter = F.interpolate(F.avg_pool2d(x, 4), scale_factor=4, mode="bilinear")
        a = blur[:, None, None, None]
        x = torch.where(a < 0.5, x + (half - x) * a * 2, half + (quarter - half) * (a * 2 - 1))
    noise = torch.rand(count) * (torch.rand(count) < share)
    x = x + torch.randn_like(x) * 0.12 * noise[:, None, None, None]
    return x.clamp(0, 1), torch.stack([blur, noise], 1)


class Stage(nn.Module, ABC):
    """One network in training; parameters beside `network` are only needed for the loss."""

    name: ClassVar[str]
    data: ClassVar[Callable[..., Arrays]]
    steps: ClassVar[int]
    learning_rate: ClassVar[float] = 2e-3
    weight_decay: ClassVar[float] = 2e-2
    network: Any

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()

    @abstractmethod
    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Draw a batch (from `rng` and torch's seeded generator) and return its loss."""


class SyncStage(Stage):
    """Contrastive training of sound against mouths; windows of the same clip are the hard negatives."""

    name, data, steps, weight_decay = "sync", staticmethod(clips), 900, 1e-2
    CLIPS, WINDOWS = 24, 8

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.network = networks.SyncNet()
        self.temperature = nn.Parameter(torch.tensor(2.5))
        self.frames, self.mfcc = arrays["frames"], arrays["mfcc"]
        rows = np.asarray(self.mfcc).reshape(-1, 13)
        self.network.mfcc_mean.copy_(torch.from_numpy(rows.mean(0)))
        self.network.mfcc_std.copy_(torch.from_numpy(rows.std(0)))

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Symmetric InfoNCE over all windows of the batch."""
        pictures, sounds = [], []
        size = networks.MOUTH_SIZE
        last = self.frames.shape[1] - networks.SYNC_FRAMES
        for index in rng.choice(len(self.frames), min(self.CLIPS, len(self.frames)), replace=False):
            top, left = np.array([networks.MOUTH_TOP, networks.MOUTH_LEFT]) + rng.integers(-2, 3, 2)
            for start in rng.choice(last, self.WINDOWS, replace=False):
                window = self.frames[index, start : start + networks.SYNC_FRAMES]
                pictures.append(window[:, top : top + size, left : left + size])
                sounds.append(self.mfcc[index, 4 * start : 4 * start + networks.SYNC_COLUMNS])
        x = to_tensor(np.stack(pictures)).flatten(1, 2)
        flip = torch.rand(len(x)) < 0.5
        x = torch.where(flip[:, None, None, None], x.flip(-1), x)
        x = x * (torch.rand(len(x), 1, 1, 1) * 0.3 + 0.85)
        noisy = (torch.rand(len(x)) < 0.3) * torch.rand(len(x)) * 0.06
        x = (x + torch.randn_like(x) * noisy[:, None, None, None]).clamp(0, 1)
        sound = torch.from_numpy(np.stack(sounds)) + torch.randn(len(x), 1, 13) * 0.3
        seen = self.network.embed_video(x.contiguous(memory_format=torch.channels_last))
        heard = self.network.embed_audio(sound)
        scores = (seen @ heard.T) * self.temperature.exp()
        target = torch.arange(len(scores))
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


class IdentityStage(Stage):
    """Classification of the training identities with an additive angular margin (ArcFace, Deng et al.
    2019)."""

    name, data, steps = "identity", staticmethod(identities), 1000
    PAIRS, SCALE, MARGIN, RAMP = 48, 20.0, 0.25, 0.3

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.network = networks.IdentityNet()
        self.frames = arrays["frames"]
        who = np.asarray(arrays["who"])
        self.rows = np.argsort(who, kind="stable").reshape(int(who.max()) + 1, -1)
        self.centres = nn.Parameter(torch.randn(len(self.rows), 128) * 0.1)

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Cross-entropy of scaled cosines; the margin grows over the first 30 % of training."""
        who = np.repeat(rng.integers(len(self.rows), size=self.PAIRS), 2)
        index = self.rows[who, rng.integers(self.rows.shape[1], size=len(who))]
        x, _ = degrade(to_tensor(self.frames[index]))
        x = torch.where((torch.rand(len(x)) < 0.5)[:, None, None, None], x.flip(-1), x)
        cosine = self.network(x.contiguous(memory_format=torch.channels_last)) @ F.normalize(self.centres, dim=1).T
        target = torch.from_numpy(who)
        margin = self.MARGIN * min(1.0, progress / self.RAMP)
        own = F.one_hot(target, len(self.rows)).bool()
        angle = cosine.clamp(-0.999, 0.999).acos()
        return F.cross_entropy(self.SCALE * torch.where(own, (angle + margin).cos(), cosine), target)


class FrameStage(Stage):
    """Regression of everything that describes a frame, and of blur and noise added to it."""

    name, data, steps = "frame", staticmethod(faces), 1000
    BATCH = 128

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.network = networks.FrameNet()
        self.frames = arrays["frames"]
        parts = ("readings", "pose", "identity", "nuisance")
        self.targets = torch.from_numpy(np.concatenate([np.asarray(arrays[p]) for p in parts], 1))
        count = self.targets.shape[1]
        self.network.target_mean[:count] = self.targets.mean(0)
        self.network.target_std[:count] = self.targets.std(0) + 1e-6
        # readings and pose 2, identity 1, nuisance 0.5
        self.weight = torch.cat([torch.full((16,), 2.0), torch.ones(16), torch.full((9,), 0.5)])

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Smooth L1 in units of the targets' spread."""
        index = rng.integers(len(self.frames), size=self.BATCH)
        x, levels = degrade(to_tensor(self.frames[np.sort(index)]))
        wanted = self.targets[np.sort(index)]
        out = self.network.standardised(x.contiguous(memory_format=torch.channels_last))
        count = wanted.shape[1]
        wanted = (wanted - self.network.target_mean[:count]) / self.network.target_std[:count]
        known = (F.smooth_l1_loss(out[:, :count], wanted, reduction="none") * self.weight).mean()
        return known + F.smooth_l1_loss(out[:, count:], levels * 2)


class FaceStage(Stage):
    """Regression of readings and landmarks from crops along a pose that is off by as much as the reader's."""

    name, data, steps, learning_rate, weight_decay = "face", staticmethod(faces), 1200, 3e-3, 1e-2
    BATCH = 128

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.network = networks.FaceNet()
        self.frames = arrays["frames"]
        self.pose = torch.from_numpy(np.array(arrays["pose"]))
        self.readings = torch.from_numpy(np.array(arrays["readings"]))
        self.landmarks = torch.from_numpy(np.array(arrays["landmarks"]))
        some = slice(0, 4096)
        points = networks.FaceNet.to_crops(self.landmarks[some], self._jittered(self.pose[some], seed=0))
        targets = torch.cat([self.readings[some], points.flatten(1)], 1)
        self.network.target_mean.copy_(targets.mean(0))
        self.network.target_std.copy_(targets.std(0) + 1e-6)

    @staticmethod
    def _jittered(pose: Tensor, seed: int | None = None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return pose + torch.randn(pose.shape, generator=generator) * torch.tensor(_POSE_ERROR)

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Smooth L1 in units of the targets' spread; readings and landmarks count the same."""
        index = np.sort(rng.integers(len(self.frames), size=self.BATCH))
        x, _ = degrade(to_tensor(self.frames[index]), blur_up_to=0.5)
        pose = self._jittered(self.pose[index])
        points = networks.FaceNet.to_crops(self.landmarks[index], pose)
        wanted = torch.cat([self.readings[index], points.flatten(1)], 1)
        wanted = (wanted - self.network.target_mean) / self.network.target_std
        out = self.network.standardised(x.contiguous(memory_format=torch.channels_last), pose)
        error = F.smooth_l1_loss(out, wanted, reduction="none")
        count = self.readings.shape[1]
        return error[:, :count].mean() + error[:, count:].mean()


class ClipStage(Stage):
    """Regression of motion statistics and of the amount of six corruptions from 16-frame windows."""

    name, data, steps = "clip", staticmethod(clips), 1500
    BATCH = 32

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.network = networks.ClipNet()
        self.frames = torch.stack(
            [F.avg_pool2d(to_tensor(one), 2).mul(255).round().to(torch.uint8) for one in arrays["frames"]]
        )
        motion = torch.from_numpy(np.concatenate([np.asarray(arrays["readings"]), np.asarray(arrays["pose"])], -1))
        flat = motion.flatten(0, 1)
        self.motion = (motion - flat.mean(0)) / (flat.std(0) + 1e-6)
        self.corruption_weight = torch.tensor([1.0, 1.0, 3.0, 3.0, 3.0, 1.0])

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Smooth L1; motion statistics count only where time was left alone."""
        length = networks.CLIP_FRAMES
        chosen = rng.choice(len(self.frames), min(self.BATCH, len(self.frames)), replace=False)
        windows, motions, levels = [], [], []
        for place, index in enumerate(chosen):
            start = int(rng.integers(0, self.frames.shape[1] - length))
            part = slice(start, start + length)
            x, motion = self.frames[index, part].float() / 255, self.motion[index, part]
            ghost = rng.random() * 0.5 if rng.random() < 0.2 else 0.0
            if ghost:
                other = self.frames[chosen[(place + 1) % len(chosen)], part].float() / 255
                x = x * (1 - ghost) + other * ghost
            x, level = self._corrupt(x, rng)
            windows.append(x)
            levels.append([*level, 2 * ghost])
            step = (motion[1:] - motion[:-1]).abs().mean(0) * 3
            motions.append(torch.cat([motion.mean(0), motion.std(0), step]))
        wanted, corruption = torch.stack(motions), torch.tensor(levels, dtype=torch.float32)
        out = self.network(torch.stack(windows).transpose(1, 2).clamp(0, 1))
        intact = (corruption[:, 2:5].sum(1) == 0).float()[:, None]
        count = wanted.shape[1]
        known = (F.smooth_l1_loss(out[:, :count], wanted, reduction="none") * intact).mean()
        found = F.smooth_l1_loss(out[:, count:], corruption * 2, reduction="none") * self.corruption_weight
        return known + 2 * found.mean()

    @staticmethod
    def _corrupt(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, list[float]]:
        """Apply each corruption with probability 0.2; return levels of blur, noise, freeze, hold, shuffle."""
        length = len(x)
        amount = [float(rng.random()) if rng.random() < 0.2 else 0.0 for _ in range(5)]
        if amount[0]:
            half = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
            x = x + (half - x) * amount[0]
        if amount[1]:
            x = x + torch.randn_like(x) * 0.12 * amount[1]
        order = np.arange(length)
        if amount[2]:
            stop = int(rng.integers(1, length))
            amount[2] = 1 - stop / length
            order = np.minimum(order, stop)
        if amount[3]:
            hold = int(rng.integers(2, 6))
            amount[3] = (hold - 1) / 4
            order = order // hold * hold
        if amount[4]:
            moved = rng.random(length) < amount[4]
            shuffled = order.copy()
            shuffled[moved] = rng.permutation(order[moved])
            order = shuffled
        return x[torch.from_numpy(order)], amount


STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (SyncStage, FrameStage, FaceStage, ClipStage, IdentityStage)
}
