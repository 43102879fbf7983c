"""THEval's score: published vectors, formulas, and what is missing without its networks."""

import math

import numpy as np
import pytest

from bench.media.faces import MOUTH
from bench.metrics.theval import MEASURED, QUANTITIES, THEval, closeness, final, lip_dynamics

TRUTH = [10.0] * 8


def scored(values, weights=None):
    names = [str(i) for i in range(1, 9)]
    return final({n: closeness(v, g) for n, v, g in zip(names, values, TRUTH, strict=True)}, weights)


def test_published_vectors():
    assert scored([12, 10, 5, 15, 10, 5, 10, 0]) == pytest.approx(0.6625)
    assert scored([20, *[10] * 7]) == pytest.approx(0.875)
    assert scored([20, 20, *[10] * 6], {"1": 2, "2": 0}) == pytest.approx(0.75)
    assert closeness(30, 10) == -1 and math.isnan(closeness(1, 0))


def test_lip_dynamics_is_the_papers():
    points = np.random.default_rng(0).normal(100, 5, (12, 40, 2))
    pairs = [np.linalg.norm(points[:, i] - points[:, j], axis=1).std(ddof=1) for i in range(40) for j in range(i)]
    assert lip_dynamics(points) == pytest.approx(np.mean(pairs))


def talking(make_face, size):
    face = make_face(75)
    face.landmarks[:, list(MOUTH), 1] += (size * np.sin(np.arange(75) / 3))[:, None] * np.linspace(-1, 1, 40)
    face.landmarks[:, 105, 1] += 2 * np.cos(np.arange(75) / 5)
    clip = face.clip()
    tone = 3000 * np.sin(np.arange(48000) / 8) * (np.sin(np.arange(48000) / 2500) > -0.3)
    clip.audio = lambda: tone.astype(np.int16)
    return clip


def test_half_the_motion_is_half_the_score_and_the_rest_is_missing(make_face):
    metric = THEval()
    whole, half = (metric.state(talking(make_face, size)) for size in (6.0, 3.0))
    same = metric.compute(whole, whole)
    assert all(same[name] == 1 for name in MEASURED) and same["four"] == 1
    assert math.isnan(same["final"]) and math.isnan(same["head"])
    found = metric.compute(half, whole)
    assert found["lips"] == pytest.approx(0.5, abs=0.05) and found["brows"] == pytest.approx(1)
    merged = metric.merge([whole, half])
    assert merged["counts"][QUANTITIES.index("lips")] == 2


def test_files_complete_it(make_face, tmp_path, monkeypatch):
    (tmp_path / "theval").mkdir()
    np.save(tmp_path / "theval" / "clip.npy", np.array([[4.6, 23.8, 0.44, 18.4]]))
    monkeypatch.setenv("BENCH_COEFFICIENTS", str(tmp_path))
    clip = talking(make_face, 6.0)
    clip.path = tmp_path / "clip.mp4"
    clip.path.write_bytes(b"x")
    metric = THEval()
    state = metric.state(clip)
    assert metric.compute(state, state)["final"] == 1
    assert metric.spec.params["files"] and "0.87" in metric.spec.summary
