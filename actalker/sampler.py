"""Denoising of one segment of a clip: guided rows in shifting windows, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from actalker.conditions import Conditions
from actalker.errors import InputError, OutOfMemoryError
from actalker.gates import Gates
from actalker.guidance import Guidance, Row, guidance_rows, row_context, stack_contexts
from actalker.schedule import (
    Schedule,
    ScheduleConfig,
    bounded_windows,
    build_schedule,
    circular_windows,
    window_shift,
)
from actalker.unet import ACTalkerUNet, InnerFeatures


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """How a segment is denoised; the defaults are the released sampler's.

    Attributes:
        schedule: noise levels and parametrisation.
        guidance: guidance scales.
        window: frames the UNet sees at once.
        shift: how far the windows move from step to step.
        circular: windows wrap around behind one window of padding frames, as released; False keeps them
            inside the clip, which saves the padding's share of the work.
        time_ids: numbers added to the time embedding: frame rate, motion bucket, expression bucket.
        guidance_interval: lowest and highest noise level at which guidance is computed; elsewhere one row with
            all conditions runs. None guides at every level.
        cache_interval: at every so manieth step the whole UNet runs; at the others its inner levels' features are
            those of the last whole one, frame by frame. 1 computes everything.
        items_per_call: (row, window) pairs per UNet call; None takes all rows of one window. Fewer need less
            memory, more keep a fast device busy.
    """

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    guidance: Guidance = field(default_factory=Guidance)
    window: int = 25
    shift: int = 7
    circular: bool = True
    time_ids: tuple[float, ...] = (12.5, 12.0, 20.0)
    guidance_interval: tuple[float, float] | None = None
    cache_interval: int = 1
    items_per_call: int | None = None


Progress = Callable[[int, int], None]
OnStep = Callable[[int, Tensor, Tensor], Tensor]
"""Receives step, time and latents after each step; returns the latents to go on with."""


def with_options(
    sampler: SamplerConfig,
    steps: int | None,
    sigmas: Sequence[float] | None,
    guidance: Guidance | None,
    interval: tuple[float, float] | None,
    cache_interval: int | None,
    items: int | None,
) -> SamplerConfig:
    """The sampler's settings with those of one call.

    Raises:
        InputError: a setting out of range.
    """
    for name, value in (("steps", steps), ("cache_interval", cache_interval), ("items_per_call", items)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: at least 1 is needed")
    if steps is not None:
        sampler = replace(sampler, schedule=replace(sampler.schedule, steps=steps))
    if sigmas is not None:
        given = tuple(float(sigma) for sigma in sigmas)
        falling = all(a > b for a, b in pairwise(given))
        if not given or not falling or given[-1] <= 0:
            raise InputError("sigmas must be positive and fall from step to step, without the final 0")
        if sampler.schedule.kind != "euler_karras":
            raise InputError("this model's schedule has no sigmas", "Give steps instead.")
        sampler = replace(sampler, schedule=replace(sampler.schedule, sigmas=given))
    if guidance is not None:
        sampler = replace(sampler, guidance=guidance)
    if interval is not None:
        if not 0 <= interval[0] <= interval[1]:
            raise InputError(f"guidance_interval={interval}: give (lowest, highest) noise level")
        sampler = replace(sampler, guidance_interval=(float(interval[0]), float(interval[1])))
    if cache_interval is not None:
        sampler = replace(sampler, cache_interval=cache_interval)
    if items is not None:
        sampler = replace(sampler, items_per_call=items)
    return sampler


@torch.no_grad()
def denoise(
    unet: ACTalkerUNet,
    conditions: Conditions,
    frames: int,
    gates: Gates,
    config: SamplerConfig,
    scaling: float,
    generator: torch.Generator,
    progress: Progress | None = None,
    *,
    schedule: Schedule | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents of `frames` consecutive frames.

    Args:
        unet: the network; its dtype and device are used for its inputs.
        conditions: of exactly these frames.
        frames: how many.
        gates: open branches.
        config: sampler settings.
        scaling: the codec's scaling.
        generator: CPU generator; noise is drawn there and moved, so every device gets the same clip.
        progress: called with (UNet calls done, all UNet calls).
        schedule: the noise schedule, fresh; by default the config's.
        on_step: sees and may change the latents (1, frames and padding, c, h, w) after each step.

    Returns:
        Scaled latents (1, frames, c, h, w), float32 (float64 for a float64 UNet).

    Raises:
        OutOfMemoryError: the device's memory does not hold one UNet call.
    """
    schedule = build_schedule(config.schedule) if schedule is None else schedule
    weight = unet.conv_in.weight
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    total = frames
    if config.circular:
        total += config.window
        conditions = conditions.padded(config.window)
    reference = conditions.reference.to(weight.device, wide)
    shape = (1, total, *reference.shape[2:])
    noise = torch.randn(shape, generator=generator, dtype=torch.float32).to(weight.device, wide)
    # Before the start, which a scheduler of diffusers needs; in this order, as not every device has float64.
    levels = schedule.levels().to(wide).to(weight.device)
    latents = schedule.start((reference * scaling).expand(shape), noise)
    guided, plain = guidance_rows(config.guidance, gates), guidance_rows(Guidance(1, 1, 1), gates)
    time_ids = None
    if unet.config.time_ids:
        time_ids = torch.tensor([config.time_ids], dtype=torch.float32, device=weight.device)
    steps = len(levels) - 1
    make_windows = circular_windows if config.circular else bounded_windows
    cache = InnerCache(total) if config.cache_interval > 1 else None
    for step in range(steps):
        level, following = levels[step], levels[step + 1]
        rows = guided if _inside(float(level), config.guidance_interval) else plain
        windows = make_windows(total, config.window, window_shift(step, config.window, config.shift))
        if cache is not None and step % config.cache_interval == 0:
            cache.clear()
        inputs = schedule.scale(latents, level)
        summed = torch.zeros_like(latents)
        hits = latents.new_zeros(total)
        items = [(row, window) for window in windows for row in rows]
        size = config.items_per_call or len(rows)
        if not conditions.masks.constant:
            size = min(size, len(rows))
        for done in range(0, len(items), size):
            part = items[done : done + size]
            inner = None if cache is None else cache.recall(part)
            predicted = _predict(unet, conditions, inputs, part, schedule.time(level), time_ids, inner)
            if cache is not None and inner is not None:
                cache.keep(part, inner)
            for (row, window), prediction in zip(part, predicted.to(wide), strict=True):
                summed[0].index_add_(0, window.to(summed.device), prediction * row.weight)
            if progress is not None:
                progress(step * len(items) + min(done + size, len(items)), steps * len(items))
        for window in windows:
            hits[window.to(hits.device)] += 1
        latents = schedule.step(summed / hits[None, :, None, None, None], latents, level, following)
        if on_step is not None:
            latents = on_step(step, schedule.time(level), latents)
    return latents[:, :frames]


