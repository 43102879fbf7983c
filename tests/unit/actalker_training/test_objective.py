"""Noise, targets, weights and conditioning dropout."""

from __future__ import annotations

import pytest
import tiny_system as tiny
import torch

from actalker.gates import GATES
from actalker.schedule import ScheduleConfig, build_schedule
from actalker.training.objective import Dropout, corrupt, weighted_error


@pytest.mark.parametrize("kind", ["flow", "euler_karras"])
def test_the_target_is_what_recovers_the_clean_latent(kind):
    schedule = build_schedule(ScheduleConfig(kind=kind))
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(5, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    level, noisy, target = corrupt(schedule, clean, generator)
    level = level.double().view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(schedule.clean(target, noisy, level), clean, rtol=1e-4, atol=1e-4)


def test_noise_offset_shifts_whole_channels():
    schedule = build_schedule(ScheduleConfig(kind="flow", pure_noise=1.0))
    clean = torch.zeros(400, 1, 1, 16, 16)
    _, plain, _ = corrupt(schedule, clean, torch.Generator().manual_seed(0))
    _, shifted, _ = corrupt(schedule, clean, torch.Generator().manual_seed(0), noise_offset=0.5)
    assert plain.mean((2, 3, 4)).std() == pytest.approx(1 / 16, rel=0.15)
    assert shifted.mean((2, 3, 4)).std() == pytest.approx((1 / 256 + 0.25) ** 0.5, rel=0.15)


def test_weights_move_the_loss_to_where_they_are():
    prediction, target = torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)
    prediction[..., 0, 0] = 1
    weight = torch.tensor([[4.0, 0.0], [0.0, 0.0]])[None, None, None]
    assert weighted_error(prediction, target, None).item() == pytest.approx(0.25)
    assert weighted_error(prediction, target, weight).item() == pytest.approx(1.0)
    assert weighted_error(prediction, target, weight.flip(-1)).item() == pytest.approx(0.0)


def test_dropout_is_nested_and_as_frequent_as_asked():
    keep = Dropout(all=0.1, driving=0.2, motion=0.3).draw(20000, torch.Generator().manual_seed(0))
    reference, audio, motion = keep
    assert (1 - reference.mean()).item() == pytest.approx(0.1, abs=0.01)
    assert (1 - audio.mean()).item() == pytest.approx(0.3, abs=0.01)
    assert (1 - motion.mean()).item() == pytest.approx(0.6, abs=0.01)
    assert torch.all(audio <= reference) and torch.all(motion <= audio)


def test_dropout_probabilities_are_checked():
    with pytest.raises(ValueError, match="at most 1"):
        Dropout(all=0.5, driving=0.4, motion=0.2)


def test_a_dropped_condition_equals_the_unconditional_one():
    """Audio dropped in training must be what inference calls silence: the projection of zeros."""
    parts = tiny.parts().eval()
    generator = torch.Generator().manual_seed(0)
    window = tiny.sampler().draw(2, 2, GATES["audio"], generator)
    noisy, level = torch.randn(window.clean.shape, generator=generator), torch.ones(2)
    dropped = parts.predict(noisy, level, window, GATES["audio"], (torch.ones(2), torch.zeros(2), torch.ones(2)))
    from dataclasses import replace

    silent = replace(window, audio=torch.zeros_like(window.audio))
    torch.testing.assert_close(dropped, parts.predict(noisy, level, silent, GATES["audio"]))
    heard = parts.predict(noisy, level, window, GATES["audio"])
    assert not torch.allclose(dropped, heard)


def test_joint_control_masks_separate_the_signals():
    """With the paper's masks the audio branch of the control layer cannot touch cells outside the mouth."""
    parts = tiny.parts(masks="paper").eval()
    with torch.no_grad():
        for p in parts.parameters():  # the control layer and guider start at zero
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    window = tiny.sampler().draw(1, 1, GATES["audio+visual"], torch.Generator().manual_seed(0))
    control = parts.unet.up_blocks[0].attentions[0].mamba_blocks[0]  # type: ignore[union-attr,index]
    from actalker.masks import control_masks

    masks = control_masks(window.face, window.mouth, audio=True, visual=True, mode="paper")
    x = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(1))
    tokens = [torch.randn(1, 1, n, 16, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 3)]
    levels = [m.level((8, 8), 1, 1, x) for m in (masks.audio, masks.motion)]  # type: ignore[union-attr]
    before = control(x, tokens[0], tokens[1], tokens[2][:, :, :1], *levels, frames=1)
    after = control(x, tokens[0], tokens[1] + 1, tokens[2][:, :, :1], *levels, frames=1)
    moved = (before - after).abs().amax(-1).view(8, 8) > 1e-7
    assert moved[4:7, 2:6].all()
    moved[4:7, 2:6] = False
    assert not moved.any()
