"""Exponential moving average of the weights, which is what gets shipped and validated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """Running mean of a module's parameters and floating buffers in float32.

    The decay ramps up as (1 + n) / (10 + n) until it reaches `decay`, so that short runs do not average over
    the random initialisation.

    Args:
        module: the module to follow; only its trainable parameters are averaged.
        decay: final decay per update.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {
            name: p.detach().float().clone() for name, p in module.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present parameters."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            if name in self.shadow:
                self.shadow[name].lerp_(parameter.detach().to(self.shadow[name]), 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the average into the module for the duration of the block, then restore its own weights."""
        parameters = {n: p for n, p in module.named_parameters() if n in self.shadow}
        backup = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.shadow[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(backup[name])
