"""Alignment and what rests on it: golden values, independent enumeration, shifts of known size."""

import math

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.media.faces import MOUTH
from bench.metrics.alignment import costs, divergence, path, soft_dtw
from bench.metrics.face_motion import INNER_LOWER, INNER_UPPER
from bench.metrics.seqalign import AlignedExpression, AlignedLips, AlignedPose, aligned
from bench.metrics.timing import MouthEvents

PULSE = np.array([0, 0, 1, 0, 0, 0.0])[:, None]
LATER = np.array([0, 0, 0, 1, 0, 0.0])[:, None]


@pytest.mark.parametrize("gamma, golden", [(0.01, 0.004447), (0.1, 0.044468), (1.0, 0.192396)])
def test_divergence_has_its_golden_values(gamma, golden):
    assert divergence(PULSE, LATER, 5, gamma) == pytest.approx(golden, abs=1e-6)


def test_soft_dtw_of_equal_sequences_counts_the_paths():
    zeros = np.zeros((3, 1))
    assert soft_dtw(costs(zeros, zeros, 2), 0.1) == pytest.approx(-0.2564949, abs=1e-7)  # -0.1 log 13
    assert divergence(LATER, LATER, 5, 0.1) == pytest.approx(0, abs=1e-12)


def paths(n, band):
    """Every path of steps right, down and diagonal inside the band."""
    done, open_ = [], [[(0, 0)]]
    while open_:
        way = open_.pop()
        i, j = way[-1]
        if (i, j) == (n - 1, n - 1):
            done.append(way)
            continue
        for di, dj in ((1, 1), (1, 0), (0, 1)):
            if i + di < n and j + dj < n and abs(i + di - j - dj) <= band:
                open_.append([*way, (i + di, j + dj)])
    return done


@pytest.mark.parametrize("band", [0, 1, 2])
def test_dynamic_programming_equals_enumeration(band):
    a, b = np.random.default_rng(3).normal(size=(2, 5, 2))
    totals = {tuple(w): sum(((a[i] - b[j]) ** 2).sum() for i, j in w) for w in paths(5, band)}
    soft = -0.3 * math.log(sum(math.exp(-t / 0.3) for t in totals.values()))
    assert soft_dtw(costs(a, b, band), 0.3) == pytest.approx(soft)
    assert [tuple(p) for p in path(costs(a, b, band)).tolist()] == list(min(totals, key=totals.get))


def test_band_of_zero_is_frame_by_frame():
    assert soft_dtw(costs(PULSE, LATER, 0), 0.5) == pytest.approx(2)
    assert aligned(PULSE, LATER)["frames"] == pytest.approx(1 / 3)
    assert aligned(PULSE, PULSE)["divergence"] == aligned(PULSE, PULSE)["warp"] == 0


def moving(make_face, shift=0.0, n=100):
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 1, (3, len(MOUTH), 3))
    face = make_face(n)
    at = np.arange(n) - shift
    waves = [np.sin(at * f) for f in (0.31, 0.17, 0.23)]
    move = sum(4 * w[:, None, None] * g for w, g in zip(waves, grain, strict=True))
    face.landmarks[:, list(MOUTH)] += move.astype(np.float32)
    gap = 100 * (0.3 + 0.1 * waves[0] + 0.05 * np.sin(at * 0.71))
    face.landmarks[:, INNER_LOWER] = face.landmarks[:, INNER_UPPER]
    face.landmarks[:, INNER_LOWER, 1] += gap[:, None]
    face.blendshapes[:, 25] = 0.5 + 0.4 * waves[0]
    face.turn(np.stack([8 * waves[1], 5 * waves[2], 3 * waves[0]], 1))
    return face.clip()


@pytest.mark.parametrize("metric", [AlignedLips, AlignedPose, AlignedExpression])
def test_a_late_clip_is_forgiven_and_its_lateness_is_read(make_face, metric):
    truth, late = moving(make_face), moving(make_face, 3)
    found = metric().score(late, truth)
    assert found["ratio"] < 0.35
    assert found["warp"] == pytest.approx(3, abs=0.6)
    same = metric().score(truth, truth)
    assert same["divergence"] == same["frames"] == same["warp"] == 0
    far = metric().score(moving(make_face, 10), truth)  # twice the band; half a period of the expression
    assert far["divergence"] > 20 * found["divergence"]


@pytest.mark.parametrize("shift, lost", [(-5, 1), (-2, 1), (0, 0), (1, 0), (3, 1), (8, 3)])
def test_mouth_events_move_by_forty_milliseconds_a_frame(make_face, shift, lost):
    """The path begins and ends in the corners, so of ten events those near an end have no partner."""
    found = MouthEvents().score(moving(make_face, shift), moving(make_face))
    assert found["bias"] == pytest.approx(40 * shift, abs=1)
    assert found["error"] == pytest.approx(40 * abs(shift), abs=1)
    assert found["recall"] >= 1 - lost / 10 and found["precision"] >= 1 - (lost > 1) / 4


def test_a_still_mouth_finds_no_event_and_a_still_truth_has_none(make_face):
    truth, still = moving(make_face), make_face(100).clip()
    found = MouthEvents().score(still, truth)
    assert found["recall"] == found["precision"] == 0 and math.isnan(found["error"])
    with pytest.raises(Unscored) as caught:
        MouthEvents().score(truth, still)
    assert caught.value.reason == Reason.TOO_SHORT
