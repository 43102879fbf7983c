"""Face-based protocols on made-up tracks, where every value is known."""

import os
from pathlib import Path

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.media.faces import MOUTH, RIGID
from bench.metrics import coefficients
from bench.metrics.blink import BlinkError, BlinkRate, blinks
from bench.metrics.expression import BlendshapeCosine, BlendshapeL1, Deep3DAED, EmocaCosine
from bench.metrics.faces import FaceExtractor
from bench.metrics.landmarks import Jitter, MouthLMD, RawLMD
from bench.metrics.pose import PoseIntensity, PoseL1

PAIRED = (BlendshapeL1, BlendshapeCosine, PoseL1, MouthLMD, RawLMD)
ALONE = (PoseIntensity, Jitter, BlinkRate)


def reason_of(metric, clip, reference):
    with pytest.raises(Unscored) as caught:
        metric().score(clip, reference)
    return caught.value.reason


# --- degenerate input ---


@pytest.mark.parametrize("metric", [*PAIRED, BlinkError])
def test_identical_clips(metric, make_face):
    clip = make_face(60).clip()
    row = metric().score(clip, clip)
    for column in metric.spec.columns:
        assert row[column.key] == pytest.approx(1 if column.direction == "higher" else 0, abs=1e-6)
    assert row["n_frames"] == 60
    assert row["coverage"] == 1


@pytest.mark.parametrize("metric", PAIRED)
def test_frames_without_a_face_are_left_out_and_counted(metric, make_face):
    ours, truth = make_face(20), make_face(20)
    ours.lose(0, 3)
    truth.lose(3, 4)
    truth.landmarks[0] += 77
    row = metric().score(ours.clip(), truth.clip())
    assert row["n_frames"] == 17
    assert row["coverage"] == 17 / 20
    assert all(np.isfinite(value) for value in row.values())


@pytest.mark.parametrize("metric", PAIRED)
def test_reasons_of_paired_protocols(metric, make_face, array_clip):
    few = make_face(20)
    few.lose(*range(4, 20))
    no_face = array_clip(features={"faces": Unscored(Reason.NO_FACE, "none")}, n=20)
    full = make_face(20).clip()
    assert reason_of(metric, few.clip(), full) == Reason.TOO_SHORT
    assert reason_of(metric, full, few.clip()) == Reason.TOO_SHORT
    assert reason_of(metric, make_face(1).clip(), make_face(1).clip()) == Reason.TOO_SHORT
    assert reason_of(metric, full, None) == Reason.NO_REFERENCE
    assert reason_of(metric, full, make_face(23).clip()) == Reason.LENGTH_MISMATCH
    assert reason_of(metric, no_face, full) == Reason.NO_FACE
    assert reason_of(metric, full, no_face) == Reason.NO_FACE
    assert metric().score(full, make_face(22).clip())["coverage"] == 20 / 22


@pytest.mark.parametrize("metric", ALONE)
def test_one_frame_is_too_short_for_motion(metric, make_face):
    assert reason_of(metric, make_face(1).clip(), None) == Reason.TOO_SHORT


# --- expression ---


def test_blendshape_distance_leaves_out_neutral(make_face):
    ours, truth = make_face(10), make_face(10)
    ours.blendshapes[:, 0] = 1.0
    ours.blendshapes[:, 20] += 0.51
    row = BlendshapeL1().score(ours.clip(), truth.clip())
    assert row["expr_l1"] == pytest.approx(0.01, abs=1e-7)


def test_blendshape_cosine_of_a_known_angle(make_face):
    ours, truth = make_face(10), make_face(10)
    for face, column in ((ours, 5), (truth, 6)):
        face.blendshapes[:] = 0
        face.blendshapes[:, [column, 7]] = 0.4
        face.blendshapes[:, 0] = 1.0
    assert BlendshapeCosine().score(ours.clip(), truth.clip())["expr_cos"] == pytest.approx(0.5, abs=1e-6)
    ours.blendshapes[3] = 0
    assert np.isnan(BlendshapeCosine().score(ours.clip(), truth.clip())["expr_cos"])


# --- coefficients from files ---


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(coefficients.VARIABLE, str(tmp_path / "coefficients"))
    for model in ("emoca", "deep3d"):
        (tmp_path / "coefficients" / model).mkdir(parents=True)
    return tmp_path


