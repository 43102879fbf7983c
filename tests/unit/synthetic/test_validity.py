"""The shipped networks measure what they should, on identities that steered nothing.

Small version of `python -m bench.synthetic.evaluate`; the model card has the full one on three seeds.
"""

import itertools

import numpy as np
import pytest
import torch

from bench.synthetic import corruptions, evaluate, geometry
from bench.synthetic import metrics as metrics


@pytest.fixture(scope="module")
def sets():
    torch.set_num_threads(1)
    return evaluate.held_out("test", 7, identities=8)


@pytest.fixture(scope="module")
def clips(sets):
    return [*sets[0], *sets[1]]


@pytest.fixture(scope="module")
def sync(clips):
    return evaluate.sync_figures(clips)


def test_true_sound_beats_wrong_sound_and_a_frozen_face(sync):
    assert sync["sync_c"] - sync["sync_c_wrong_audio"] >= 4
    assert sync["sync_auc_wrong_audio"] >= 0.99
    assert sync["sync_c_frozen"] <= 0.15 * sync["sync_c"]


def test_shifted_sound_is_found_with_the_right_sign(sync, clips):
    assert sync["offset_0_found"] >= 0.97
    assert sync["offset_-5_found"] >= 0.97  # sound five frames late
    assert sync["offset_5_found"] >= 0.97
    late = metrics.Sync().score(evaluate.late(clips[0], 3), None)
    assert late["offset"] == -3
    assert late["sync_d0"] > late["sync_d"] + 3


def test_identities_are_told_apart(sets):
    found = evaluate.identity_figures(*sets)
    assert found["csim_auc"] >= 0.98
    assert found["csim_top1"] == 1
    assert found["csim_same"] - found["csim_other"] >= 0.6


def test_pose_landmarks_and_readings_are_close_to_the_truth(clips):
    found = evaluate.clip_reading_figures(clips)
    assert found["pose_mae_yaw"] <= 0.07
    assert found["pose_mae_pitch"] <= 0.05
    assert found["pose_mae_roll"] <= 0.04
    assert max(found[f"landmark_px_{part}"] for part in ("eyes", "brows", "nose", "mouth")) <= 0.6
    assert found["landmark_px_outline"] <= 2
    assert found["error_opening"] <= 0.08
    drawn = np.concatenate([geometry.mouth_drawn(c.made.identity, c.made.expression) for c in clips])
    read = np.concatenate([c.features("synthetic_face")["readings"] for c in clips])
    for column, name in enumerate(geometry.MOUTH_DRAWN[:2]):
        values = read[:, evaluate.labels.READINGS.index(name)]
        assert np.corrcoef(values, drawn[:, column])[0, 1] > 0.9


def test_readings_cover_their_ranges():
    found = evaluate.portrait_reading_figures("test", 7, 256)
    wanted = {"opening": 0.95, "smile": 0.92, "blink_left": 0.88, "blink_right": 0.88, "brow": 0.88}
    wanted |= {"furrow": 0.8, "gaze_x": 0.8, "gaze_y": 0.6, "half_width": 0.88}
    assert {k: found[f"r2_{k}"] for k in wanted if found[f"r2_{k}"] < wanted[k]} == {}


def test_expression_error_grows_with_the_performance_and_not_with_the_face(clips):
    found = evaluate.expression_figures(clips[:6])
    steps = found["expr_towards_other"]
    assert all(a < b for a, b in itertools.pairwise(steps))
    assert found["expr_other_identity"][0] < 0.5 * steps[-1]
    assert found["expr_other_identity"][0] < steps[2]


def test_pose_error_grows_with_the_pose(clips):
    one = clips[0]
    drifted = one.showing(np.roll(one.pixels, 20, 0))
    assert (
        metrics.Pose().score(drifted, one)["pose"]
        > 3 * metrics.Pose().score(one.showing(corruptions.noisy(one.pixels, 2)), one)["pose"]
    )
    assert metrics.Lmd().score(drifted, one)["m_lmd"] > 0.02


@pytest.mark.parametrize(
    ("kind", "corrupt", "levels"),
    [
        (metrics.Fid, corruptions.blurred, (0.8, 2)),
        (metrics.Fid, corruptions.noisy, (10, 40)),
        (metrics.Fvd, corruptions.blurred, (0.8, 2)),
        (metrics.Fvd, corruptions.noisy, (10, 40)),
        (metrics.Fvd, corruptions.held, (2, 4)),
        (metrics.Fvd, corruptions.frozen, (0.5, 1)),
        (metrics.Fvd, corruptions.shuffled, (0.25, 1)),
    ],
)
def test_frechet_distances_grow_with_corruption(sets, kind, corrupt, levels):
    first, second = sets
    values = [evaluate.frechet_of(kind, second, first)]
    values += [
        evaluate.frechet_of(kind, [c.showing(corrupt(c.pixels, level)) for c in second], first) for level in levels
    ]
    assert values[0] < values[1] < values[2]
    if kind is metrics.Fvd and corrupt is corruptions.held:
        assert values[1] > 10 * values[0]


def test_csim_falls_as_another_face_shines_through(sets):
    first, _ = sets
    falls = []
    for share in (0, 0.25, 0.5):
        cosines = []
        for i, c in enumerate(first):
            ghost = c.showing(corruptions.mixed(c.pixels, first[(i + 3) % len(first)].pixels, share)[::15])
            wanted = c.features("synthetic_identity")["embeddings"][0]
            cosines.append((ghost.features("synthetic_identity")["embeddings"] @ wanted).mean())
        falls.append(np.mean(cosines))
    assert falls[0] > falls[1] + 0.1 > falls[2] + 0.2
