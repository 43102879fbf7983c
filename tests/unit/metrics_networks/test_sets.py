"""FID and FVD: features of clips, pooling, exactness under sharding, degenerate sets."""

from __future__ import annotations

import numpy as np
import pytest

from bench.catalogue import extractors
from bench.core.spec import Reason, Unscored
from bench.metrics import fid, fvd
from bench.metrics.precision import Precision, cpu_note

EMULATED = pytest.mark.skipif(bool(cpu_note(Precision.BF16)), reason="minutes without bf16 units")


def features(n: int, d: int, seed: int) -> dict[str, np.ndarray]:
    return {"features": np.random.default_rng(seed).normal(0, 1, (n, d)).astype(np.float32)}


def clip_with(memory_clip, name: str, arrays, frames: int = 20):
    return memory_clip(np.zeros((frames, 4, 4, 3), np.uint8), known={name: arrays})


def test_identical_sets_have_distance_zero_and_flag_their_rank(memory_clip):
    metric = fid.AllFrames()
    states = [metric.state(clip_with(memory_clip, "inception2048", features(30, 2048, s))) for s in range(3)]
    values = metric.compute(metric.merge(states), metric.merge(states[::-1]))
    assert values["fid"] == pytest.approx(0, abs=1e-6)
    assert (values["n_frames"], values["rank_deficient"]) == (90, 1)


def test_frames_are_pooled_whatever_clip_they_came_from(memory_clip):
    metric = fid.AllFrames()
    pool = features(60, 2048, 0)["features"]
    other = metric.state(clip_with(memory_clip, "inception2048", features(50, 2048, 1)))

    def distance(parts):
        states = [metric.state(clip_with(memory_clip, "inception2048", {"features": p})) for p in parts]
        return metric.compute(metric.merge(states), other)["fid"]

    assert distance([pool[:10], pool[10:]]) == pytest.approx(distance([pool[30:], pool[:30]]), rel=1e-9)


def test_one_frame_is_not_enough(memory_clip):
    metric = fid.AllFrames()
    one = metric.state(clip_with(memory_clip, "inception2048", features(1, 2048, 0)))
    with pytest.raises(Unscored) as caught:
        metric.compute(one, one)
    assert caught.value.reason is Reason.INSUFFICIENT_SAMPLES


def test_frame_features_do_not_depend_on_the_batch(weights_for, memory_clip, noise, monkeypatch):
    weights_for("inception_fid")
    frames = noise(5, 64)
    whole = fid.InceptionFrames().extract(memory_clip(frames))["features"]
    assert whole.shape == (5, 2048) and whole.dtype == np.float32
    monkeypatch.setattr(fid, "BATCH", 2)
    again = fid.InceptionFrames().extract(memory_clip(frames))["features"]
    assert np.abs(whole - again).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize(
    ("name", "weight", "frames"),
    [
        ("inception2048", "inception_fid", 2),
        pytest.param(
            "i3d", "i3d_kinetics400", 10, marks=pytest.mark.skipif(EMULATED, reason="minutes without bf16")
        ),
    ],
)
def test_bfloat16_stays_near_float32(name, weight, frames, weights_for, memory_clip, noise):
    weights_for(weight)
    clip = memory_clip(noise(frames, 64))
    exact, rough = (extractors()[n].extract(clip)["features"] for n in (name, f"{name}+bf16"))
    deviation = np.abs(rough - exact).max() / np.abs(exact).max()
    assert 1e-5 < deviation < 0.1


def test_face_crops_come_from_the_track_only(weights_for, memory_clip, noise):
    weights_for("inception_fid", "sfd_face")
    frames = noise(32, 160)
    boxes = np.tile(np.array([20, 20, 130, 140, 0.99], np.float32), (27, 1))
    detections = {"frame": np.arange(3, 30, dtype=np.int32), "boxes": boxes, "change": np.zeros(32, np.float32)}
    arrays = fid.InceptionFaces().extract(memory_clip(frames, known={"s3fd": detections}))
    assert arrays["features"].shape == (27, 2048)
    nobody = {"frame": np.zeros(0, np.int32), "boxes": boxes[:0], "change": np.zeros(32, np.float32)}
    with pytest.raises(Unscored) as caught:
        fid.InceptionFaces().extract(memory_clip(frames, known={"s3fd": nobody}))
    assert caught.value.reason is Reason.NO_FACE


