"""The five small networks that measure synthetic videos.

All take pixels in [0, 1], channels first, at 64x64, and were trained on the world's own frames after video
compression (see `train`). Together they have about 2.2 million parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 64  # pixels; frames of another size are resampled before they get here
MOUTH_TOP, MOUTH_LEFT, MOUTH_SIZE = 30, 16, 32  # fixed crop of the sync network
SYNC_FRAMES, SYNC_COLUMNS = 5, 20  # frames and MFCC columns (10 ms) of one 0.2 s window
CLIP_FRAMES, CLIP_SIZE = 16, 32


def _conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Trunk(nn.Module):
    """64x64 picture to a vector: 5x5 stem and three residual stages."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            _conv(3, width, 5, 2),
            _Residual(width),
            _conv(width, 2 * width, 3, 2),
            _Residual(2 * width),
            _conv(2 * width, 4 * width, 3, 2),
            _Residual(4 * width),
            _conv(4 * width, 4 * width, 3, 2),
            nn.Flatten(),
        )
        self.project = nn.Linear(4 * width * 16, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.stages(x * 2 - 1))


class SyncNet(nn.Module):
    """Two towers that put a 0.2 s mouth clip and its sound at the same point of a unit sphere.

    After J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild" (2016), with an InfoNCE
    loss. Distances in results are between embeddings times 10.
    """

    SCALE = 10.0
    mfcc_mean: Tensor
    mfcc_std: Tensor

    def __init__(self, features: int = 128, width: int = 24) -> None:
        super().__init__()
        w = width
        self.video = nn.Sequential(
            _conv(3 * SYNC_FRAMES, w, 5, 2),
            _conv(w, 2 * w),
            _conv(2 * w, 2 * w, 3, 2),
            _conv(2 * w, 4 * w),
            _conv(4 * w, 4 * w, 3, 2),
            nn.Flatten(),
            nn.Linear(4 * w * 16, features),
        )
        self.audio = nn.Sequential(
            _conv(1, w),
            _conv(w, 2 * w),
            nn.MaxPool2d((1, 2)),
            _conv(2 * w, 2 * w),
            _conv(2 * w, 4 * w, 3, 2),
            _conv(4 * w, 4 * w, 3, 2),
            nn.Flatten(),
            nn.Linear(4 * w * 12, features),
        )
        self.register_buffer("mfcc_mean", torch.zeros(13))
        self.register_buffer("mfcc_std", torch.ones(13))

    def embed_video(self, mouths: Tensor) -> Tensor:
        """(B, 15, 32, 32) mouth crops of five frames, frame-major, to (B, 128) unit vectors."""
        return F.normalize(self.video(mouths * 2 - 1).float(), dim=-1)

    def embed_audio(self, mfcc: Tensor) -> Tensor:
        """(B, 20, 13) MFCC columns to (B, 128) unit vectors."""
        x = (mfcc - self.mfcc_mean) / self.mfcc_std
        return F.normalize(self.audio(x.transpose(1, 2)[:, None]).float(), dim=-1)


