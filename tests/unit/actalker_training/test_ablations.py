"""The paper's ablations: each is built, trained, stored, loaded and run, and lacks exactly its part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_system as tiny
import torch

from actalker.attention import Context
from actalker.control import CrossAttentionControl, ParallelControl
from actalker.embedded.build import UNET
from actalker.errors import CheckpointError
from actalker.masks import ControlMask, ControlMasks
from actalker.pipeline import ACTalkerPipeline
from actalker.training.ablation import ablate, rebuild
from actalker.training.command import build_system, train
from actalker.training.config import PhaseConfig
from actalker.training.data import TrainingClip
from actalker.unet import ACTalkerUNet

ABLATIONS = ("no-pcm", "no-mask-drop", "no-identity")
FRAMES = 14


def clip():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (FRAMES, 64, 64, 3), dtype=np.uint8)
    return TrainingClip(pictures, rng.integers(-9000, 9000, FRAMES * 640, dtype=np.int16), None, "someone")


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablated_model_trains_and_generates(ablation, encoders, tmp_path):
    base = tiny.config(tmp_path)
    config = replace(
        base,
        model=f"embedded:{encoders}",
        ablation=ablation,
        phases=(PhaseConfig(steps=2, batch=1, frames=2, accumulation=1, lr=1e-2),),
        gates=replace(base.gates, audio=0.0, visual=0.0, both=1.0, masks="overlap"),
    )
    folder = train(config, [clip()])
    pipeline = ACTalkerPipeline.from_pretrained(folder, "cpu")
    assert (pipeline.unet.config, pipeline.config.masks) == ablate(ablation, UNET, "overlap")
    # Two steps away from where it started: the trainer reached what replaces the part.
    fresh = build_system(config).parts.unet.state_dict()
    stored = pipeline.unet.state_dict()
    moved = [key for key, value in stored.items() if not torch.equal(value, fresh[key].half().float())]
    assert any(".mamba_blocks." in key for key in moved)
    given = clip()
    made = np.stack(list(pipeline(given.frames[0], given.audio, given.frames, seed=1)))
    assert made.shape == given.frames.shape


@pytest.mark.parametrize("ablation", (*ABLATIONS, "none"))
def test_exactly_the_named_part_is_missing(ablation):
    config, masks = ablate(ablation, UNET, "overlap")
    unet = ACTalkerUNet(config)
    layers = [layer for layer in unet.modules() if isinstance(layer, ParallelControl | CrossAttentionControl)]
    assert layers
    assert all(isinstance(layer, CrossAttentionControl) for layer in layers) == (ablation == "no-pcm")
    assert (masks == "none") == (ablation == "no-mask-drop")

    with torch.no_grad():
        for layer in layers:
            for p in layer.parameters():
                torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(p.numel()))
    generator = torch.Generator().manual_seed(0)
    width = UNET.channels[1]

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    tokens, who, other = draw(2, 16, width), draw(1, 2, 1, UNET.condition), draw(1, 2, 1, UNET.condition)
    audio, motion = draw(1, 2, 3, UNET.condition), draw(1, 2, 1, UNET.condition)
    with torch.no_grad():
        a, b = (layers[0](tokens, identity, audio, motion, None, None, 2) for identity in (who, other))
    assert torch.equal(a, b) == (ablation == "no-identity")


def test_masks_do_not_confine_the_cross_attention_baseline():
    """The paper's baseline has no token selection: the driving signal reaches every token."""
    layer = CrossAttentionControl(8, 8, 2, identity=True)
    torch.nn.init.normal_(layer.to_out.weight)
    box = torch.zeros(1, 1, 32, 32)
    box[..., 16:, :] = 1
    mask = ControlMask(box).level((4, 4), 1, 1, torch.zeros(1))
    tokens, identity, motion = torch.randn(1, 16, 8), torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    made = [layer(tokens, identity, torch.full((1, 1, 2, 8), v), motion, mask, None, 1) for v in (0.0, 1.0)]
    assert ((made[0] - made[1]).abs().amax(-1) > 0).all()


def test_a_stored_unet_keeps_its_weights_outside_the_control_layers():
    torch.manual_seed(0)
    whole = ACTalkerUNet(replace(UNET, channels=(8, 8), heads=(1, 1)))
    for ablation in ("no-pcm", "no-identity"):
        config, _ = ablate(ablation, whole.config, "paper")
        made = rebuild(whole, config)
        assert made.config == config
        for key, value in whole.state_dict().items():
            if ".mamba_blocks." not in key or (ablation == "no-identity" and ".id_proj." not in key):
                assert torch.equal(made.state_dict()[key], value)
    assert rebuild(whole, whole.config) is whole
    with pytest.raises(CheckpointError, match=r"conv_in\.bias"):
        rebuild(whole, replace(whole.config, channels=(16, 16), heads=(1, 1)))


def test_an_untrained_baseline_changes_nothing():
    """It can be put into a pretrained UNet: before training it is the identity."""
    config, _ = ablate("no-pcm", replace(UNET, channels=(8, 8), heads=(1, 1)), "paper")
    torch.manual_seed(0)
    with_baseline = ACTalkerUNet(config).eval()
    without = rebuild(with_baseline, replace(config, control=replace(config.control, kind="none"))).eval()
    context = Context(*(torch.randn(1, 2, n, UNET.condition) for n in (1, 4, 1)))
    sample = torch.randn(1, 2, UNET.in_channels, 8, 8)
    with torch.no_grad():
        a, b = (net(sample, 0.5, context, ControlMasks()) for net in (with_baseline, without))
    assert torch.equal(a, b)
