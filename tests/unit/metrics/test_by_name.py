"""Metrics that are computed by name: golden values, known changes, degenerate input."""

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.media.faces import IRIS_LEFT, IRIS_RIGHT, MOUTH
from bench.metrics import beat
from bench.metrics.efid import ExpressionDistance
from bench.metrics.gaze import Gaze
from bench.metrics.motion_histograms import MotionDistance, histogram
from bench.metrics.sync_drift import SyncDrift
from bench.metrics.sync_search import moving_offsets, search


def reason_of(call):
    with pytest.raises(Unscored) as caught:
        call()
    return caught.value.reason


def test_beat_align_has_its_golden_value():
    assert beat.score(np.array([10.0, 20.0]), np.array([13.0, 20.0])) == pytest.approx(0.8032653, abs=1e-7)


def clicking(times, seconds):
    audio = np.zeros(16000 * seconds, np.int16)
    for t in times:
        start = int(t * 16000)
        burst = np.random.default_rng(int(start)).normal(0, 6000, 800) * np.linspace(1, 0, 800)
        audio[start : start + 800] = burst.astype(np.int16)
    return audio


def test_onsets_are_where_the_clicks_are():
    times = [0.5, 1.1, 1.9, 2.6]
    found = beat.sound_beats(clicking(times, 3))
    assert found == pytest.approx([25 * t for t in times], abs=1.2)


def test_a_face_that_rests_on_the_beats_is_over_chance(make_face):
    times = np.arange(0.6, 5.6, 0.72)
    n = 150
    speed = 1 + np.cos(2 * np.pi * (np.arange(n) / 25 - times[0]) / 0.72 + np.pi)
    face = make_face(n)
    face.landmarks[:, list(MOUTH), 1] += np.cumsum(3 * speed)[:, None]
    clip = face.clip()
    clip.audio = lambda: clicking(times, 6)
    found = beat.BeatAlign().score(clip, None)
    assert found["align"] > 0.9 and found["excess"] > 0.2
    assert found["excess"] == pytest.approx(found["align"] - found["chance"])
    clip.audio = lambda: np.zeros(96000, np.int16)
    assert reason_of(lambda: beat.BeatAlign().score(clip, None)) == Reason.NO_SPEECH


def looking(make_face, across, n=40, scale=1.0):
    """Irises so many eye widths to the right of the middle of each eye."""
    face = make_face(n, size=(int(256 * scale), int(256 * scale)))
    for (outer, inner), iris in (((33, 133), IRIS_RIGHT), ((362, 263), IRIS_LEFT)):
        left, width = (78.0 if outer == 33 else 148.0), 30.0
        face.landmarks[:, outer], face.landmarks[:, inner] = (left, 100, 0), (left + width, 100, 0)
        face.landmarks[:, list(iris)] = [left + width / 2, 100, 0]
        face.landmarks[:, list(iris), 0] += (width * np.broadcast_to(across, n))[:, None]
    face.landmarks *= scale
    return face


def test_gaze_is_in_eye_widths_at_any_size(make_face):
    truth = looking(make_face, 0.0).clip()
    for scale in (1.0, 2.0):
        found = Gaze().score(looking(make_face, 0.1, scale=scale).clip(), truth)
        assert found["distance"] == pytest.approx(0.1, rel=1e-4)
        assert found["saccades"] == 0 and found["too_small"] == 0
    assert Gaze().score(looking(make_face, 0.1, scale=0.5).clip(), truth)["too_small"] == 1


def test_blinks_are_left_out_and_jumps_are_counted(make_face):
    across = np.zeros(60)
    across[30:] = 0.1
    face = looking(make_face, across, 60)
    face.blendshapes[10:13, 9] = 0.9
    face.landmarks[10:13, list(IRIS_RIGHT)] += 40
    found = Gaze().score(face.clip(), None)
    assert found["saccades"] == pytest.approx(1500 / 55)  # one in 55 pairs of neighbours
    assert np.isnan(found["distance"]) and found["n_frames"] == 57
    face.blendshapes[:40, 9] = 0.9
    assert reason_of(lambda: Gaze().score(face.clip(), None)) == Reason.TOO_SHORT


