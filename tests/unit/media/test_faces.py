from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import rotate
from scipy.spatial.transform import Rotation

from bench.media import faces
from bench.media.decode import read_image
from bench.media.follow import LOST, Follower, at_place, begin, place, remark
from bench.media.scale import Resizer

ANGLE = st.floats(-80, 80)


@given(ANGLE, ANGLE, ANGLE, st.floats(0.5, 2))
def test_euler_angles_agree_with_scipy(yaw, pitch, roll, scale):
    matrix = scale * Rotation.from_euler("YXZ", [yaw, pitch, roll], degrees=True).as_matrix()
    assert faces.euler_degrees(matrix[None])[0] == pytest.approx([yaw, pitch, roll], abs=1e-6)


def test_euler_angles_of_missing_faces_are_nan():
    assert np.isnan(faces.euler_degrees(np.full((2, 4, 4), np.nan))).all()


def test_landmark_sets_are_consistent():
    for name in ("MOUTH", "EYE_RIGHT", "EYE_LEFT", "BROW_RIGHT", "BROW_LEFT", "NOSE", "OVAL", "RIGID"):
        indices = getattr(faces, name)
        assert len(set(indices)) == len(indices)
        assert all(0 <= i < faces.N_LANDMARKS for i in indices)
    assert len(faces.MOUTH_OUTER) == len(faces.MOUTH_INNER) == 20
    assert not set(faces.MOUTH_OUTER) & set(faces.MOUTH_INNER)


@pytest.fixture(scope="module")
def model(shared) -> Path:
    pytest.importorskip("mediapipe")
    return shared / "weights" / "face_landmarker_v2_with_blendshapes.task"


@pytest.fixture(scope="module")
def portrait(shared) -> np.ndarray:
    return read_image(shared / "media" / "portraits" / "anitalker_aiface4.png")


def test_reads_faces_and_marks_frames_without_one(model, portrait):
    track = faces.FaceReader(model).read([portrait, np.zeros_like(portrait), portrait[:, ::-1]])
    assert track.valid.tolist() == [True, False, True]
    assert track.landmarks.shape == (3, 478, 3)
    assert track.blendshapes.shape == (3, 52)
    assert track.matrices.shape == (3, 4, 4)
    assert np.isnan(track.landmarks[1]).all() and np.isnan(track.matrices[1]).all()
    width = portrait.shape[1]
    points = track.landmarks[0]
    assert points[faces.EYE_CORNERS[0], 0] < points[faces.EYE_CORNERS[1], 0]
    assert points[list(faces.EYE_LEFT), 1].mean() < points[list(faces.MOUTH), 1].mean() < points[152, 1]
    mirrored = width - track.landmarks[2][faces.EYE_CORNERS[0], 0]
    assert mirrored == pytest.approx(points[faces.EYE_CORNERS[1], 0], abs=4)


def test_results_do_not_depend_on_order_or_instance(model, portrait):
    pictures = [portrait, portrait[:, ::-1], np.roll(portrait, 20, axis=1)]
    one, two = faces.FaceReader(model), faces.FaceReader(model)
    forward = one.read(pictures)
    backward = two.read(pictures[::-1])
    assert np.array_equal(forward.landmarks, backward.landmarks[::-1])
    assert np.array_equal(forward.blendshapes, backward.blendshapes[::-1])


def test_largest_of_several_faces_is_read(model, portrait):
    small = np.repeat(portrait[::2, ::2], 1, axis=0)
    height, width = portrait.shape[:2]
    both = np.full((height, width + small.shape[1], 3), 90, np.uint8)
    both[:, small.shape[1] :] = portrait
    both[: small.shape[0], : small.shape[1]] = small
    points = faces.FaceReader(model).read([both]).landmarks[0]
    assert points[:, 0].mean() > small.shape[1]


def test_roll_follows_the_picture(model, portrait):
    tilted = rotate(portrait, 12, reshape=False, mode="nearest")  # counter-clockwise
    track = faces.FaceReader(model).read([portrait, tilted])
    roll = faces.euler_degrees(track.matrices)[:, 2]
    assert roll[1] - roll[0] == pytest.approx(12, abs=3)


def test_a_process_that_used_it_ends_quietly(model):
    code = f"from pathlib import Path; from bench.media.faces import FaceReader; FaceReader(Path({str(model)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_of_two_is_followed(model, portrait):
    small = Resizer(160, 160)(portrait)
    empty = np.full_like(small, 90)
    pictures = [np.concatenate([np.roll(small, k, 0), small], axis=1) for k in range(6)]
    pictures[3] = np.concatenate([empty, small], axis=1)  # the followed one is away, the other is not
    track = faces.FaceReader(model).read(pictures)
    assert track.count.tolist() == [2, 2, 2, 1, 2, 2] and track.switches == 0
    assert track.valid.tolist() == [True, True, True, False, True, True]
    assert (track.landmarks[track.valid][:, :, 0].mean(axis=1) < 160).all()


