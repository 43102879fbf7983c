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
from actalker.training.config import LoraConfig, PhaseConfig
from actalker.training.data import TrainingClip
from actalker.training.full import FullPreparation, FullSystem, motion_buckets
from actalker.training.objective import Dropout
from actalker.training.start import toy
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
    config = replace(config, phases=(PhaseConfig(steps=2, batch=1, frames=5, accumulation=2, lr=1e-2),))
    saved = []

    def save(folder):
        folder.mkdir()
        saved.append(folder)

    made.save = save
    train(config, [clip(), clip()], lambda _: made)
    assert len(saved) == 1 and (tmp_path / "model").is_dir() and not saved[0].exists()  # written, then renamed
    moved = {
        k.split(".")[0] for k, v in made.pipeline.conditioner.state_dict().items() if not torch.equal(v, before[k])
    }
    assert moved == {"audio_projection", "motion_projection", "identity_projection", "pose_guider"}


def test_a_low_rank_adaptation_is_trained_stored_and_loaded(tmp_path):
    """The run's model has it in its weights; added to the model it started from it gives the same weights."""
    pytest.importorskip("peft", reason="the peft package is not installed")

    class Expressive(Faces):
        def find(self, image):
            return [replace(face, blendshapes=(0.1,) * 52, head=(0.0,) * 6) for face in super().find(image)]

    toy().save_pretrained(tmp_path / "start")
    made = FullSystem(toy(), Dropout(), "paper", 0.0, LoraConfig(rank=2))
    made.preparation.conditioner._finder = Expressive()
    config = tiny.config(tmp_path / "run", steps=2)
    config = replace(config, phases=(PhaseConfig(steps=2, batch=1, frames=5, accumulation=1, lr=1e-2),))
    model = train(config, [clip(face=False), clip(face=False)], lambda _: made)
    start = ACTalkerPipeline.from_pretrained(tmp_path / "start", "cpu")
    before = {name: value.clone() for name, value in start.unet.state_dict().items()}
    start.load_lora_weights(model / "lora")
    whole = ACTalkerPipeline.from_pretrained(model, "cpu")
    for name, value in whole.conditioner.state_dict().items():  # or the adaptation alone would not be the model
        torch.testing.assert_close(value, start.conditioner.state_dict()[name], rtol=2e-3, atol=2e-3)
    trained = whole.unet.state_dict()
    half = 2e-3  # models are stored in half precision
    moved = [n for n, value in trained.items() if (value - before[n]).abs().max() > half * before[n].abs().max()]
    assert moved and all("attn" in name or "mamba" in name for name in moved)
    for name, value in start.unet.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=half, atol=half)


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


class Faces:
    """A face that moves through the picture, as a finder sees it."""

    def find(self, image):
        from actalker.components import Face

        x = float(image[0, 0, 0]) / 20
        box = (x + 6, 12, x + 26, 44)
        return [Face(box, (x + 12, 30, x + 22, 38), (x + 8, 16, x + 25, 39))]


def moving(frames=24):
    pictures = np.random.default_rng(1).integers(0, 255, (frames, 60, 40, 3), dtype=np.uint8)
    pictures[:, 0, 0] = np.linspace(0, 200, frames).astype(np.uint8)[:, None]
    return pictures