def video(folder: Path, name: str, array_clip):
    clip = array_clip(n=10, name=name)
    clip.path = folder / f"{name}.mp4"
    clip.path.write_bytes(name.encode())
    return clip


def test_coefficients_by_name_and_by_content(folder, array_clip):
    ours, truth = video(folder, "ours", array_clip), video(folder, "truth", array_clip)
    full = np.zeros((10, 257))
    full[:, 80:144] = 0.25
    np.save(folder / "coefficients/deep3d/ours.npy", full + np.eye(257)[0] * 9)
    content = coefficients.hashlib.sha256(b"truth").hexdigest()
    np.savez(folder / f"coefficients/deep3d/{content}.npz", expression=np.full((10, 64), 0.75))
    assert Deep3DAED().score(ours, truth)["aed"] == pytest.approx(0.5)

    vectors = np.random.default_rng(0).normal(size=(10, 50))
    np.save(folder / "coefficients/emoca/ours.npy", -3 * vectors)
    vectors[2, 7] = np.nan
    np.save(folder / "coefficients/emoca/truth.npy", vectors)
    row = EmocaCosine().score(ours, truth)
    assert row["emoca_cos"] == pytest.approx(-1)
    assert row["n_frames"] == 9
    assert row["coverage"] == 0.9


def test_missing_or_broken_coefficients_are_explained(folder, array_clip, monkeypatch):
    ours = video(folder, "ours", array_clip)
    with pytest.raises(Unscored, match=r"ours\.npy") as caught:
        EmocaCosine().score(ours, ours)
    assert caught.value.reason == Reason.MISSING_WEIGHTS
    (folder / "coefficients/emoca/ours.npy").write_text("text")
    assert reason_of(EmocaCosine, ours, ours) == Reason.DECODE_ERROR
    np.save(folder / "coefficients/deep3d/ours.npy", np.zeros((10, 50)))
    assert reason_of(Deep3DAED, ours, ours) == Reason.SHAPE_MISMATCH
    monkeypatch.delenv(coefficients.VARIABLE)
    with pytest.raises(Unscored, match="BENCH_COEFFICIENTS"):
        EmocaCosine().score(ours, ours)


def test_changed_files_change_the_protocol(folder):
    before = Deep3DAED().spec.params
    np.save(folder / "coefficients/deep3d/ours.npy", np.zeros((10, 64)))
    with_file = Deep3DAED().spec.params
    np.save(folder / "coefficients/deep3d/ours.npy", np.ones((10, 64)))
    os.utime(folder / "coefficients/deep3d/ours.npy", ns=(1, 1))
    assert len({str(p) for p in (before, with_file, Deep3DAED().spec.params)}) == 3


# --- pose ---


def test_pose_distance_is_the_mean_of_three_angles(make_face):
    ours, truth = make_face(10), make_face(10)
    truth.turn([(10, 5, -20)] * 10)
    ours.turn([(13, -1, -20)] * 10)
    assert PoseL1().score(ours.clip(), truth.clip())["pose_l1"] == pytest.approx(3, abs=1e-4)


def test_pose_wraps_around(make_face):
    ours, truth = make_face(10), make_face(10)
    truth.turn([(0, 0, 179)] * 10)
    ours.turn([(0, 0, -178)] * 10)
    assert PoseL1().score(ours.clip(), truth.clip())["pose_l1"] == pytest.approx(1, abs=1e-4)


