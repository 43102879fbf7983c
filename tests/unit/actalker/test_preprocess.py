"""Geometry of the released pre-processing, faces, and speech windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actalker.components import Face
from actalker.conditioning.audio import AudioProjection, take_steps
from actalker.errors import InputError
from actalker.faces import MediaPipeFaces, choose_face
from actalker.preprocess import (
    crop,
    expression_box,
    head_crop,
    location_image,
    pose_box,
    scale_box,
    working_size,
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((1024, 1024), (576, 576)),
        ((1080, 1920), (576, 1024)),
        ((1920, 1080), (1024, 576)),
        ((100, 120), (576, 704)),
    ],
)
def test_working_size(source, expected):
    assert working_size(*source, 576, 64) == expected


def test_location_image_is_the_enlarged_box():
    image = location_image((40, 40, 80, 100), (128, 128), (128, 128), 1.2)
    rows, columns = np.nonzero(image[0, 0].numpy())
    # Centre (60, 70), half sides 24 and 36 by floor division.
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (34, 106, 36, 84)
    half = location_image((40, 40, 80, 100), (128, 128), (64, 64), 1.2)
    assert half.shape == (1, 1, 64, 64) and half.min() >= 0 and half.max() <= 1
    assert half.sum() * 4 == pytest.approx(float(image.sum()), rel=0.02)


def test_pose_box_is_a_square_inside_the_picture():
    assert pose_box((40, 40, 60, 60), 200, 200) == (20, 20, 80, 80)
    x1, y1, x2, y2 = pose_box((0, 10, 30, 60), 200, 80)
    assert x2 - x1 == y2 - y1 == 60
    assert x1 >= 0 and y1 >= 0 and x2 <= 200 and y2 <= 80


def test_expression_box_is_a_square_about_the_features():
    assert expression_box((10, 20, 51, 40)) == (10, 10, 50, 50)


def test_crop_outside_is_black():
    picture = np.full((10, 10, 3), 200, np.uint8)
    out = crop(picture, (-5, 0, 5, 10))
    assert out.shape == (10, 10, 3) and (out[:, :5] == 0).all() and (out[:, 5:] == 200).all()


def test_head_crop_range():
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[5:15, 5:15] = 255
    head = head_crop(picture, (5, 5, 15, 15), 112)
    assert head.shape == (1, 3, 112, 112) and (head == 1).all()


def test_scale_box():
    assert scale_box((10, 20, 30, 40), (100, 100), (50, 200)) == (5, 40, 15, 80)


def test_choose_face():
    big, small, bystander = Face((0, 0, 40, 40)), Face((50, 0, 80, 30)), Face((90, 0, 95, 5))
    assert choose_face([big, bystander], "x", largest=False) is big
    assert choose_face([big, small], "x", largest=True) is big
    with pytest.raises(InputError, match="x shows 2 faces"):
        choose_face([big, small, bystander], "x", largest=False)
    with pytest.raises(InputError, match="no face found in x"):
        choose_face([], "x", largest=True)


def test_speech_windows_follow_the_released_indices():
    """At 12.5 fps, frame i reads the original 50-Hz tokens 4i-4 ... 4i+5, zeros outside."""
    projection = AudioProjection.from_config(
        {"features": 2, "layers": 1, "hidden": 4, "tokens": 1, "condition": 4}
    )
    index = projection.steps(3, 2, 12.5, 50)
    assert index.tolist() == [list(range(8, 18)), list(range(12, 22))]
    features = torch.arange(1.0, 31.0)[:, None, None].expand(-1, 1, 2)
    windows = projection.windows(features, 8, 12.5, 50)
    assert windows.shape == (8, 10, 1, 2)
    assert windows[0, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert windows[7, :, 0, 0].tolist() == [25, 26, 27, 28, 29, 30, 0, 0, 0, 0]
    assert take_steps(features[:0], index).abs().sum() == 0


def test_mediapipe_finds_the_face(shared, tmp_path):
    pytest.importorskip("mediapipe")
    model = shared / "weights" / "face_landmarker_v2_with_blendshapes.task"
    portrait = shared / "media" / "portraits" / "liveportrait_s9.jpg"
    from actalker.media import read_image

    picture = read_image(portrait)
    (face,) = MediaPipeFaces(model).find(picture)
    assert face.mouth is not None and face.features is not None
    x1, y1, x2, y2 = face.box
    assert 0.1 * picture.shape[1] < x2 - x1 < 0.9 * picture.shape[1]
    # The mouth lies in the lower half of the face, and within it.
    assert x1 < face.mouth[0] < face.mouth[2] < x2
    assert (y1 + y2) / 2 < face.mouth[1] < face.mouth[3] < y2