@pytest.mark.parametrize("given", [False, True], ids=["found", "given"])
def test_training_and_inference_show_the_networks_the_same(given):
    """Masks, expression and pose crops, identity and sound, with and without boxes given by hand."""
    from actalker.conditions import Request

    made = system()
    conditioner = made.preparation.conditioner
    conditioner._finder = Faces()
    seen = {}
    for name in ("expression", "pose", "identity"):
        getattr(conditioner, name).register_forward_hook(
            lambda module, given, result, name=name: seen.setdefault(name, []).append(result)
        )
    pictures = moving()
    boxes = np.array(
        [[v + d for v, d in zip(Faces().find(p)[0].box, (-1, -2, 1, 2), strict=True)] for p in pictures]
    )
    sound = np.random.default_rng(0).integers(-9000, 9000, 24 * 640, dtype=np.int16)
    face = boxes.astype(np.float32) if given else None
    features = made.preparation.prepare(TrainingClip(pictures, sound, face, "someone"))
    trained = {name: torch.cat(values) for name, values in seen.items()}
    seen.clear()
    request = Request(
        pictures[0], sound.astype(np.float32) / 32768, iter(pictures[::2]), GATES["audio+visual"], 12, 12.5,
        "paper", face=tuple(boxes[0]) if given else None,
    )  # fmt: skip
    stream = conditioner.open(request, made.pipeline.codec)
    conditions = stream.read(12)
    used = {name: torch.cat(values) for name, values in seen.items()}
    for name in ("expression", "pose"):
        torch.testing.assert_close(trained[name], used[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(trained["identity"][:1], used["identity"], rtol=1e-5, atol=1e-5)
    spoken = conditioner.audio_projection(features["audio"].float())
    torch.testing.assert_close(spoken, conditions.audio[0], rtol=1e-2, atol=1e-2)  # stored in half precision
    still = {**features, **{name: features[name][:1].expand(12, -1) for name in ("boxes", "mouths")}}
    window = made.preparation.window([still], 5, GATES["audio+visual"], torch.Generator().manual_seed(0))
    assert torch.equal(window.mouth, conditions.masks.audio.pixels)
    assert torch.equal((window.face - window.mouth).clamp_min(0), conditions.masks.motion.pixels)


def test_inputs_agree_on_real_faces(shared):
    """MediaPipe on a real clip: the mouth mask and the expression crop of a still."""
    from actalker.conditions import Request
    from actalker.faces import MODEL_NAME, MediaPipeFaces
    from actalker.media import video_frames

    pytest.importorskip("mediapipe", reason="the mediapipe package is not installed")
    video, task = shared / "media" / "talking" / "lp_d12_512_25fps.mp4", shared / "weights" / MODEL_NAME
    if not (video.is_file() and task.is_file()):
        pytest.skip("no real clip or no face model here")
    picture = next(video_frames(video, 25))
    made = system()
    conditioner = made.preparation.conditioner
    conditioner._finder = MediaPipeFaces(task)
    crops = []
    conditioner.expression.register_forward_hook(lambda module, given, result: crops.append(given[0]))
    silence = np.zeros(8 * 640, np.int16)
    features = made.preparation.prepare(TrainingClip(np.stack([picture] * 8), silence, None, "x"))
    window = made.preparation.window([features], 4, GATES["audio+visual"], torch.Generator().manual_seed(0))
    request = Request(
        picture, silence.astype(np.float32), iter([picture] * 4), GATES["audio+visual"], 4, 12.5, "paper"
    )  # fmt: skip
    conditions = conditioner.open(request, made.pipeline.codec).read(4)
    assert torch.equal(window.mouth, conditions.masks.audio.pixels) and 0.001 < window.mouth.mean() < 0.05
    assert torch.equal(crops[0][0], crops[-1][0])


def test_augmented_copies_are_cut_around_the_face_and_always_the_same():
    made = system()
    made.preparation.conditioner._finder = Faces()
    plain = TrainingClip(moving(), np.zeros(24 * 640, np.int16), None, "someone")
    first, again, other, whole = (
        made.preparation.prepare(replace(plain, variant=variant)) for variant in (1, 1, 2, 0)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["expression"], whole["expression"])
    assert not torch.equal(first["expression"], other["expression"])
    for features in (first, other):
        width, height = features["size"][2:].tolist()
        assert (features["boxes"] >= 0).all() and (features["boxes"][:, 2] <= width + 1).all()
        assert (features["boxes"][:, 3] <= height + 1).all()


def test_motion_buckets_measure_the_window():
    still = torch.tensor([[10.0, 10, 40, 50]]).repeat(5, 1)
    mouths = torch.tensor([[20.0, 36, 30, 42]]).repeat(5, 1)
    assert motion_buckets(still, mouths) == (0, 0)
    shifted = still + torch.arange(5)[:, None] * torch.tensor([1.0, 0, 1, 0])
    assert motion_buckets(shifted, mouths + torch.arange(5)[:, None] * torch.tensor([1.0, 0, 1, 0])) == (6, 0)
    speaking = mouths + torch.tensor([0.0, -1, 0, 1]) * (torch.arange(5) % 2)[:, None]
    head, mouth = motion_buckets(still, speaking)
    assert head == 0 and mouth > 5


def test_other_encoders_have_other_features():
    made, other = system(), system()
    assert made.preparation.key == system().preparation.key
    with torch.no_grad():
        other.preparation.conditioner.expression.resnet50.fc.bias.add_(1)
    assert FullPreparation(other.pipeline).key != made.preparation.key
