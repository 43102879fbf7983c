"""The embedded model as a pipeline: storing, loading, every gate, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actalker.embedded import FOLDER, load
from actalker.embedded.build import EmbeddedSystem, load_reader
from actalker.errors import CheckpointError, InputError
from actalker.pipeline import ACTalkerPipeline
from actalker.training.objective import Dropout


@pytest.fixture(scope="module")
def stored(encoders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    EmbeddedSystem(encoders, 0, Dropout(), "overlap", 0.0).save(folder)
    return folder


def inputs(frames=14):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    sound = rng.uniform(-0.5, 0.5, frames * 640).astype(np.float32)
    video = rng.integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8)
    return image, sound, video


def test_a_stored_model_generates_the_same_clip(encoders, stored):
    image, sound, video = inputs()
    fresh = ACTalkerPipeline.from_pretrained(stored, "cpu")
    again = ACTalkerPipeline.from_pretrained(stored, "cpu")
    a, b = (np.stack(list(p(image, sound, video, seed=3))) for p in (fresh, again))
    assert a.shape == (14, 64, 64, 3) and np.array_equal(a, b)
    other = np.stack(list(again(image, sound, video, seed=4)))
    assert not np.array_equal(a, other)


@pytest.mark.parametrize("gate", ["audio", "visual", "audio+visual"])
def test_a_closed_signal_changes_nothing(stored, gate):
    pipeline = ACTalkerPipeline.from_pretrained(stored, "cpu")
    with torch.no_grad():  # a fresh model ignores its conditions: its control layers start at zero
        for name, p in pipeline.unet.named_parameters():
            if "out_proj" in name:
                p.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    image, sound, video = inputs()
    base = np.stack(list(pipeline(image, sound, video, gate=gate)))
    noise = np.random.default_rng(9)
    dubbed = np.stack(list(pipeline(image, noise.uniform(-1, 1, sound.shape), video, gate=gate)))
    moved = np.stack(list(pipeline(image, sound, video[::-1].copy(), gate=gate)))
    assert np.array_equal(base, dubbed) == ("audio" not in gate)
    assert np.array_equal(base, moved) == ("visual" not in gate)


def test_missing_encoders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="lacks the encoders pose, expression, identity, audio"):
        load_reader(tmp_path)


def test_a_blank_picture_has_no_face(stored):
    pipeline = ACTalkerPipeline.from_pretrained(stored, "cpu")
    _, sound, _ = inputs()
    with pytest.raises(InputError, match="no face found"):
        pipeline(np.full((64, 64, 3), 90, np.uint8), sound)


def test_the_shipped_model_is_small_and_follows_its_signals():
    """The mouth opens with loud vowels of the sound it is given, and the head turns with the video."""
    from bench.synthetic.clip import make_clip

    if not FOLDER.is_dir():
        pytest.skip("no shipped weights in this checkout")
    size = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors"))
    assert size <= 8_000_000
    pipeline = load()
    clip, other = (make_clip("validation", 900 + i, 36) for i in (0, 1))
    reader = pipeline.conditioner.reader  # type: ignore[attr-defined]

    def motion(frames):
        return reader.motion(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1)

    made = motion(list(pipeline(clip.frames[0], other.audio, clip.frames, gate="audio+visual")))
    heard, seen = torch.from_numpy(other.expression[:, 0]), torch.from_numpy(clip.pose)
    opening = made.expression[:, 0]
    assert torch.corrcoef(torch.stack([opening, heard]))[0, 1] > 0.6
    turned = (made.pose[:, :3] - seen[:, :3]).abs().mean()
    assert turned < 0.5 * (seen[:1, :3] - seen[:, :3]).abs().mean()
