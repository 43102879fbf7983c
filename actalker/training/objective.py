"""The training objective: a schedule's own target, a region-weighted squared error, conditioning dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from actalker.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Dropout:
    """Probabilities with which conditions are replaced by their unconditional form, drawn per clip.

    They train the rows of classifier-free guidance: `all` drops identity, reference, audio and motion,
    `driving` audio and motion, `motion` motion alone.
    """

    all: float = 0.0
    driving: float = 0.0
    motion: float = 0.0

    def __post_init__(self) -> None:
        if min(self.all, self.driving, self.motion) < 0 or self.all + self.driving + self.motion > 1:
            raise ValueError("dropout probabilities must be >= 0 and sum to at most 1")

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return which clips keep identity and reference, audio, and motion: 1 = keep, each (count,)."""
        u = torch.rand(count, generator=generator)
        levels = (self.all, self.all + self.driving, self.all + self.driving + self.motion)
        reference, audio, motion = ((u >= level).float() for level in levels)
        return reference, audio, motion


def corrupt(
    schedule: Schedule, clean: Tensor, generator: torch.Generator, noise_offset: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a noise level per clip and add noise.

    Args:
        schedule: noise schedule.
        clean: latents (b, f, c, h, w).
        generator: CPU generator, so that every device draws the same.
        noise_offset: standard deviation of noise shared by all cells of a channel, which lets the model
            change overall brightness.

    Returns:
        levels (b,), noisy latents, and what the network should predict, both like `clean`.
    """
    level = schedule.draw(clean.shape[0], generator)
    noise = torch.randn(clean.shape, generator=generator)
    if noise_offset:
        noise = noise + noise_offset * torch.randn(*clean.shape[:3], 1, 1, generator=generator)
    level, noise = level.to(clean.device), noise.to(clean.device)
    wide = level.view(-1, *(1,) * (clean.dim() - 1))
    return level, schedule.corrupt(clean, noise, wide), schedule.target(clean, noise, wide)


def weighted_error(prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Mean squared error of each clip, (b,), float32.

    Args:
        prediction, target: (b, f, c, h, w).
        weight: (b, f, 1, h, w) of mean about 1, or None.
    """
    error = (prediction.float() - target.float()) ** 2
    if weight is not None:
        error = error * weight
    return error.flatten(1).mean(1)
