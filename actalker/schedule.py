"""Noise schedules (what the network predicts at which noise level) and the window schedule of long clips.

`EulerKarras` is the released sampler: v-prediction on Karras sigmas, one Euler step each, as Stable Video
Diffusion. `Flow` predicts the clean latents on the straight path x_t = (1−t)·x₀ + t·ε and is meant for few
steps. Both also serve training: `draw`, `corrupt`, `target`.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from actalker.errors import InputError


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Which schedule, and its numbers.

    Attributes:
        kind: `euler_karras` (v-prediction) or `flow` (clean-latent prediction).
        steps: sampling steps.
        sigma_min, sigma_max, rho: Karras sigmas.
        sigmas: levels of the steps instead of Karras's, falling, without the final 0 (`euler_karras`).
        log_mean, log_std: ln σ is drawn from this normal distribution in training.
        pure_noise: share of training samples at t = 1; the others have density 2t (`flow`).
    """

    kind: Literal["euler_karras", "flow"] = "euler_karras"
    steps: int = 25
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    sigmas: tuple[float, ...] = ()
    log_mean: float = 0.7
    log_std: float = 1.6
    pure_noise: float = 0.35


class EulerKarras:
    """v-prediction with noise levels σ: x_σ = x₀ + σ·ε, network input x_σ / √(σ²+1), time ¼·ln σ."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config

    def levels(self, steps: int | None = None) -> Tensor:
        """σ of every step and a final 0, (steps + 1,), float64."""
        config, steps = self.config, steps or self.config.steps
        if config.sigmas:
            return torch.tensor([*config.sigmas, 0.0], dtype=torch.float64)
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
        return torch.cat([(high + ramp * (low - high)) ** config.rho, torch.zeros(1, dtype=torch.float64)])

    def time(self, level: Tensor) -> Tensor:
        """What the UNet is told about the noise level."""
        return 0.25 * torch.log(level)

    def start(self, reference: Tensor, noise: Tensor) -> Tensor:
        """First latents: the released pipeline starts from the noised reference, not from pure noise."""
        first = self.config.sigmas[0] if self.config.sigmas else self.config.sigma_max
        return reference + first * noise

    def scale(self, x: Tensor, level: Tensor) -> Tensor:
        """Network input for latents `x`."""
        return x / torch.sqrt(level**2 + 1)

    def clean(self, prediction: Tensor, x: Tensor, level: Tensor) -> Tensor:
        """Clean latents implied by a prediction."""
        return x / (level**2 + 1) - prediction * (level / torch.sqrt(level**2 + 1))

    def step(self, prediction: Tensor, x: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """Euler step from `level` to `following`."""
        return x + (x - self.clean(prediction, x, level)) / level * (following - level)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Random training levels (count,)."""
        return torch.exp(self.config.log_mean + self.config.log_std * torch.randn(count, generator=generator))

    def corrupt(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Noisy latents; `level` broadcasts."""
        return clean + level * noise

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should predict. Unit weight here is EDM's weight on the clean latents."""
        return (noise - level * clean) / torch.sqrt(level**2 + 1)


class Flow:
    """Clean-latent prediction with noise levels t in (0, 1]: x_t = (1−t)·x₀ + t·ε, time 1000·t."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config

    def levels(self, steps: int | None = None) -> Tensor:
        """t of every step and a final 0, (steps + 1,), float64."""
        return torch.linspace(1, 0, (steps or self.config.steps) + 1, dtype=torch.float64)

    def time(self, level: Tensor) -> Tensor:
        """What the UNet is told about the noise level."""
        return 1000 * level

    def start(self, reference: Tensor, noise: Tensor) -> Tensor:
        """First latents: pure noise."""
        return noise.expand_as(reference) if noise.shape != reference.shape else noise

    def scale(self, x: Tensor, level: Tensor) -> Tensor:
        """Network input for latents `x`."""
        return x

    def clean(self, prediction: Tensor, x: Tensor, level: Tensor) -> Tensor:
        """Clean latents implied by a prediction."""
        return prediction

    def step(self, prediction: Tensor, x: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """Move along the straight path from `level` to `following`."""
        return prediction + (following / level) * (x - prediction)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Random training levels (count,): t = 1 with probability `pure_noise`, else density 2t."""
        t = torch.rand(count, generator=generator).sqrt().clamp_min(1e-3)
        return torch.where(torch.rand(count, generator=generator) < self.config.pure_noise, torch.ones(()), t)

    def corrupt(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Noisy latents; `level` broadcasts."""
        return (1 - level) * clean + level * noise

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should predict."""
        return clean


class DiffusersSchedule(EulerKarras):
    """The stepping rule of a diffusers scheduler on this model's own noise levels.

    Whatever the scheduler calls its time, the network is told ¼·ln σ, as it was trained. The scheduler is copied,
    because multi-step ones keep a history; make one of these per segment.

    Args:
        scheduler: predicts from v; one network evaluation per step.
        config: levels of the run.
    """

    def __init__(self, scheduler: Any, config: ScheduleConfig) -> None:
        super().__init__(config)
        self._scheduler = copy.deepcopy(scheduler)
        self._step = 0
        takes = inspect.signature(self._scheduler.step).parameters
        self._options = {"generator": torch.Generator().manual_seed(0)} if "generator" in takes else {}

    def levels(self, steps: int | None = None) -> Tensor:
        """σ of every step and a final 0, (steps + 1,), float64."""
        levels = super().levels(steps)
        self._scheduler.set_timesteps(len(levels) - 1)
        self._scheduler.sigmas = levels.float()
        self._scheduler.timesteps = self.time(levels[:-1]).float()
        self._scheduler.set_begin_index(0)
        self._step = 0
        return levels

    def start(self, reference: Tensor, noise: Tensor) -> Tensor:
        """The noised reference at the first level, as the scheduler scales it."""
        made: Tensor = self._scheduler.add_noise(reference, noise, self._scheduler.timesteps[:1])
        return made

    def scale(self, x: Tensor, level: Tensor) -> Tensor:
        """Network input for latents `x`."""
        made: Tensor = self._scheduler.scale_model_input(x, self._scheduler.timesteps[self._step])
        return made

    def step(self, prediction: Tensor, x: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """The scheduler's own step."""
        time = self._scheduler.timesteps[self._step]
        self._step += 1
        made: Tensor = self._scheduler.step(prediction, time, x, **self._options).prev_sample
        return made


Schedule = EulerKarras | Flow


def euler_scheduler(config: ScheduleConfig) -> Any:
    """`EulerKarras` as a scheduler of diffusers; None for clean latents, which diffusers knows nothing like."""
    if config.kind != "euler_karras":
        return None
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_type="continuous", timestep_spacing="leading", steps_offset=1, use_karras_sigmas=True,
        sigma_min=config.sigma_min, sigma_max=config.sigma_max,
    )  # fmt: skip


def check_scheduler(scheduler: Any, config: ScheduleConfig) -> None:
    """Refuse a scheduler of diffusers that cannot step a model.

    Raises:
        InputError: the model predicts clean latents, or the scheduler asks the network more than once a step.
    """
    if config.kind != "euler_karras":
        raise InputError(
            "this model predicts clean latents and has its own schedule; diffusers schedulers do not fit it",
            "Change PipelineConfig.sampler.schedule instead.",
        )
    if getattr(scheduler, "order", 1) != 1 or not hasattr(scheduler, "set_begin_index"):
        raise InputError(
            f"{type(scheduler).__name__} asks the network more than once a step, and shifting windows do not",
            "Choose a scheduler of order 1, such as EulerDiscreteScheduler or UniPCMultistepScheduler.",
        )


def build_schedule(config: ScheduleConfig) -> Schedule:
    """The schedule a config names.

    Raises:
        ValueError: unknown kind.
    """
    if config.kind == "euler_karras":
        return EulerKarras(config)
    if config.kind == "flow":
        return Flow(config)
    raise ValueError(f"unknown schedule {config.kind!r}; known: euler_karras, flow")


def circular_windows(total: int, window: int, shift: int) -> list[Tensor]:
    """Windows of one step as in the released pipeline: consecutive, moved back by `shift`, modulo `total`.

    The caller appends one window of padding frames, which keeps the clip's end from meeting its beginning.

    Returns:
        ceil(total / window) index tensors (window,). When `window` divides `total`, each frame occurs once;
        else the last window wraps and some occur twice.
    """
    offsets = torch.arange(window)
    return [(start - shift + offsets) % total for start in range(0, total, window)]


def bounded_windows(total: int, window: int, shift: int) -> list[Tensor]:
    """Windows of one step that stay inside the clip and need no padding.

    Cuts lie at `shift`, `shift + window`, ...; a piece shorter than `window` at either end is widened
    inwards to a full window, so some frames occur twice.

    Returns:
        Index tensors of length min(window, total) that cover all frames.
    """
    window = min(window, total)
    shift %= window
    starts = {max(0, min(start, total - window)) for start in range(shift - window if shift else 0, total, window)}
    return [torch.arange(start, start + window) for start in sorted(starts)]


def window_shift(step: int, window: int, offset: int) -> int:
    """How far the windows of sampling step `step` are moved: (offset · step) mod window."""
    return (offset * step) % window