def test_gaze_that_goes_with_the_head_is_seen(make_face):
    yaw = 10 * np.sin(np.arange(60) / 5)
    face = looking(make_face, 0.01 * yaw, 60)
    face.turn(np.stack([yaw, 0 * yaw, 0 * yaw], 1))
    assert Gaze().score(face.clip(), None)["with_head"] == pytest.approx(1, abs=1e-3)


def test_histogram_weighs_direction_and_size():
    moves = np.zeros((15, 4, 2))
    moves[..., 0] = 0.02
    found = histogram(moves).reshape(8, 9)
    assert found.sum() == pytest.approx(0.02) and (found > 0).sum() == 1
    turned = histogram(moves[..., ::-1]).reshape(8, 9)
    assert (turned > 0).argmax() != (found > 0).argmax()


def walking(make_face, seed, speed=1.0, n=64):
    rng = np.random.default_rng(seed)
    face = make_face(n)
    path = np.cumsum(rng.normal(0, 0.6 * speed, (n, 1, 2)), axis=0) + rng.normal(0, 0.2 * speed, (n, 478, 2))
    face.landmarks[..., :2] += path.astype(np.float32)
    face.blendshapes[:, 1:] = np.clip(0.4 + 0.1 * speed * rng.normal(size=(n, 51)), 0, 1)
    return face.clip()


def test_motion_distance_sees_speed_and_freezes(make_face):
    metric = MotionDistance()

    def merged(speed, base):
        return metric.merge([metric.state(walking(make_face, base + i, speed)) for i in range(6)])

    def value(one):
        return metric.compute(one, truth)["fvmd"]

    truth, other, fast, frozen = merged(1, 0), merged(1, 50), merged(2, 50), merged(0, 50)
    assert value(truth) == 0
    assert value(fast) > 1.5 * value(other) and value(frozen) > 1.5 * value(other)


def test_expression_distance_is_frechets_and_needs_more_frames_than_coefficients(make_face):
    from scipy.linalg import sqrtm

    metric = ExpressionDistance()
    clips = [[walking(make_face, 10 * k + i) for i in range(3)] for k in (0, 5)]
    sides = [metric.merge([metric.state(c) for c in side]) for side in clips]
    found = metric.compute(*sides)
    a, b = (np.concatenate([c.features("faces")["blendshapes"][:, 1:] for c in s]).astype(float) for s in clips)
    va, vb = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(va + vb - 2 * sqrtm(va @ vb).real)
    assert found["efid"] == pytest.approx(expected, rel=1e-4)
    assert metric.compute(sides[0], sides[0]) == {"efid": 0, "change": 0}
    short = metric.state(walking(make_face, 1, n=40))
    assert reason_of(lambda: metric.compute(short, sides[0])) == Reason.INSUFFICIENT_SAMPLES


def embeddings(lags):
    """Lip and sound vectors whose best lag changes along the clip."""
    rng = np.random.default_rng(0)
    n = len(lags)
    sound = rng.normal(0, 1, (n + 40, 32))
    video = np.stack([sound[20 + i - lag] for i, lag in enumerate(lags)])
    return video, sound[20 : 20 + n]


def test_offsets_of_windows_are_those_of_the_search():
    video, sound = embeddings([4] * 150)
    found = moving_offsets(video, sound)
    assert set(found) == {float(search(video, sound).offset)} == {4.0}


def test_sync_drift_reads_the_slope_of_shifted_halves(array_clip):
    video, sound = embeddings([0] * 200 + [2] * 200)
    found = moving_offsets(video, sound)
    assert found[0] == 0 and found[-1] == 2 and len(found) == 13
    clip = array_clip(features={"syncnet_tracks": {"moving_offsets": np.arange(13) * 0.5}}, n=400)
    values = SyncDrift().score(clip, None)
    assert values["slope"] == pytest.approx(30) and values["spread"] == pytest.approx(np.std(np.arange(13) / 2))
    short = array_clip(features=clip._features, n=299)
    assert reason_of(lambda: SyncDrift().score(short, None)) == Reason.TOO_SHORT
