"""Head geometry, encoders, codec and windows of the embedded model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actalker.conditioning.audio import AudioProjection
from actalker.conditioning.identity import IResNet
from actalker.embedded import alignment
from actalker.embedded.build import AUDIO
from actalker.embedded.codec import PatchCodec
from actalker.embedded.conditioner import _Lookahead, square
from actalker.embedded.encoders import (
    ARCFACE,
    SmallAudioEncoder,
    SmallAudioEncoderConfig,
    SmallHeadExpression,
    SmallHeadExpressionConfig,
    SmallHeadPose,
    SmallHeadPoseConfig,
    mel_filters,
)
from actalker.embedded.reading import Reader, smooth, without_mouth
from actalker.embedded.windows import EmbeddedPreparation
from actalker.gates import GATES
from actalker.training.data import TrainingClip

STILL = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])


def picture(seed=0):
    """A smooth random picture: warps interpolate, so white noise would not survive them."""
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=64, mode="bicubic").clamp(-1, 1)


def test_warping_to_the_same_pose_changes_nothing():
    pose = torch.tensor([[0.2, -0.1, 0.1, 0.05, -0.03, 0.95]])
    torch.testing.assert_close(alignment.warp(picture(), pose, pose), picture(), atol=2e-3, rtol=0)


def test_warping_there_and_back_keeps_the_face():
    target = torch.tensor([[0.15, 0.05, 0.05, 0.04, 0.02, 1.03]])
    back = alignment.warp(alignment.warp(picture(), STILL, target), target, STILL)
    face = (slice(None), slice(None), slice(20, 46), slice(22, 42))
    assert (back - picture())[face].abs().mean() < 0.05
    assert (alignment.warp(picture(), STILL, target) - picture())[face].abs().mean() > 0.1


def test_a_shift_of_the_head_moves_the_face_by_that_much():
    target = STILL.clone()
    target[0, 3] = 4 / 32  # four pixels to the right
    moved = alignment.warp(picture(), STILL, target)
    torch.testing.assert_close(moved[..., 20:40, 24:44], picture()[..., 20:40, 20:40], atol=1e-4, rtol=0)


def test_the_renderer_and_the_warp_agree_on_a_turned_head():
    """A rendered head warped to another pose is nearer to the head rendered there than the untouched one is."""
    renderer = pytest.importorskip("bench.synthetic.renderer")
    from bench.synthetic import parameters

    rng = np.random.default_rng(0)
    who, around = parameters.identity("validation", 0), parameters.nuisance(rng)[0]
    expression = np.zeros((2, 10), np.float32)
    poses = np.array([[0, 0, 0, 0, 0, 1], [0.3, 0.1, 0.1, 0.06, 0.02, 1.05]], np.float32)
    frames = renderer.render(who, expression, poses, around)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    p = torch.from_numpy(poses)
    warped = alignment.warp(x[:1], p[:1], p[1:])
    assert (warped - x[1:]).square().mean() < 0.5 * (x[:1] - x[1:]).square().mean()


def test_regions_have_mean_one_and_favour_mouth_and_eyes():
    weight = alignment.region_weight(STILL, 64)
    assert weight.shape == (1, 1, 64, 64)
    assert weight.mean().item() == pytest.approx(1, abs=1e-5)
    mouth, eye, corner = weight[0, 0, 44, 32], weight[0, 0, 28, 25], weight[0, 0, 2, 2]
    assert mouth > 5 * corner and eye > 5 * corner
    no_eyes = alignment.region_weight(STILL, 64, eyes=1.0)
    assert no_eyes[0, 0, 28, 25] == pytest.approx(no_eyes[0, 0, 2, 2].item(), rel=1e-2)


def test_the_map_of_head_points_shows_an_eye_where_the_eye_is():
    pose = torch.tensor([[0.3, -0.1, 0.15, 0.04, 0.02, 1.05]])
    seen = alignment.coordinates(pose, 64)
    eyes = alignment.regions(pose, 64)[:, 1:]
    left = (seen[:, :1] < 0) * eyes > 0.9
    centre = [seen[:, axis : axis + 1][left].mean() for axis in (0, 1)]
    assert torch.stack(centre).sub(torch.tensor(alignment.EYES[0])).abs().max() < 0.06
    assert seen[0, :, :3].abs().max() == 0, "above the head there is nothing"


def test_boxes_lie_in_each_other():
    face, mouth = alignment.face_box(STILL, 64)[0], alignment.mouth_box(STILL, 64)[0]
    assert face[0] < mouth[0] and face[2] > mouth[2] and mouth[1] > face[1] + 20


def test_the_codec_loses_nothing_and_states_its_geometry():
    codec = PatchCodec()
    assert (codec.stride, codec.latent_channels, codec.scaling) == (4, 48, 1.0)
    latents = codec.encode(picture())
    assert latents.shape == (1, 48, 16, 16)
    torch.testing.assert_close(codec.decode(latents), picture(), atol=1e-5, rtol=0)


def test_mel_bands_respond_to_their_frequency():
    filters = mel_filters(40)
    assert filters.shape == (40, 257) and (filters >= 0).all()
    encoder = SmallAudioEncoder(SmallAudioEncoderConfig())
    time = torch.arange(16000) / 16000
    loudest = [
        encoder.log_mel(torch.sin(2 * torch.pi * f * time)[None])[0, :, 50].argmax() for f in (200, 1000, 4000)
    ]
    assert loudest[0] < loudest[1] < loudest[2]


def test_speech_features_come_at_fifty_hertz_and_ignore_loudness():
    reader = small_reader()
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 0.1
    features = reader.speech(sound)
    assert features.shape == (50, 1, 67)
    torch.testing.assert_close(reader.speech(sound * 0.2), features, atol=1e-3, rtol=1e-3)


def test_poses_are_smoothed_over_three_frames():
    pose = torch.zeros(5, 6)
    pose[2] = 1
    assert smooth(pose)[:, 0].tolist() == [0, 0.25, 0.5, 0.25, 0]
    torch.testing.assert_close(smooth(torch.ones(4, 6)), torch.ones(4, 6))


def test_reading_a_video_in_pieces_equals_reading_it_whole():
    reader = small_reader()
    video = torch.cat([picture(i) for i in range(9)])
    whole = reader.motion(video)
    stream = _Lookahead(iter(video.split(1)))
    pieces = [stream.read(count, reader) for count in (4, 1, 4)]
    torch.testing.assert_close(torch.cat([p.pose for p in pieces]), whole.pose)
    torch.testing.assert_close(torch.cat([p.expression for p in pieces]), whole.expression, atol=1e-5, rtol=1e-5)


def test_the_mouth_is_hidden_from_the_motion():
    assert without_mouth(torch.ones(2, 10)).sum(1).tolist() == [7, 7]


def test_pictures_of_any_size_become_squares():
    wide = np.zeros((90, 160, 3), np.uint8)
    wide[:, 35:125] = 255  # the middle square
    assert square(wide).shape == (1, 3, 64, 64)
    assert square(wide).min() > 0.99
    boxed = square(wide, (100, 30, 145, 75))
    assert boxed.shape == (1, 3, 64, 64) and boxed.min() < 0


def small_reader():
    torch.manual_seed(0)
    return Reader(
        SmallHeadPose(SmallHeadPoseConfig(width=4, hidden=8)).eval(),
        SmallHeadExpression(SmallHeadExpressionConfig(width=4, hidden=8)).eval(),
        IResNet(ARCFACE).eval(),
        SmallAudioEncoder(SmallAudioEncoderConfig()).eval(),
    )


@pytest.mark.parametrize("gate", list(GATES))
def test_windows_hide_what_the_gate_closes(gate):
    rng = np.random.default_rng(0)
    clip = TrainingClip(
        rng.integers(0, 255, (12, 64, 64, 3), dtype=np.uint8),
        rng.integers(-9000, 9000, 12 * 640, dtype=np.int16),
        None,
        "someone",
    )
    preparation = EmbeddedPreparation(small_reader(), PatchCodec(), AudioProjection(AUDIO))
    features = preparation.prepare(clip)
    window = preparation.window([features] * 2, 3, GATES[gate], torch.Generator().manual_seed(0))
    assert window.clean.shape == window.reference.shape == (2, 3, 48, 16, 16)
    assert window.audio.shape == (2, 3, 10, 1, 67)
    assert window.weight.mean().item() == pytest.approx(1, abs=1e-4)
    mouth = window.expression[..., :3].abs().sum()
    assert (mouth == 0) == GATES[gate].audio
    assert window.expression[..., 3:].abs().sum() > 0
    assert ((window.mouth > 0) <= (window.face > 0)).float().mean() > 0.95
