"""Face-location image to features added after the UNet's first convolution."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from actalker.config import Configured


@dataclass(frozen=True, slots=True)
class PoseGuiderConfig:
    """Sizes; the defaults are the released `pose_guider` file.

    Attributes:
        inputs: channels of the condition image.
        widths: channels at each resolution; every step to the next one halves the size, so the image is
            reduced by 2 ** (len(widths) - 1), which must equal the codec's stride.
        outputs: channels of the UNet's finest level.
    """

    inputs: int = 3
    widths: tuple[int, ...] = (16, 32, 96, 256)
    outputs: int = 320


class PoseGuider(Configured):
    """Small convolutional encoder whose last layer starts at zero."""

    Config = PoseGuiderConfig
    config: PoseGuiderConfig

    def __init__(self, config: PoseGuiderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PoseGuiderConfig()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.inputs, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, wider in pairwise(widths):
            self.blocks.append(nn.Conv2d(width, width, 3, padding=1))
            self.blocks.append(nn.Conv2d(width, wider, 3, stride=2, padding=1))
        self.conv_out = nn.Conv2d(widths[-1], config.outputs, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """(batch, frames, inputs, height, width) in [0, 1] -> (batch, frames, outputs, h, w)."""
        x = F.silu(self.conv_in(image.flatten(0, 1)))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x).unflatten(0, image.shape[:2])
