"""LPIPS and CSIM of clips."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.media.encode import write_image
from bench.metrics import csim, lpips


def test_lpips_is_zero_for_identical_clips_and_grows_with_noise(weights_for, memory_clip, noise):
    weights_for("alexnet", "lpips_alex")
    frames = noise(10, 64)
    generator = np.random.default_rng(1)

    def disturbed(sigma):
        return np.clip(frames + generator.normal(0, sigma, frames.shape), 0, 255).astype(np.uint8)

    metric = lpips.Alex()
    same = metric.score(memory_clip(frames), memory_clip(frames))
    assert same["lpips"] == 0 and same["n_frames"] == 10 and same["coverage"] == 1
    values = [metric.score(memory_clip(disturbed(s)), memory_clip(frames))["lpips"] for s in (5, 20, 60)]
    assert 0 < values[0] < values[1] < values[2]


def test_lpips_is_a_mean_over_frames_in_any_batching(weights_for, memory_clip, noise):
    weights_for("alexnet", "lpips_alex")
    a, b = noise(9, 64, seed=1), noise(9, 64, seed=2)
    metric = lpips.Alex()
    single = [metric.score(memory_clip(a[i : i + 1]), memory_clip(b[i : i + 1]))["lpips"] for i in range(9)]
    assert metric.score(memory_clip(a), memory_clip(b))["lpips"] == pytest.approx(np.mean(single), rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ((9, 64), (12, 64), Reason.LENGTH_MISMATCH),
        ((9, 64), (9, 72), Reason.SHAPE_MISMATCH),
        ((9, 32), (9, 32), Reason.SHAPE_MISMATCH),
        ((9, 64), None, Reason.NO_REFERENCE),
    ],
)
def test_lpips_refuses_what_it_cannot_pair(ours, theirs, reason, memory_clip, noise):
    reference = memory_clip(noise(*theirs)) if theirs else None
    with pytest.raises(Unscored) as caught:
        lpips.Alex().score(memory_clip(noise(*ours)), reference)
    assert caught.value.reason is reason


class FixedEmbedder:
    """Finds a face in every frame whose first pixel is not black, and embeds its first pixel's colour."""

    def find(self, picture, choose=None):
        return (picture, Face(picture[0, 0].astype(np.float32)), False) if picture[0, 0].any() else None

    def embed(self, pictures, landmarks):
        raw = np.zeros((len(landmarks), 512), np.float32)
        raw[:, :3] = landmarks
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)


class Face:
    def __init__(self, landmarks):
        self.landmarks = landmarks


@pytest.fixture
def faces(monkeypatch):
    monkeypatch.setattr(csim, "_embedder", FixedEmbedder)


def painted(*colours):
    frames = np.zeros((len(colours), 32, 32, 3), np.uint8)
    frames[:] = np.array(colours, np.uint8)[:, None, None]
    return frames


RED, GREEN, BLACK, MIX = (200, 0, 0), (0, 200, 0), (0, 0, 0), (200, 200, 0)


def clip_of(memory_clip, *colours, image=None):
    return memory_clip(painted(*colours), extractors={"arcface": csim.FaceEmbeddings()}, image=image)


def test_csim_is_the_mean_cosine_to_the_picture(faces, memory_clip, tmp_path):
    write_image(tmp_path / "face.png", painted(RED)[0])
    values = csim.ReferenceImage().score(clip_of(memory_clip, RED, GREEN, MIX, image=tmp_path / "face.png"), None)
    assert values["csim"] == pytest.approx((1 + 0 + 0.5**0.5) / 3, abs=1e-6)
    assert values["coverage"] == 1 and values["low_coverage"] == 0


def test_frames_without_a_face_lower_the_coverage_not_the_value(faces, memory_clip, tmp_path):
    write_image(tmp_path / "face.png", painted(RED)[0])
    values = csim.ReferenceImage().score(
        clip_of(memory_clip, RED, BLACK, RED, BLACK, image=tmp_path / "face.png"), None
    )
    assert values["csim"] == pytest.approx(1)
    assert (values["coverage"], values["n_frames"], values["low_coverage"]) == (0.5, 2, 1)


def test_a_picture_or_clip_without_a_face_has_no_value(faces, memory_clip, tmp_path):
    write_image(tmp_path / "empty.png", painted(BLACK)[0])
    metric = csim.ReferenceImage()
    for clip, words in (
        (clip_of(memory_clip, RED, image=tmp_path / "empty.png"), "reference picture"),
        (clip_of(memory_clip, BLACK, image=tmp_path / "empty.png"), "none of the frames|any of the 1 frames"),
    ):
        with pytest.raises(Unscored, match=words) as caught:
            metric.score(clip, None)
        assert caught.value.reason is Reason.NO_FACE
    with pytest.raises(Unscored) as caught:
        metric.score(clip_of(memory_clip, RED), None)
    assert caught.value.reason is Reason.NO_REFERENCE


def test_csim_against_the_ground_truth_pairs_frames(faces, memory_clip):
    metric = csim.GroundTruthFrame()
    values = metric.score(clip_of(memory_clip, RED, GREEN, BLACK), clip_of(memory_clip, RED, MIX, RED, RED))
    assert values["csim"] == pytest.approx((1 + 0.5**0.5) / 2, abs=1e-6)
    assert values["n_frames"] == 2 and values["coverage"] == 0.5
    with pytest.raises(Unscored) as caught:
        metric.score(clip_of(memory_clip, RED), clip_of(memory_clip, *[RED] * 4))
    assert caught.value.reason is Reason.LENGTH_MISMATCH