class InnerCache:
    """The UNet's inner features of every frame and guidance row at the last step that computed them.

    Args:
        frames: frames that are denoised, padding included.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._features: dict[Row, Tensor] = {}
        self._there: dict[Row, Tensor] = {}

    def clear(self) -> None:
        """Forget everything: the next step computes the whole UNet."""
        self._there.clear()

    def recall(self, items: Sequence[tuple[Row, Tensor]]) -> InnerFeatures:
        """Features of some (row, window) items; empty unless all of their frames are there."""
        for row, window in items:
            if row not in self._there or not bool(self._there[row][window.cpu()].all()):
                return InnerFeatures()
        return InnerFeatures(
            torch.cat([self._features[row][window.to(self._features[row].device)] for row, window in items])
        )

    def keep(self, items: Sequence[tuple[Row, Tensor]], inner: InnerFeatures) -> None:
        """Remember what a call computed."""
        assert inner.value is not None, "the UNet fills them"
        for (row, window), value in zip(items, inner.value.chunk(len(items)), strict=True):
            if row not in self._there:
                self._there[row] = torch.zeros(self._frames, dtype=torch.bool)
                if row not in self._features:
                    self._features[row] = value.new_empty(self._frames, *value.shape[1:])
            self._features[row][window.to(value.device)] = value
            self._there[row][window.cpu()] = True


def _inside(level: float, interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= level <= interval[1]


def _predict(
    unet: ACTalkerUNet,
    conditions: Conditions,
    inputs: Tensor,
    items: list[tuple[Row, Tensor]],
    time: Tensor,
    time_ids: Tensor | None,
    inner: InnerFeatures | None,
) -> Tensor:
    """One UNet call for several (row, window) items: (items, frames, c, h, w)."""
    weight = unet.conv_in.weight
    samples, contexts, spatials = [], [], []
    masks = conditions.masks
    for row, window in items:
        frames = len(window)
        local = conditions.frames(window)
        masks = local.masks
        reference = local.reference if row.appearance else torch.zeros_like(local.reference)
        noisy = inputs[:, window.to(inputs.device)]
        reference = reference.to(noisy).expand(-1, frames, -1, -1, -1)
        samples.append(torch.cat([noisy, reference], dim=2))
        contexts.append(row_context(row, local, frames))
        if local.spatial is not None:
            spatials.append(local.spatial)
    context = stack_contexts(contexts)
    spatial = None
    if spatials:
        spatial = spatials[0] if spatials[0].shape[1] == 1 else torch.cat(spatials)
    try:
        return unet(torch.cat(samples).to(weight.dtype), time, context, masks, time_ids, spatial, inner)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{weight.device} ran out of memory in a UNet call over {len(items)} guidance rows of "
            f"{len(items[0][1])} frames",
            f"Set items_per_call to {len(items) // 2} (it halves the need)."
            if len(items) > 1
            else f"Halve the window ({len(items[0][1])} frames) or the image size.",
        ) from error
