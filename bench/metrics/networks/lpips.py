"""LPIPS: learned perceptual image patch similarity, version 0.1.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", section 3:
channel-wise normalised activations of five layers, squared differences weighted by learned non-negative
heads, averaged over space and summed over layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.metrics.networks import LPIPS_FILES
from bench.metrics.networks.loading import arrange, frames_tensor, official, ready
from bench.metrics.precision import Precision

Trunk = Literal["alex", "vgg"]

# Torchvision's `features`: output channels, kernel, stride, padding; M is a max pool (kernel, stride).
_ALEX = (
    (64, 11, 4, 2),
    ("M", 3, 2),
    (192, 5, 1, 2),
    ("M", 3, 2),
    (384, 3, 1, 1),
    (256, 3, 1, 1),
    (256, 3, 1, 1),
)
_POOL = ("M", 2, 2)
_VGG = (
    *((64, 3, 1, 1),) * 2,
    _POOL,
    *((128, 3, 1, 1),) * 2,
    _POOL,
    *((256, 3, 1, 1),) * 3,
    _POOL,
    *((512, 3, 1, 1),) * 3,
    _POOL,
    *((512, 3, 1, 1),) * 3,
)
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
_BLOCK = 2048  # positions
# Mean and standard deviation of ImageNet for images in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class Features(nn.Module):
    """The convolutional part of AlexNet or VGG-16 under torchvision's key names."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        size: list[Any]
        for kind, *size in _ALEX if trunk == "alex" else _VGG:
            if isinstance(kind, int):
                layers += [nn.Conv2d(channels, kind, *size), nn.ReLU(inplace=True)]
                channels = kind
            else:
                layers.append(nn.MaxPool2d(*size))
        self.features = nn.Sequential(*layers)
        self.taps = _TAPS[trunk]

    def forward(self, x: Tensor):
        """Yield the activations (n, c, h, w) after each tapped ReLU."""
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                yield x


class Lpips(nn.Module):
    """The distance. Trunk and heads load separately, because they are published separately."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = Features(trunk)
        self.heads = nn.ParameterList(torch.zeros(c) for c in CHANNELS[trunk])
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance (n,) of images (n, 3, h, w) in [-1, 1]."""
        n = len(a)
        both = self._normalised(torch.cat([a, b]))
        total = torch.zeros(n, device=a.device)
        for activation, head in zip(self.trunk(both), self.heads, strict=True):
            # Positions as rows: free with channels last.
            rows = activation.permute(0, 2, 3, 1).flatten(1, 2)
            for i in range(n):
                total[i] += _weighted_difference(rows[i], rows[n + i], head) / rows.shape[1]
        return total

    def _normalised(self, x: Tensor) -> Tensor:
        """Subtract ImageNet's mean and divide by its deviation, a row of pixels at a time."""
        rows = x.permute(0, 2, 3, 1).contiguous().flatten(2)
        width = x.shape[3]
        rows.sub_(self.shift.flatten().repeat(width)).div_(self.scale.flatten().repeat(width))
        return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)


def _weighted_difference(first: Tensor, second: Tensor, head: Tensor) -> Tensor:
    """Return the sum over positions of the head applied to squared differences of unit vectors.

    Args:
        first, second: (positions, channels).
        head: (channels,).
    """
    # On a CPU a block of positions stays in cache between the passes over it.
    block = len(first) if first.is_cuda else _BLOCK
    sums = []
    for a, b in zip(first.split(block), second.split(block), strict=True):
        unit_a, unit_b = (
            x.float() / torch.linalg.vector_norm(x.float(), dim=1, keepdim=True).add_(1e-10) for x in (a, b)
        )
        sums.append((unit_a.sub_(unit_b).square_() @ head.float()).sum())
    return torch.stack(sums).sum()


def state(trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Combine torchvision's trunk file and LPIPS's head file into the state dict of `Lpips`.

    Args:
        trunk: keys `features.N.weight|bias`; the classifier's keys are left out, everything else must fit.
        heads: keys `linN.model.1.weight` of shape (1, c, 1, 1).
    """
    kept = {f"trunk.{k}": v for k, v in trunk.items() if not k.startswith("classifier.")}
    return kept | {f"heads.{k[3]}": v.reshape(-1) for k, v in heads.items()}


def prepare(frames: Tensor) -> Tensor:
    """Turn uint8 frames (n, h, w, 3) into (n, 3, h, w) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float().mul_(2 / 255).sub_(1)


class Distance:
    """The network ready for inference.

    Args:
        trunk: which network.
        weights: state dict of `Lpips` to use instead of the official files'.
        precision: arithmetic.
    """

    def __init__(
        self, trunk: Trunk, weights: Mapping[str, Tensor] | None = None, precision: Precision = Precision.FP32
    ) -> None:
        if weights is None:
            weights = state(*(official(file) for file in LPIPS_FILES[trunk]))
        self.network = arrange(ready(Lpips(trunk), weights), precision)
        self._dtype = next(self.network.trunk.parameters()).dtype

    @torch.inference_mode()
    def distance(self, a: npt.NDArray[np.uint8] | Tensor, b: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        """Return the distance (n,) of uint8 frames (n, h, w, 3), on the device."""
        pair = (prepare(frames_tensor(x)).to(self._dtype) for x in (a, b))
        return self.network(*pair).double()

    def __call__(self, a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the distance (n,) of uint8 frames (n, h, w, 3)."""
        return self.distance(a, b).cpu().numpy()