class IdentityNet(nn.Module):
    """Face to a unit vector that depends on who it is, trained with an additive angular margin (ArcFace)."""

    def __init__(self, features: int = 128, width: int = 24) -> None:
        super().__init__()
        self.trunk = _Trunk(width, features)
        self.norm = nn.BatchNorm1d(features)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, 64, 64) to (B, 128) unit vectors."""
        return F.normalize(self.norm(self.trunk(frames).float()), dim=-1)


class FrameNet(nn.Module):
    """Whole frame to pose and to the features of the synthetic FID.

    Attributes:
        target_mean, target_std: (41 + 2,) scale of the regressed numbers: expression-like readings (10), pose
            (6), identity (16), nuisance (9), blur and noise level (2).
    """

    TARGETS = 10 + 6 + 16 + 9 + 2
    POSE = slice(10, 16)
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, features: int = 64, width: int = 24) -> None:
        super().__init__()
        self.trunk = _Trunk(width, features)
        self.norm = nn.BatchNorm1d(features)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, self.TARGETS))
        self.register_buffer("target_mean", torch.zeros(self.TARGETS))
        self.register_buffer("target_std", torch.ones(self.TARGETS))

    def features(self, frames: Tensor) -> Tensor:
        """(B, 3, 64, 64) to (B, 64)."""
        return self.norm(self.trunk(frames).float())

    def standardised(self, frames: Tensor) -> Tensor:
        """(B, 3, 64, 64) to (B, 43) targets in units of their spread."""
        return self.head(self.features(frames)).float()

    def pose(self, frames: Tensor) -> Tensor:
        """(B, 3, 64, 64) to (B, 6), see `parameters.POSE`."""
        return (self.standardised(frames) * self.target_std + self.target_mean)[:, self.POSE]


class FaceNet(nn.Module):
    """Eye and mouth crops, cut along the head's pose, to expression readings and landmarks.

    The upper crop holds eyes and brows, the lower one nose, mouth and outline. Landmarks are regressed in
    crop coordinates (-1..1) and put back into the picture by `to_pixels`.

    Attributes:
        target_mean, target_std: (10 + 86,) scale of the regressed numbers.
    """

    UPPER_READINGS, LOWER_READINGS = 6, 4
    UPPER_POINTS, LOWER_POINTS = 16, 27
    # centre of the crop below the head's centre, half-height (head half-heights), half-width (head
    # half-widths), rows, columns
    UPPER = (-0.18, 0.34, 0.80, 28, 48)
    LOWER = (0.53, 0.36, 0.62, 28, 40)
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()

        def tower(rows: int, columns: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                _conv(3, 16),
                _conv(16, 24, 3, 2),
                _Residual(24),
                _conv(24, 48, 3, 2),
                _Residual(48),
                _conv(48, 64, 3, 2),
                nn.Flatten(),
                nn.Linear(64 * -(-rows // 8) * -(-columns // 8), 2 * hidden),
                nn.ReLU(),
                nn.Linear(2 * hidden, outputs),
            )

        self.upper = tower(*self.UPPER[3:], self.UPPER_READINGS + 2 * self.UPPER_POINTS)
        self.lower = tower(*self.LOWER[3:], self.LOWER_READINGS + 2 * self.LOWER_POINTS)
        count = self.UPPER_READINGS + self.LOWER_READINGS + 2 * (self.UPPER_POINTS + self.LOWER_POINTS)
        self.register_buffer("target_mean", torch.zeros(count))
        self.register_buffer("target_std", torch.ones(count))

    def standardised(self, frames: Tensor, pose: Tensor) -> Tensor:
        """Frames (B, 3, 64, 64) and pose (B, 6) to (B, 96): readings (10), points (43, 2) flattened.

        Readings are in the order brow, furrow, blink left, blink right, gaze x, gaze y, mouth half-width,
        opening, protrusion, smile; everything in units of its spread.
        """
        up = self.upper(crop(frames, pose, self.UPPER) * 2 - 1).float()
        low = self.lower(crop(frames, pose, self.LOWER) * 2 - 1).float()
        a, b = self.UPPER_READINGS, self.LOWER_READINGS
        return torch.cat([up[:, :a], low[:, :b], up[:, a:], low[:, b:]], 1)

    def forward(self, frames: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Return readings (B, 10) and landmarks (B, 43, 2) in pixels of the 64x64 picture."""
        values = self.standardised(frames, pose) * self.target_std + self.target_mean
        readings = self.UPPER_READINGS + self.LOWER_READINGS
        return values[:, :readings], self.to_pixels(values[:, readings:].unflatten(1, (-1, 2)), pose)

    @classmethod
    def to_pixels(cls, points: Tensor, pose: Tensor) -> Tensor:
        """Crop coordinates (B, 43, 2) to pixels."""
        split = (cls.UPPER_POINTS, cls.LOWER_POINTS)
        upper, lower = points.split(split, 1)
        placed = torch.cat([_place(upper, pose, cls.UPPER), _place(lower, pose, cls.LOWER)], 1)
        return (placed + 1) * (SIZE / 2) - 0.5

    @classmethod
    def to_crops(cls, pixels: Tensor, pose: Tensor) -> Tensor:
        """Pixels (B, 43, 2) to crop coordinates; the inverse of `to_pixels`."""
        upper, lower = ((pixels + 0.5) / (SIZE / 2) - 1).split((cls.UPPER_POINTS, cls.LOWER_POINTS), 1)
        return torch.cat([_take(upper, pose, cls.UPPER), _take(lower, pose, cls.LOWER)], 1)


