"""Linking faces, smoothing, cropping, scene cuts: the geometry in front of SyncNet."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import medfilt

from bench.metrics import face_tracks
from bench.metrics.face_tracks import link, smooth

BOX = np.array([100.0, 100.0, 220.0, 240.0])
SIDEWAYS = np.array([1, 0, 1, 0])


def faces(present, box=BOX):
    return [np.array([box]) if p else np.zeros((0, 4)) for p in present]


@pytest.mark.parametrize(("frames", "count"), [(100, 0), (101, 1)])
def test_a_track_must_be_longer_than_the_minimum(frames, count):
    assert len(link(faces([True] * frames), 100)) == count


@pytest.mark.parametrize(("gap", "lengths"), [(24, [104]), (25, [40, 40])])
def test_a_face_may_be_missing_for_24_frames_in_between(gap, lengths):
    # The reference links when the frame numbers differ by at most 25, which leaves 24 empty frames.
    present = [True] * 40 + [False] * gap + [True] * 40
    assert [len(t) for t in link(faces(present), 30)] == lengths


def test_gaps_are_interpolated():
    late = BOX + 10
    found = link([np.array([BOX]), np.zeros((0, 4)), np.array([late])], 1)
    assert np.allclose(found[0].boxes, [BOX, BOX + 5, late])


def test_missing_frames_do_not_count_towards_the_length():
    present = ([True] + [False] * 4) * 20
    assert link(faces(present), 50) == []
    assert len(link(faces(present), 19)[0]) == 96


@pytest.mark.parametrize(("shift", "tracks"), [(39.9, 1), (40.1, 2)])
def test_linking_needs_an_overlap_above_one_half(shift, tracks):
    # Shifting 120 pixels by s leaves an IoU of (120 - s) / (120 + s): one half at s = 40.
    sequence = faces([True] * 30) + faces([True] * 30, BOX + shift * SIDEWAYS)
    assert len(link(sequence, 20)) == tracks


@pytest.mark.parametrize(("size", "tracks"), [(100.0, 0), (100.5, 1)])
def test_small_faces_are_left_out(size, tracks):
    box = np.array([10.0, 10.0, 10.0 + size, 90.0])
    assert len(link(faces([True] * 60, box), 50)) == tracks


def test_two_people_are_two_tracks_whoever_scores_higher():
    other = BOX + 300 * SIDEWAYS
    generator = np.random.default_rng(0)
    sequence = [np.array([BOX, other])[generator.permutation(2)] for _ in range(60)]
    found = link(sequence, 50, first=7)
    assert [t.first for t in found] == [7, 7]
    assert sorted(float(t.boxes[0, 0]) for t in found) == [100.0, 400.0]
    assert all(np.ptp(t.boxes, axis=0).max() == 0 for t in found)


def test_tracks_end_at_cuts():
    change = np.zeros(120, np.float32)
    change[60] = 40
    detections = {
        "frame": np.arange(120, dtype=np.int32),
        "boxes": np.column_stack([np.tile(BOX, (120, 1)), np.ones(120)]).astype(np.float32),
        "change": change,
    }
    assert [(t.first, t.end) for t in face_tracks.tracks(detections, 50)] == [(0, 60), (60, 120)]
    change[60] = 26
    assert [(t.first, t.end) for t in face_tracks.tracks(detections, 50)] == [(0, 120)]


def test_cuts_closer_than_fifteen_frames_are_one():
    change = np.zeros(60)
    change[[20, 30, 40]] = 99
    assert face_tracks.scenes(change) == [(0, 20), (20, 40), (40, 60)]


def test_change_is_opencvs_hsv_difference():
    cv2 = pytest.importorskip("cv2")
    pictures = np.random.default_rng(1).integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
    hsv = [cv2.cvtColor(p, cv2.COLOR_RGB2HSV).astype(int) for p in pictures]
    expected = [0.0] + [np.abs(b - a).mean() for a, b in pairwise(hsv)]
    assert np.allclose(face_tracks.change(pictures, None), expected, atol=0.05)
    assert np.allclose(face_tracks.change(pictures[1:], pictures[0]), expected[1:], atol=0.05)


def test_smoothing_is_a_median_with_zeros_beyond_the_ends():
    generator = np.random.default_rng(2)
    boxes = BOX + generator.normal(0, 5, (40, 1))
    half, x, y = smooth(boxes).T
    assert np.allclose(half, medfilt(np.full(40, 70.0), 13))
    assert np.allclose(x, medfilt((boxes[:, 0] + boxes[:, 2]) / 2, 13))
    assert np.allclose(y, medfilt((boxes[:, 1] + boxes[:, 3]) / 2, 13))


def reference_crop(frame, s, x, y, cv2):
    """The steps of the released pipeline, written down once more with OpenCV."""
    pad = int(s * 1.8)
    padded = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(110, 110, 110))
    cy, cx = y + pad, x + pad
    cut = padded[int(cy - s) : int(cy + s * 1.8), int(cx - s * 1.4) : int(cx + s * 1.4)]
    return cv2.resize(cut, (224, 224))


@pytest.mark.parametrize(
    ("s", "x", "y"), [(80.3, 150.7, 140.2), (60.0, 20.0, 30.0), (90.9, 290.1, 250.5), (40, 5, 290)]
)
def test_crops_equal_the_reference_inside_and_beyond_the_frame(s, x, y):
    cv2 = pytest.importorskip("cv2")
    frame = np.random.default_rng(3).integers(0, 256, (300, 320, 3)).astype(np.uint8)
    difference = face_tracks.crop(frame, s, x, y).astype(int) - reference_crop(frame, s, x, y, cv2)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_crop_pads_with_grey_and_keeps_colours():
    frame = np.zeros((200, 200, 3), np.uint8)
    frame[..., 0] = 200
    crop = face_tracks.crop(frame, 60, 0, 100)
    assert tuple(crop[112, 0]) == (110, 110, 110)
    assert tuple(crop[112, 200]) == (200, 0, 0)
