import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.metrics.temporal import Flicker, LinearSmoothness


@pytest.fixture
def clip(array_clip):
    """Make a clip of grey frames of the given levels."""

    def make(values):
        levels = np.asarray(values, np.uint8)[:, None, None, None]
        return array_clip(np.broadcast_to(levels, (len(values), 4, 6, 3)))

    return make


def test_flicker_is_the_mean_difference_of_neighbours(clip):
    assert Flicker().score(clip([0, 255, 0]), None)["flicker"] == 0
    assert Flicker().score(clip([10, 20, 15]), None)["flicker"] == pytest.approx((255 - 7.5) / 255)


def test_smoothness_compares_odd_frames_with_the_mean_of_their_neighbours(clip):
    assert LinearSmoothness().score(clip([10, 20, 30, 40, 50]), None)["smoothness"] == 1
    assert LinearSmoothness().score(clip([0, 255, 0]), None)["smoothness"] == 0
    row = LinearSmoothness().score(clip([0, 9, 0, 200, 0, 77]), None)
    assert row["smoothness"] == pytest.approx((255 - (9 + 200) / 2) / 255)


@pytest.mark.parametrize("metric", [Flicker, LinearSmoothness])
def test_frozen_and_too_short(metric, clip):
    key = metric.spec.columns[0].key
    assert metric().score(clip([7] * 5), None)[key] == 1
    with pytest.raises(Unscored) as caught:
        metric().score(clip([7, 8]), None)
    assert caught.value.reason == Reason.TOO_SHORT


@pytest.mark.parametrize("metric", [Flicker, LinearSmoothness])
def test_chunk_borders_do_not_matter(metric, array_clip):
    frames = np.random.default_rng(0).integers(0, 256, (70, 4, 6, 3), dtype=np.uint8)
    whole, chunked = array_clip(frames), array_clip(frames)
    whole.chunks = lambda size=32: iter([frames])
    key = metric.spec.columns[0].key
    assert metric().score(whole, None)[key] == metric().score(chunked, None)[key]
