"""Outputs of the official modules on deterministic weights, in float64, to 1e-6.

The numbers were computed by running the authors' modules; see docs/actalker.md.
"""

from __future__ import annotations

import pytest
import torch

from actalker.attention import Context
from actalker.conditioning.audio import AudioProjection
from actalker.conditioning.identity import IdentityProjection
from actalker.conditioning.motion import HeadExpression, HeadPose
from actalker.conditioning.pose_guider import PoseGuider
from actalker.control import ControlConfig, ParallelControl, ScanUnit
from actalker.masks import ControlMask, ControlMasks
from actalker.unet import ACTalkerUNet, UNetConfig


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def check(output, mean, std, first, mid=(), last=None):
    flat = output.flatten()
    half = flat.numel() // 2
    got = [flat.mean(), flat.std(unbiased=False), *flat[: len(first)], *flat[half : half + len(mid)]]
    want = [mean, std, *first, *mid]
    if last is not None:
        got.append(flat[-1])
        want.append(last)
    torch.testing.assert_close(torch.stack(got), torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=1e-7)


def test_scan_unit(golden):
    unit = golden.fill(ScanUnit(width=64, rank=2, state=16))
    y = unit(golden.example((2, 64, 20), 0).transpose(1, 2)).transpose(1, 2)
    check(
        y,
        0.0002462199,
        2.1491341611,
        [-3.02479938, -0.08145749, -3.21531079, 0.45032414],
        [1.74516198, -1.74680989],
        4.09114750,
    )


def control_inputs(golden):
    x = golden.example((3, 48, 32), 1)
    identity = golden.example((3, 1, 24), 2)[None]
    driving = golden.example((3, 6, 24), 3)[None]
    audio = torch.zeros(1, 1, 64, 48)
    audio[..., 16:48, 8:40] = 1
    motion = torch.zeros(1, 1, 64, 48)
    motion[..., 0:37, :] = 1
    masks = [ControlMask(m).level((8, 6), 1, 3, x) for m in (audio, motion)]
    return x, identity, driving[:, :, :5], driving[:, :, 5:], masks


def test_parallel_control(golden):
    layer = golden.fill(ParallelControl(32, 24, ControlConfig()))
    x, identity, audio, motion, (audio_mask, motion_mask) = control_inputs(golden)
    # Row 4 of the motion mask interpolates to 1.09375 and is selected.
    assert (audio_mask.index.shape[1], motion_mask.index.shape[1]) == (16, 30)
    check(
        layer(x, identity, audio, motion, audio_mask, motion_mask, frames=3),
        -0.0037917398,
        0.7208741156,
        [-0.03918518, -0.10222457, -0.37376392, -0.74909852],
        [0.6884299, 0.05847801],
        -0.42754513,
    )


@pytest.mark.parametrize(
    ("both", "numbers"),
    [
        (
            False,
            (
                0.0568209286,
                0.3758797643,
                [-0.0410644, 0.2349691, 0.28064605, -0.0285689],
                [-0.22273298, 0.59781011],
                -0.18066105,
            ),
        ),
        (
            True,
            (
                0.0524775535,
                0.4009520182,
                [-0.13300845, -0.04929744, -0.26652968, -0.06637291],
                [-0.06672974, 0.4197609],
                -0.10246340,
            ),
        ),
    ],
    ids=["masks-face-zero", "masks-ones"],
)
def test_unet(golden, both, numbers):
    config = UNetConfig(channels=(32, 64, 128, 128), heads=(1, 2, 4, 4), condition=48)
    unet = golden.fill(ACTalkerUNet(config))
    identity, audio, motion = (
        golden.example((12, n, 48), j).unflatten(0, (4, 3)) for n, j in ((1, 5), (6, 6), (1, 7))
    )
    face = torch.zeros(1, 1, 128, 64, dtype=torch.float64)
    face[..., 24:104, 8:56] = 1
    pair = (torch.ones_like(face), torch.ones_like(face)) if both else (face, torch.zeros_like(face))
    out = unet(
        golden.example((4, 3, 8, 16, 8), 4),
        1.5,
        Context(identity, audio, motion),
        ControlMasks(*map(ControlMask, pair)),
        torch.tensor([[12.5, 12, 20]]),
        golden.example((4, 3, 32, 16, 8), 8),
    )
    check(out, *numbers)


def test_pose_guider(golden):
    image = golden.example((1, 3, 2, 32, 24), 9).transpose(1, 2)
    out = golden.fill(PoseGuider())(image).transpose(1, 2)
    assert out.shape == (1, 320, 2, 4, 3)
    check(
        out,
        -0.0000782919,
        0.0603614346,
        [-0.08739339, -0.08336218, -0.0902872, -0.08187329],
        last=0.09179984,
    )


def test_audio_projection(golden):
    check(
        golden.fill(AudioProjection())(golden.example((1, 1, 10, 5, 384), 10)),
        -0.0002289797,
        1.0030189614,
        [0.38430957, 1.09116186, 0.11950481, -0.30218897],
        last=-1.33507976,
    )


def test_identity_projection(golden):
    check(
        golden.fill(IdentityProjection())(golden.example((1, 1, 512), 11)),
        -0.0013325479,
        0.8562603595,
        [0.69653205, 0.28194445, 0.03606926, 0.12578842],
        last=-0.47048966,
    )


def test_head_expression(golden):
    check(
        golden.fill(HeadExpression())(golden.example((1, 3, 64, 64), 13)),
        0.0059744984,
        3.4597682592,
        [6.83822781, -3.55460765, -0.0327664, 0.84075408],
        last=-4.15694335,
    )


def test_head_pose(golden):
    out = golden.fill(HeadPose())(golden.example((1, 3, 64, 64), 13))
    want = [161.8340977, 101.28194775, 7.15510514, -0.80103252, -0.81519502, -1.33505942]
    torch.testing.assert_close(out[0], torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=1e-7)


def test_single_precision_is_close(golden):
    x, identity, audio, motion, masks = control_inputs(golden)
    layer = golden.fill(ParallelControl(32, 24, ControlConfig()))
    exact = layer(x, identity, audio, motion, *masks, frames=3)
    single = layer.float()(*(t.float() for t in (x, identity, audio, motion)), *masks, frames=3)
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)
