"""The full-size model's training path on a pipeline of the same classes with tiny sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_system as tiny
import torch
from torch import nn

from actalker.conditioning.audio import AudioProjection, AudioProjectionConfig
from actalker.conditioning.identity import IdentityProjection, IdentityProjectionConfig, IResNet, IResNetConfig
from actalker.conditioning.motion import (
    ExpressionConfig,
    HeadExpression,
    HeadPose,
    HeadPoseConfig,
    MotionProjection,
    MotionProjectionConfig,
)
from actalker.conditioning.portrait import PortraitConditioner, PortraitConditionerConfig
from actalker.conditioning.pose_guider import PoseGuider, PoseGuiderConfig
from actalker.embedded.codec import PatchCodec, PatchCodecConfig
from actalker.gates import GATES
from actalker.pipeline import ACTalkerPipeline, PipelineConfig
from actalker.sampler import SamplerConfig
from actalker.schedule import ScheduleConfig
from actalker.training.command import train
from actalker.training.config import PhaseConfig
from actalker.training.data import TrainingClip
from actalker.training.full import FullSystem
from actalker.training.objective import Dropout
from actalker.unet import ACTalkerUNet, UNetConfig


class Energy(nn.Module):
    rate, chunk_seconds = 50.0, None

    def encode(self, waveform):
        frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
        return torch.stack([frames.std(1), frames.diff(dim=1).std(1)], 1)[:, None]


def pipeline():
    torch.manual_seed(0)
    conditioner = PortraitConditioner(
        PortraitConditionerConfig(image_size=32, multiple=16),
        Energy(),
        AudioProjection(AudioProjectionConfig(layers=1, features=2, hidden=16, tokens=3, condition=24)),
        IResNet(IResNetConfig(layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), embedding=8, size=32)),
        IdentityProjection(IdentityProjectionConfig(embedding=8, hidden=16, condition=24)),
        HeadExpression(ExpressionConfig(width=4, blocks=(1, 1, 1, 1), features=8, size=32)),
        HeadPose(HeadPoseConfig(width=4, blocks=(1, 1, 1, 1), groups=2, size=32)),
        MotionProjection(MotionProjectionConfig(features=8, condition=24, rotation_scale=0.01)),
        PoseGuider(PoseGuiderConfig(widths=(4, 8, 8), outputs=32)),
    ).eval()
    unet = ACTalkerUNet(
        UNetConfig(
            in_channels=96,
            out_channels=48,
            channels=(32, 32),
            heads=(1, 2),
            attention=(True, True),
            layers=1,
            condition=24,
        )
    )
    codec = PatchCodec(PatchCodecConfig(patch=4))
    sampler = SamplerConfig(schedule=ScheduleConfig(steps=2), window=5)
    return ACTalkerPipeline(unet, codec, conditioner, PipelineConfig(fps=12.5, sampler=sampler))


def clip(frames=24, face=True):
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([10, 10, 30, 50], np.float32), (frames, 1))
    pictures = rng.integers(0, 255, (frames, 60, 40, 3), dtype=np.uint8)
    sound = rng.integers(-9000, 9000, frames * 640, dtype=np.int16)
    return TrainingClip(pictures, sound, boxes if face else None, "someone")


def system():
    return FullSystem(pipeline(), Dropout(0.1, 0.1, 0.1), "paper", 0.05)


def test_windows_have_the_models_shapes():
    preparation = system().preparation
    features = preparation.prepare(clip())
    assert int(features["frames"]) == 12  # 25 fps read at the model's 12.5
    window = preparation.window([features] * 2, 5, GATES["audio+visual"], torch.Generator().manual_seed(0))
    assert window.clean.shape == (2, 5, 48, 12, 8) and window.reference.shape == (2, 1, 48, 12, 8)
    assert window.audio.shape == (2, 5, 10, 1, 2)
    assert window.face.shape == (2, 1, 48, 32)
    inside = window.face[0, 0, 24, 16]
    assert inside == 1 and window.face[0, 0, 0, 0] == 0
    assert window.mouth[0, 0, 14, 16] == 0 and window.mouth[0, 0, 32, 16] == 1


def test_clips_without_boxes_ask_the_face_finder():
    preparation = system().preparation

    class Nobody:
        def find(self, image):
            return []

    preparation.conditioner._finder = Nobody()
    with pytest.raises(Exception, match="no face found in the training clip of someone"):
        preparation.prepare(clip(face=False))


def test_training_moves_exactly_the_trained_parts(tmp_path):
    made = system()
    before = {k: v.clone() for k, v in made.pipeline.conditioner.state_dict().items()}
    config = tiny.config(tmp_path, steps=2)
    config = replace(config, phases=(PhaseConfig(steps=4, batch=1, frames=5, accumulation=2, lr=1e-2),))
    saved = []

    def save(folder):
        folder.mkdir()
        saved.append(folder)

    made.save = save
    train(config, [clip(), clip()], lambda _: made)
    assert saved == [tmp_path / "model"]
    moved = {
        k.split(".")[0] for k, v in made.pipeline.conditioner.state_dict().items() if not torch.equal(v, before[k])
    }
    assert moved == {"audio_projection", "motion_projection", "identity_projection", "pose_guider"}


def test_a_model_is_stored_with_the_masks_it_was_trained_with():
    assert pipeline().config.masks == "released"
    assert system().pipeline.config.masks == "paper"


def test_pictures_are_decoded_in_the_models_chunks():
    made = system()
    latents = torch.randn(23, 48, 4, 4)
    sizes = []
    decode = made.pipeline.codec.decode

    def watched(chunk):
        sizes.append(len(chunk))
        return decode(chunk)

    made.pipeline.codec.decode = watched
    assert torch.equal(made.decode(latents), decode(latents / made.pipeline.codec.scaling))
    assert sizes == [10, 10, 3]
