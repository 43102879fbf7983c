"""Noise levels, prediction targets and window schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from actalker.schedule import (
    ScheduleConfig,
    bounded_windows,
    build_schedule,
    circular_windows,
    window_shift,
)

SIGMAS = [
    700.0, 545.729, 421.569, 322.454, 244.023, 182.547, 134.854, 98.267, 70.541, 49.810, 34.537, 23.468, 15.590,
    10.097, 6.354, 3.870, 2.269, 1.2732, 0.67815, 0.33938, 0.15741, 0.066399, 0.024803, 0.007882, 0.002, 0.0,
]  # fmt: skip


def test_released_sigmas():
    schedule = build_schedule(ScheduleConfig())
    torch.testing.assert_close(schedule.levels(), torch.tensor(SIGMAS, dtype=torch.float64), rtol=1e-4, atol=1e-6)
    times = schedule.time(schedule.levels()[:-1])
    assert times[0] == pytest.approx(1.63777, abs=1e-5)
    assert times[-1] == pytest.approx(-1.55365, abs=1e-5)


@pytest.mark.parametrize("kind", ["euler_karras", "flow"])
def test_the_target_is_what_recovers_the_clean_latents(kind):
    schedule = build_schedule(ScheduleConfig(kind=kind))
    clean, noise = torch.randn(2, 6, 4, dtype=torch.float64)
    level = torch.rand(6, 1, dtype=torch.float64) * 0.9 + 0.05
    noisy = schedule.corrupt(clean, noise, level)
    target = schedule.target(clean, noise, level)
    torch.testing.assert_close(schedule.clean(target, noisy, level), clean)
    # The exact prediction moves along the path of corruption.
    following = level / 3
    torch.testing.assert_close(
        schedule.step(target, noisy, level, following), schedule.corrupt(clean, noise, following)
    )


@pytest.mark.parametrize("kind", ["euler_karras", "flow"])
def test_a_perfect_network_reaches_the_clean_latents(kind):
    schedule = build_schedule(ScheduleConfig(kind=kind, steps=4))
    clean, noise = torch.randn(2, 5, dtype=torch.float64)
    x = schedule.start(torch.zeros(5, dtype=torch.float64), noise)
    levels = schedule.levels()
    for level, following in pairwise(levels):
        if kind == "flow":
            prediction = clean
        else:
            prediction = (x / (level**2 + 1) - clean) * torch.sqrt(level**2 + 1) / level
        x = schedule.step(prediction, x, level, following)
    torch.testing.assert_close(x, clean)


def test_start_of_the_released_sampler_contains_the_reference():
    reference, noise = torch.ones(3), torch.tensor([0.0, 1.0, -1.0])
    assert build_schedule(ScheduleConfig()).start(reference, noise).tolist() == [1.0, 701.0, -699.0]


def test_training_levels():
    generator = torch.Generator().manual_seed(0)
    flow = build_schedule(ScheduleConfig(kind="flow", pure_noise=0.35)).draw(20_000, generator)
    assert (flow == 1).float().mean() == pytest.approx(0.35, abs=0.02)
    assert flow[flow < 1].mean() == pytest.approx(2 / 3, abs=0.02)
    edm = build_schedule(ScheduleConfig(log_mean=0.7, log_std=1.6)).draw(20_000, generator).log()
    assert edm.mean() == pytest.approx(0.7, abs=0.05) and edm.std() == pytest.approx(1.6, abs=0.05)


def test_unknown_schedule():
    with pytest.raises(ValueError, match="known: euler_karras, flow"):
        build_schedule(ScheduleConfig(kind="ddim"))  # type: ignore[arg-type]


def hits(windows: list[torch.Tensor], total: int) -> torch.Tensor:
    counts = torch.zeros(total, dtype=torch.int64)
    for window in windows:
        counts[window] += 1
    return counts


@pytest.mark.parametrize(("frames", "twice"), [(100, 0), (25, 0), (60, 15)])
def test_circular_windows(frames, twice):
    """With N = 100 every frame is hit once per step; with N = 60, 15 of the 85 are hit twice."""
    total = frames + 25
    for step in range(25):
        windows = circular_windows(total, 25, window_shift(step, 25, 7))
        counts = hits(windows, total)
        assert all(len(window) == 25 for window in windows)
        assert counts.min() == 1 and (counts == 2).sum() == twice and counts.max() <= 2


def test_the_first_windows_shift_by_seven():
    first, second = (circular_windows(50, 25, window_shift(step, 25, 7))[0] for step in (0, 1))
    assert first.tolist() == list(range(25))
    assert second.tolist() == [*range(43, 50), *range(18)]


@pytest.mark.parametrize(("frames", "calls"), [(25, 50), (50, 75), (100, 125), (250, 275)])
def test_number_of_unet_calls(frames, calls):
    assert 25 * len(circular_windows(frames + 25, 25, 3)) == calls


@pytest.mark.parametrize("total", [1, 7, 25, 26, 60, 100])
def test_bounded_windows_cover_the_clip(total):
    for step in range(6):
        windows = bounded_windows(total, 25, window_shift(step, 25, 7))
        assert hits(windows, total).min() >= 1
        assert {len(window) for window in windows} == {min(25, total)}
        assert all((window.diff() == 1).all() for window in windows)