def test_pose_intensity_skips_gaps(make_face):
    face = make_face(20)
    face.turn([(t if t < 10 else t + 60, 0, 0) for t in range(20)])
    face.lose(9)
    row = PoseIntensity().score(face.clip(), None)
    assert row["pose_speed"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["coverage"] == 0.95
    assert PoseIntensity().score(make_face(20).clip(), None)["pose_speed"] == 0


# --- landmarks ---


def test_mouth_distance_ignores_position_and_counts_shape(make_face):
    ours, truth = make_face(10), make_face(10)
    ours.landmarks[..., :2] += (30, -12)
    assert MouthLMD().score(ours.clip(), truth.clip())["m_lmd"] == pytest.approx(0, abs=1e-6)
    half = list(MOUTH[:20])
    ours.landmarks[:, half, 1] += 4  # half of the points by 4 px: all are 2 px from their mean
    assert MouthLMD().score(ours.clip(), truth.clip())["m_lmd"] == pytest.approx(0.02, abs=1e-6)


def test_mouth_distance_does_not_depend_on_resolution(make_face):
    ours, truth, large = make_face(10), make_face(10, seed=1), make_face(10)
    large.landmarks *= 2
    large.size = np.array([512, 512])
    small_row = MouthLMD().score(ours.clip(), truth.clip())
    assert MouthLMD().score(large.clip(), truth.clip())["m_lmd"] == pytest.approx(small_row["m_lmd"], rel=1e-6)
    assert MouthLMD().score(truth.clip(), large.clip())["m_lmd"] == pytest.approx(small_row["m_lmd"], rel=1e-6)


def test_raw_distance_in_pixels_of_256(make_face):
    ours, truth = make_face(10, size=(512, 1024)), make_face(10, size=(512, 1024))
    ours.landmarks[..., 0] += 6  # 3 px of 256
    ours.landmarks[..., 1] += 16  # 4 px of 256
    row = RawLMD().score(ours.clip(), truth.clip())
    assert row["lmd"] == pytest.approx(5, abs=1e-5)
    assert row["m_lmd"] == pytest.approx(5, abs=1e-5)


def test_jitter_is_acceleration(make_face):
    face = make_face(30)
    time = np.arange(30)
    face.landmarks[..., 0] += time[:, None] * 2  # uniform motion
    assert Jitter().score(face.clip(), None)["jitter"] == pytest.approx(0, abs=1e-3)
    face.landmarks[:, list(RIGID), 1] += (0.08 * time**2)[:, None]  # 0.16 px/frame^2 = 1 IOD/s^2 at 100 px
    assert Jitter().score(face.clip(), None)["jitter"] == pytest.approx(1, rel=1e-3)


def test_jitter_skips_gaps(make_face):
    face = make_face(30)
    face.lose(10)
    face.landmarks[11:] += 50
    assert Jitter().score(face.clip(), None)["jitter"] == pytest.approx(0, abs=1e-3)


# --- blink ---


def test_runs_of_closed_eyes():
    assert blinks(np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)).tolist() == [2, 3]
    assert blinks(np.zeros(5, dtype=bool)).tolist() == []


def test_blink_rate_and_duration(make_face):
    face, open_eyes = make_face(250), make_face(250)  # 10 s
    for start, length in ((10, 4), (100, 6), (200, 1)):
        face.blendshapes[start : start + length, [9, 10]] = 0.9
    face.blendshapes[50:60, 9] = 0.75  # a wink: the mean stays at 0.475
    row = BlinkRate().score(face.clip(), None)
    assert row["blink_rate"] == pytest.approx(12)
    assert row["blink_ms"] == pytest.approx(200)
    assert np.isnan(BlinkRate().score(open_eyes.clip(), None)["blink_ms"])
    assert BlinkError().score(open_eyes.clip(), face.clip())["blink_l1"] == pytest.approx(12)
    assert reason_of(BlinkError, face.clip(), None) == Reason.NO_REFERENCE


def test_blinks_need_two_seconds(make_face):
    face = make_face(60)
    face.lose(*range(11))
    assert reason_of(BlinkRate, face.clip(), None) == Reason.TOO_SHORT


# --- the extractor on a real picture ---


def test_extractor_on_real_frames(shared, monkeypatch, array_clip):
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("BENCH_WEIGHTS", str(shared / "weights"))
    from bench.media.decode import chunks

    frames = next(iter(chunks(shared / "media/talking/hdtf_katiehill_512_25fps.mp4", size=6)))
    frames = np.concatenate([frames, np.zeros_like(frames[:1])])
    extractor = FaceExtractor()
    features = extractor.extract(array_clip(frames))
    assert features["landmarks"].shape == (7, 478, 3)
    assert features["valid"].tolist() == [True] * 6 + [False]
    assert features["size"].tolist() == [512, 512]
    with pytest.raises(Unscored) as caught:
        extractor.extract(array_clip(frames[-1:]))
    assert caught.value.reason == Reason.NO_FACE
    flipped = array_clip(frames, features={"faces": features})
    assert RawLMD().score(flipped, flipped)["coverage"] == 6 / 7
