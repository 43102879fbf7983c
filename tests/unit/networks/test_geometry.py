"""Picture geometry against OpenCV and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics import geometry

TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((300, 290), (224, 224)),
        ((100, 130), (224, 224)),
        ((448, 448), (224, 224)),
        ((720, 1280), (360, 640)),
        ((50, 7), (5, 9)),
    ],
)
def test_resize_equals_opencv(source, target):
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(0).integers(0, 256, (*source, 3)).astype(np.uint8)
    difference = geometry.resize(picture, *target).astype(int) - cv2.resize(picture, target[::-1])
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_resize_keeps_constants_and_range():
    for value in (0, 1, 128, 255):
        picture = np.full((37, 53, 3), value, np.uint8)
        assert (geometry.resize(picture, 224, 100) == value).all()


def test_window_fills_what_lies_outside():
    picture = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert (geometry.window(picture, 1, 3, 0, 2, 9) == picture[1:3, :2]).all()
    out = geometry.window(picture, -1, 2, 2, 5, 9)
    assert out.shape == (3, 3, 3)
    assert (out[0] == 9).all() and (out[:, 1:] == 9).all()
    assert (out[1:, 0] == picture[:2, 2]).all()
    assert (geometry.window(picture, 5, 7, 5, 7, 9) == 9).all()


def test_similarity_recovers_a_known_motion():
    angle, scale, shift = 0.3, 1.7, np.array([12.0, -5.0])
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = geometry.similarity(TEMPLATE, TEMPLATE @ rotation.T + shift)
    assert np.allclose(matrix, np.column_stack([rotation, shift]))
    assert np.allclose(geometry.similarity(TEMPLATE, TEMPLATE), np.eye(2, 3))


def test_similarity_equals_skimage_on_noisy_points():
    transform = pytest.importorskip("skimage.transform")
    points = TEMPLATE * 2 + np.random.default_rng(1).normal(0, 6, (5, 2))
    expected = transform.estimate_transform("similarity", points, TEMPLATE)
    assert np.allclose(geometry.similarity(points, TEMPLATE), expected.params[:2], atol=1e-9)


def test_warp_equals_opencv_and_is_black_outside():
    cv2 = pytest.importorskip("cv2")
    coarse = np.random.default_rng(2).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (400, 400), interpolation=cv2.INTER_CUBIC)
    matrix = geometry.similarity(TEMPLATE * 2.3 + [90, 40], TEMPLATE)
    expected = cv2.warpAffine(picture, matrix, (112, 112), borderValue=0)
    # OpenCV rounds positions to 1/32 pixel, which a smooth picture turns into two levels at most.
    assert np.abs(geometry.warp(picture, matrix, 112).astype(int) - expected).max() <= 2
    away = geometry.warp(picture, np.array([[1.0, 0, 900], [0, 1.0, 0]]), 112)
    assert not away.any()


def test_suppression_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [0, 0, 10, 10]], float)
    assert geometry.suppress(boxes, np.array([0.5, 0.9, 0.3, 0.95]), 0.5) == [3, 2]
    # IoU of exactly the limit is kept.
    pair = np.array([[0, 0, 20, 10], [0, 0, 10, 10]], float)
    assert geometry.suppress(pair, np.array([0.9, 0.8]), 0.5) == [0, 1]
    assert geometry.suppress(np.zeros((0, 4)), np.zeros(0), 0.5) == []