def _frame_of(pose: Tensor, box: tuple[float, float, float, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the crop's centre in head axes (B, 2), half-size (B, 2) and cos, sin of the roll (B, 2)."""
    half_height = 0.72 * pose[:, 5]
    half_width = 0.80 * half_height  # the head's own aspect is not known to the reader
    centre_down, tall, wide = box[:3]
    centre = torch.stack(
        [0.95 * half_width * pose[:, 0].sin(), half_height * (centre_down + 0.95 * pose[:, 1].sin())], -1
    )
    half = torch.stack([half_width * wide, half_height * tall], -1)
    return centre, half, torch.stack([pose[:, 2].cos(), pose[:, 2].sin()], -1)


def _place(points: Tensor, pose: Tensor, box: tuple[float, float, float, int, int]) -> Tensor:
    """Crop coordinates (B, n, 2) to picture coordinates (-1..1)."""
    centre, half, turn = _frame_of(pose, box)
    along = points * half[:, None] + centre[:, None]
    cos, sin = turn[:, None, 0], turn[:, None, 1]
    x = along[..., 0] * cos - along[..., 1] * sin + pose[:, None, 3]
    y = along[..., 0] * sin + along[..., 1] * cos + pose[:, None, 4]
    return torch.stack([x, y], -1)


def _take(points: Tensor, pose: Tensor, box: tuple[float, float, float, int, int]) -> Tensor:
    """Picture coordinates (B, n, 2) to crop coordinates; the inverse of `_place`."""
    centre, half, turn = _frame_of(pose, box)
    x, y = points[..., 0] - pose[:, None, 3], points[..., 1] - pose[:, None, 4]
    cos, sin = turn[:, None, 0], turn[:, None, 1]
    along = torch.stack([x * cos + y * sin, y * cos - x * sin], -1)
    return (along - centre[:, None]) / half[:, None]


def crop(frames: Tensor, pose: Tensor, box: tuple[float, float, float, int, int]) -> Tensor:
    """Cut a box that follows the head: (B, 3, 64, 64) and pose (B, 6) to (B, 3, rows, columns)."""
    rows, columns = box[3:]
    down, right = torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns)
    grid = torch.stack(torch.meshgrid(right, down, indexing="xy"), -1).to(frames)
    placed = _place(grid.reshape(1, -1, 2).expand(len(frames), -1, -1), pose, box)
    return F.grid_sample(frames, placed.unflatten(1, (rows, columns)), padding_mode="border", align_corners=False)


class ClipNet(nn.Module):
    """16 frames to the features of the synthetic FVD.

    Sees frames and frame differences, keeps time at full rate and pools it by mean *and* standard deviation;
    without these two a freeze or a shuffle leaves no trace in the features.
    """

    MOTION = 3 * 16  # mean, spread and mean absolute step of 16 numbers
    CORRUPTIONS = ("blur", "noise", "freeze", "hold", "shuffle", "ghost")

    def __init__(self, features: int = 32, width: int = 16) -> None:
        super().__init__()

        def conv(channels_in: int, channels_out: int, kernel: tuple[int, int, int], step: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv3d(
                    channels_in,
                    channels_out,
                    kernel,
                    (1, step, step),
                    (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2),
                    bias=False,
                ),
                nn.BatchNorm3d(channels_out),
                nn.ReLU(inplace=True),
            )

        w = width
        self.stages = nn.Sequential(
            conv(6, w, (1, 3, 3), 2),
            conv(w, 2 * w, (3, 3, 3), 2),
            conv(2 * w, 4 * w, (3, 3, 3), 2),
            conv(4 * w, 4 * w, (3, 1, 1), 1),
        )
        self.project = nn.Linear(4 * w * 16 * 2, features)
        self.norm = nn.BatchNorm1d(features)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(features, 128),
            nn.ReLU(),
            nn.Linear(128, self.MOTION + len(self.CORRUPTIONS)),
        )

    def features(self, clips: Tensor) -> Tensor:
        """(B, 3, 16, 32, 32) to (B, 32)."""
        x = clips * 2 - 1
        step = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 0, 1, 0)) * 5
        x = torch.cat([x, step], 1).contiguous(memory_format=torch.channels_last_3d)
        x = self.stages(x).float()
        spread = (x.var(2, unbiased=False) + 1e-4).sqrt()
        return self.norm(self.project(torch.cat([x.mean(2), spread], 1).flatten(1)).float())

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, 16, 32, 32) to (B, 54): standardised motion statistics (48), corruption levels (6)."""
        return self.head(self.features(clips)).float()