def test_the_reference_pictures_face_is_followed(model, portrait):
    small = Resizer(160, 160)(portrait)
    empty = np.full_like(small, 90)
    pictures = [np.concatenate([small, np.roll(small, k, 0)], axis=1) for k in range(2)]
    reader = faces.FaceReader(model)
    for shown, side in ((np.concatenate([small, empty], axis=1), 0), (np.concatenate([empty, small], axis=1), 1)):
        found = reader.read(pictures, shown).landmarks[:, :, 0].mean(axis=1)
        assert (found // 160 == side).all()


BOX = np.array([[10.0, 10, 50, 50]])
OTHER = BOX + np.array([200, 0, 200, 0])


def first() -> int:
    return 0


def test_a_face_that_is_gone_for_a_second_is_given_up():
    follower = Follower()
    assert follower.pick(np.concatenate([BOX, OTHER]), first) == 0
    assert [follower.pick(OTHER, first) for _ in range(LOST)] == [None] * LOST
    assert (follower.pick(OTHER, first), follower.switches) == (0, 1)
    assert follower.pick(np.concatenate([BOX, OTHER + 5]), first) == 1


def test_a_lone_face_may_jump_and_the_jump_is_counted():
    follower = Follower()
    assert [follower.pick(box, first) for box in (BOX, BOX[:0], OTHER, OTHER + 3)] == [0, None, 0, 0]
    assert follower.switches == 1


def meeting(frames=21, turns=False):
    """Two faces that come together and pass each other, or turn back; the followed one begins at the left."""
    at = np.linspace(-1, 1, frames)
    left = 100 * (-np.abs(at) - 0.1 if turns else at)
    return [np.concatenate([BOX + np.array([x, 0, x, 0]), BOX + np.array([-x, 4, -x, 4])]) for x in left]


def test_people_who_pass_each_other_are_followed_by_their_paths_and_counted():
    follower = Follower()
    assert [follower.pick(boxes, first) for boxes in meeting()] == [0] * 21
    assert follower.switches == 1
    apart = Follower()
    assert [apart.pick(boxes, first) for boxes in meeting()[:7]] == [0] * 7
    assert apart.switches == 0


def test_after_a_meeting_looks_decide_where_they_are_known():
    known = iter([0, 1])
    follower = Follower()
    picked = [follower.pick(boxes, lambda: next(known), knows=True) for boxes in meeting()]
    assert (picked[0], picked[-1], follower.switches) == (0, 1, 1)


@given(st.permutations(range(4)), st.integers(0, 2**16))
def test_following_does_not_depend_on_the_order_of_detections(order, seed):
    random = np.random.default_rng(seed)
    people = np.concatenate([BOX + np.array([90 * k, 0, 90 * k, 0]) for k in range(4)])
    plain, mixed = Follower(), Follower()
    for _ in range(10):
        people = people + random.uniform(-8, 8, (4, 1))
        main = begin(people, 400)
        picked = mixed.pick(people[order], lambda k=main: list(order).index(k))
        assert order[picked] == plain.pick(people, lambda k=main: k)


def test_people_alike_in_size_begin_nearest_the_middle():
    assert begin(np.array([[0.0, 0, 40, 40], [180, 0, 218, 40], [300, 0, 342, 40]]), 400) == 1
    assert begin(np.array([[0.0, 0, 80, 80], [180, 0, 220, 40]]), 400) == 0


def test_the_face_at_the_pictures_place_begins():
    people = np.array([[0.0, 0, 40, 40], [180, 0, 218, 40], [300, 0, 342, 40]])
    there = place(np.array([[600.0, 0, 690, 90]]), 800, 80)
    assert at_place(people, 400, 40, there) == 2
    assert at_place(people[:2], 400, 40, there) == begin(people[:2], 400) == 1, "nobody is there"
    assert at_place(people, 400, 40, place(people[:0], 400, 40)) == 1


def test_rows_say_when_there_were_several_people():
    assert remark(np.array([1, 1, 0]), 0) == ""
    assert remark(np.array([1, 2, 3]), 0) == "several_faces: more than one in 2 of 3 frames, one followed"
    assert remark(np.array([1, 1]), 2) == "the followed face may have changed 2 times"
