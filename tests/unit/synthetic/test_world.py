"""The rendered world agrees with its own ground truth."""

import subprocess
import sys

import numpy as np
import pytest

from bench.synthetic import geometry, labels, parameters, renderer
from bench.synthetic.clip import make_clip


def neutral(count=1, **changes):
    expression = np.zeros((count, 10), np.float32)
    for name, values in changes.items():
        expression[:, parameters.EXPRESSION.index(name)] = values
    return expression


FACE = np.full(16, 0.5, np.float32)  # no beard, no glasses
FRONT = np.array([0, 0, 0, 0, 0, 1], np.float32)
PLAIN = np.full(9, 0.5, np.float32)


def test_clips_have_the_same_bytes_in_another_process():
    script = (
        "import hashlib; from bench.synthetic.clip import make_clip; c = make_clip('test', 5, 12);"
        "print(hashlib.sha256(c.frames.tobytes() + c.audio.tobytes() + c.pose.tobytes()).hexdigest())"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert len(first) > 60
    assert first == second


def test_partitions_and_numbers_differ():
    faces = [
        parameters.identity(partition, index).tobytes()
        for partition in ("train", "validation", "test")
        for index in range(200)
    ]
    assert len(set(faces)) == 600
    assert not np.array_equal(make_clip("train", 1, 5).audio, make_clip("test", 1, 5).audio)


def test_clip_shapes_and_ranges():
    made = make_clip("test", 3, 30)
    assert made.frames.shape == (30, 64, 64, 3)
    assert made.audio.shape == (30 * 640,)
    assert made.audio.dtype == np.int16
    assert np.abs(made.audio).max() > 20_000
    truth = made.truth()
    assert truth["landmarks"].shape == (30, len(geometry.LANDMARKS), 2)
    assert truth["mouth_drawn"].shape == (30, 3)
    assert np.abs(made.pose[:, 0]).max() <= 0.5
    for name in ("face_box", "mouth_box"):
        boxes = truth[name]
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0
        assert boxes.max() <= 63
    assert [*truth["phonemes"]] == [s.symbol for s in made.speech.segments if s.start < 30 / 25]
    assert np.allclose(truth["phoneme_times"][1:, 0], truth["phoneme_times"][:-1, 1])


@pytest.mark.parametrize("yaw", [-0.4, 0.0, 0.4])
@pytest.mark.parametrize("roll", [-0.15, 0.1])
def test_pupils_are_dark_where_the_landmarks_say(yaw, roll):
    size = 192
    pose = np.array([yaw, 0.1, roll, 0.05, -0.03, 0.95], np.float32)
    expression = neutral(gaze_x=0.3, gaze_y=-0.2)
    frame = renderer.render(FACE, expression, pose, PLAIN, size)[0].astype(int).sum(-1)
    points = geometry.landmarks(FACE, expression, pose, size)[0]
    for index in geometry.PUPILS:
        x, y = points[index]
        rows, columns = np.mgrid[-12:13, -12:13]
        patch = frame[round(y) - 12 : round(y) + 13, round(x) - 12 : round(x) + 13]
        dark = patch < 120
        assert dark.any()
        # The glint bites a piece off one side of the pupil, hence the tolerance of 1 % of the picture.
        assert abs(columns[dark].mean()) < 2
        assert abs(rows[dark].mean()) < 2


@pytest.mark.parametrize("opening", [0.3, 1.0])
@pytest.mark.parametrize("yaw", [-0.3, 0.3])
def test_mouth_mask_is_bounded_by_the_mouth_landmarks(opening, yaw):
    size = 192
    pose = FRONT + np.array([yaw, 0, 0, 0, 0, 0], np.float32)
    expression = neutral(open=opening, smile=0.4)
    _, mask = renderer.render_with_masks(FACE, expression, pose, PLAIN, size)
    rows, columns = np.nonzero(mask[0] == renderer.MOUTH)
    mouth = geometry.landmarks(FACE, expression, pose, size)[0, geometry.MOUTH]
    low, high = mouth.min(0), mouth.max(0)
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
    assert np.abs(found - np.concatenate([low, high])).max() < 4.5


def test_mouth_opening_shows_and_is_what_the_ground_truth_says():
    size = 256
    expression = neutral(3, open=[0, 0.5, 1.0])
    frames = renderer.render(FACE, expression, FRONT, PLAIN, size)
    points = geometry.landmarks(FACE, expression, FRONT, size)
    names = geometry.LANDMARKS
    upper, lower = names.index("lip_upper_inner_1"), names.index("lip_lower_inner_1")
    gap = points[:, lower, 1] - points[:, upper, 1]
    drawn = geometry.mouth_drawn(FACE, expression)[:, 1]
    # One unit of the face is 0.72 half pictures high, and the jaw drops by 10 % of the opening.
    assert np.allclose(gap, drawn * 0.72 * size / 2 * (1 + 0.1 * expression[:, 0]), rtol=0.05, atol=0.2)
    assert gap[0] == pytest.approx(0, abs=1e-3)
    inside = frames[2, round(points[2, upper, 1]) : round(points[2, lower, 1]), round(points[2, upper, 0])]
    skin = frames[2, size // 2 + 12, size // 2 - 50]
    assert np.abs(inside.astype(int) - skin).sum(-1).mean() > 60


def test_drawn_width_hides_what_one_picture_cannot_tell():
    # Two settings of `width` and `smile` that draw the same mouth have the same label.
    wide = neutral(width=0.22 / 0.28)
    smiling = neutral(smile=1.0)
    assert np.allclose(geometry.mouth_drawn(FACE, wide), geometry.mouth_drawn(FACE, smiling), atol=1e-6)
    column = labels.READINGS.index("half_width")
    assert labels.readings(FACE, wide)[0, column] == pytest.approx(
        labels.readings(FACE, smiling)[0, column], abs=1e-6
    )


def test_expression_changes_the_picture_where_it_should():
    still = renderer.render(FACE, neutral(), FRONT, PLAIN)[0].astype(int)
    for name, rows in (("blink_left", slice(20, 36)), ("open", slice(40, 60)), ("brow", slice(14, 34))):
        moved = renderer.render(FACE, neutral(**{name: 0.9}), FRONT, PLAIN)[0].astype(int)
        change = np.abs(moved - still).sum(-1)
        assert change.sum() > 500
        assert change[rows].sum() > 0.7 * change.sum(), name


def test_blink_closes_the_eye_of_its_side():
    still = renderer.render(FACE, neutral(), FRONT, PLAIN)[0].astype(int)
    left = renderer.render(FACE, neutral(blink_left=1), FRONT, PLAIN)[0].astype(int)
    change = np.abs(left - still).sum(-1)
    assert change[:, :32].sum() > 20 * change[:, 32:].sum() + 1


def test_one_vector_is_repeated_and_wrong_shapes_are_refused():
    two = renderer.render(np.stack([FACE, FACE]), neutral(2), np.stack([FRONT, FRONT]), PLAIN)
    assert np.array_equal(two, renderer.render(FACE, neutral(2), FRONT, PLAIN))
    with pytest.raises(ValueError, match="yaw"):
        renderer.render(FACE, neutral(3), np.zeros((2, 6)), PLAIN)


def test_drawing_does_not_depend_on_its_company():
    made = make_clip("validation", 8, 20)
    alone = renderer.render(made.identity, made.expression[7:8], made.pose[7:8], made.nuisance)
    difference = alone[0].astype(int) - made.frames[7]
    assert np.abs(difference).max() <= 1
