"""Motion and articulation of drawn faces, against the exact truth of the world."""

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.synthetic import geometry
from bench.synthetic.aligned import METRICS, motion_of
from bench.synthetic.clip import make_clip
from bench.synthetic.evaluate import MemoryClip

KINDS = {kind().spec.id.removesuffix("_synthetic_v1"): kind for kind in METRICS}


@pytest.fixture(scope="module")
def clip():
    made = make_clip("test", 901, 75)
    return MemoryClip(made.frames, made.audio, made)


def exact(kind, clip, made):
    """Score what the world knows instead of what the reader sees."""
    size = made.frames.shape[1]
    opening = geometry.mouth_drawn(made.identity, made.expression)[:, 1]
    points = geometry.landmarks(made.identity, made.expression, made.pose, size)
    metric = kind()
    from dataclasses import replace

    metric.world = replace(metric.world, motion=lambda _: motion_of(points, made.pose, opening, size))
    return metric.score(clip, None)


@pytest.mark.parametrize("protocol", ["dynamics/lips", "dynamics/brows", "dynamics/head", "loudness/opening"])
def test_reader_is_near_the_truth(clip, protocol):
    seen, true = KINDS[protocol]().score(clip, None), exact(KINDS[protocol], clip, clip.made)
    slow = [k for k in true if "speed" not in k and k not in ("lag", "frozen_mouth", "brows_asymmetry")]
    for key in slow:
        assert seen[key] == pytest.approx(true[key], rel=0.25, abs=0.05), key


def test_loudness_follows_speech_and_not_another_sentence(clip):
    metric = KINDS["loudness/opening"]()
    other = MemoryClip(clip.pixels, make_clip("test", 902, 75).audio, clip.made)
    assert metric.score(clip, None)["rho"] > metric.score(other, None)["rho"] + 0.1


def test_frozen_clip_is_still(clip):
    still = clip.showing(np.repeat(clip.pixels[:1], 75, axis=0))
    for protocol in ("dynamics/lips", "dynamics/head"):
        values = KINDS[protocol]().score(still, None)
        assert next(iter(values.values())) == pytest.approx(0, abs=1e-5)
    assert KINDS["loudness/opening"]().score(still, None)["frozen_mouth"] == 1


def test_ids_say_synthetic():
    assert all("synthetic" in kind().spec.id and kind().spec.domains == ("synthetic",) for kind in METRICS)


def test_short_clip_is_refused():
    made = make_clip("test", 903, 20)
    with pytest.raises(Unscored) as caught:
        KINDS["dynamics/lips"]().score(MemoryClip(made.frames, made.audio, made), None)
    assert caught.value.reason == Reason.TOO_SHORT
