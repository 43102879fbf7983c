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


def test_dynamics_of_a_smaller_and_of_a_faster_copy_are_the_same(tmp_path):
    from bench.catalogue import extractors
    from bench.media.clip import Clip
    from bench.media.encode import write_clip
    from bench.media.scale import Fit

    frames, half = make_clip("test", 905, 40, size=256).frames, Fit(128, 128)
    write_clip(tmp_path / "large.mp4", frames, lossless=True)
    write_clip(tmp_path / "small.mp4", map(half, frames), lossless=True)
    at_30 = np.minimum(np.rint(np.arange(48) * 25 / 30).astype(int), 39)  # what is nearest in time
    write_clip(tmp_path / "fast.mp4", frames[at_30], 30.0, lossless=True)
    files = (tmp_path / f"{name}.mp4" for name in ("large", "small", "fast"))
    large, small, fast = (Clip(file, extractors=extractors()) for file in files)
    assert (fast.native.frames, fast.frames) == (48, 40)
    for protocol in ("dynamics/lips", "dynamics/brows", "dynamics/head"):
        metric = KINDS[protocol]()
        whole = metric.score(large, None)
        assert metric.score(small, None) == pytest.approx(whole, rel=0.03), protocol
        assert metric.score(fast, None) == pytest.approx(whole, rel=0.03), protocol


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


def test_what_is_compared_with_the_truth_is_zero_for_the_truth(clip):
    for protocol in ("timing/mouth_events", "seqalign/lmd", "seqalign/pose", "gaze/iris"):
        values = KINDS[protocol]().score(clip, clip)
        first = next(iter(values.values()))
        assert first == pytest.approx(0, abs=1e-9), protocol


def test_a_late_mouth_is_late_by_its_frames(clip):
    late = clip.showing(np.concatenate([np.repeat(clip.pixels[:1], 3, axis=0), clip.pixels[:-3]]))
    found = KINDS["timing/mouth_events"]().score(late, clip)
    assert found["bias"] == pytest.approx(120, abs=20)
    aligned = KINDS["seqalign/lmd"]().score(late, clip)
    assert aligned["warp"] > 1.5 and aligned["ratio"] < 0.5


def test_gaze_is_read_near_the_truth(clip):
    seen = KINDS["gaze/iris"]().eyes(clip)
    world = geometry.landmarks(clip.made.identity, clip.made.expression, clip.made.pose, clip.made.frames.shape[1])
    at = geometry.LANDMARKS.index
    centre = (world[:, at("eye_left_outer")] + world[:, at("eye_left_inner")]) / 2
    away = (world[:, at("eye_left_pupil")] - centre)[seen.open, 0]
    assert np.corrcoef(away, seen.gaze[seen.open, 0])[0, 1] > 0.9


def test_motion_and_expression_distances_see_a_freeze(clip):
    still = clip.showing(np.repeat(clip.pixels[:1], 75, axis=0))
    backwards = clip.showing(clip.pixels[::-1])
    for protocol, key in (("fvmd/synthetic_v1", "fvmd"), ("efid/synthetic_v1", "change")):
        metric = KINDS[protocol]()
        truth, other, frozen = (metric.state(one) for one in (clip, backwards, still))
        assert metric.compute(frozen, truth)[key] > 2 * metric.compute(other, truth)[key], protocol
        assert metric.compute(truth, truth)[key] == 0