def test_i3d_features_do_not_depend_on_the_pieces(weights_for, memory_clip, noise):
    weights_for("i3d_kinetics400")
    frames = noise(19, 64)
    whole = fvd.WholeClipI3d().extract(memory_clip(frames))["features"]
    assert whole.shape == (1, 400)
    network = fvd._network("WholeClip", Precision.FP32)
    pieces = network(iter([frames[:3], frames[3:16], frames[16:]]), 19)
    assert np.abs(whole - pieces).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("frames", [15, 17])
def test_segments_repeat_the_last_frame(frames, weights_for, memory_clip, noise):
    weights_for("resnet50_kinetics")
    pixels = noise(frames, 64)
    whole = fvd.Segments3dResNet().extract(memory_clip(pixels))["features"]
    assert whole.shape == (1, 2048)
    filled = np.concatenate([pixels, pixels[-1:].repeat(-frames % 16, 0)])
    expected = np.mean(
        [fvd._network("Segments", Precision.FP32)([s]) for s in filled.reshape(-1, 16, 64, 64, 3)], axis=0
    )
    assert np.abs(whole - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_sixteen_frame_protocol_ignores_the_rest(weights_for, memory_clip, noise):
    weights_for("i3d_torchscript")
    frames = noise(20, 32)
    first = fvd.FirstFramesI3d().extract(memory_clip(frames))["features"]
    assert first.shape == (1, 400)
    assert np.array_equal(first, fvd.FirstFramesI3d().extract(memory_clip(frames[:16]))["features"])
    assert not np.array_equal(first, fvd.FirstFramesI3d().extract(memory_clip(frames[1:17]))["features"])


@pytest.mark.parametrize(("kind", "frames"), [(fvd.WholeClipI3d, 9), (fvd.FirstFramesI3d, 15)])
def test_short_clips_are_left_out(kind, frames, memory_clip, noise):
    with pytest.raises(Unscored, match=f"{frames} frames") as caught:
        kind().extract(memory_clip(noise(frames, 16)))
    assert caught.value.reason is Reason.TOO_SHORT


@pytest.mark.parametrize(
    ("kind", "name", "biased"), [(fvd.DiscoI3d, "i3d", False), (fvd.FirstSixteen, "i3d_torchscript", True)]
)
def test_fvd_of_gaussians_has_the_closed_form(kind, name, biased, memory_clip):
    generator = np.random.default_rng(0)
    first = generator.normal(0, 1, (40, 400)).astype(np.float32)
    scale = 3.0
    metric = kind()

    def merged(rows):
        clips = [
            clip_with(memory_clip, name, {"features": r[None]}, frames=12 if i == 0 else 20)
            for i, r in enumerate(rows)
        ]
        return metric.merge(
            [metric.merge([metric.state(c) for c in clips[:15]]), *(metric.state(c) for c in clips[15:])]
        )

    values = metric.compute(merged(first), merged(first * scale))
    rows = first.astype(np.float64)
    # FD(X, aX) = (a - 1)^2 (|mean|^2 + trace of the covariance).
    spread = rows.var(axis=0, ddof=0 if biased else 1).sum()
    assert values["fvd"] == pytest.approx((scale - 1) ** 2 * ((rows.mean(0) ** 2).sum() + spread), rel=1e-6)
    assert values["padded_clips"] == 1


def test_one_clip_has_no_fvd(memory_clip):
    metric = fvd.DiscoI3d()
    one = metric.merge([metric.state(clip_with(memory_clip, "i3d", features(1, 400, 0)))])
    with pytest.raises(Unscored) as caught:
        metric.compute(one, one)
    assert caught.value.reason is Reason.INSUFFICIENT_SAMPLES


def test_nan_features_are_refused(memory_clip):
    broken = features(3, 2048, 0)
    broken["features"][1, 5] = np.nan
    with pytest.raises(Unscored) as caught:
        fid.AllFrames().state(clip_with(memory_clip, "inception2048", broken))
    assert caught.value.reason is Reason.NOT_FINITE
