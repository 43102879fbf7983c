"""Values of set metrics over a cell: spread, floor, left-out clips."""

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.metrics import fid, frechet, sets
from bench.metrics.sets import set_value

NAME = "inception2048"


@pytest.fixture(autouse=True)
def _no_floors():
    sets._floors.clear()


@pytest.fixture
def clips(array_clip):
    """Make clips whose frame features are drawn from one Gaussian each, in 12 dimensions."""

    def make(count, seed, shift=0.0, frames=5):
        generator = np.random.default_rng(seed)
        features = [generator.normal(shift, 1 + i % 3, (frames, 12)).astype(np.float32) for i in range(count)]
        return [
            array_clip(features={NAME: {"features": f}}, n=frames, name=f"{seed}-{i}")
            for i, f in enumerate(features)
        ]

    return make


def rows(clips, chosen):
    return {"rows": np.concatenate([clips[i].features(NAME)["features"] for i in chosen])}


def test_the_spread_is_that_of_half_size_subsets_and_the_floor_that_of_reference_halves(clips):
    made, true = clips(9, 0, 0.5), clips(9, 1)
    values = set_value(fid.AllFrames(), list(zip(made, true, strict=True)))
    halves = frechet.half_subsets(9, 10, seed=0)
    spread = [frechet.distance(rows(made, a), rows(true, a)) for a, _ in halves]
    floor = [frechet.distance(rows(true, a), rows(true, b)) for a, b in halves]
    assert values["fid"] == pytest.approx(frechet.distance(rows(made, range(9)), rows(true, range(9))), rel=1e-9)
    assert (values["fid.low"], values["fid.high"]) == pytest.approx((min(spread), max(spread)), rel=1e-9)
    assert values["fid.floor"] == pytest.approx(np.mean(floor), rel=1e-9)
    assert (values["n_clips"], values["coverage"]) == (9, 1)


def test_the_floor_is_measured_once_per_set_of_references(clips, monkeypatch):
    true = clips(8, 1)
    asked = []
    distance = frechet.distance
    monkeypatch.setattr(
        frechet, "distance", lambda *sides, **options: asked.append(1) or distance(*sides, **options)
    )

    def scored(made, true):
        asked.clear()
        return set_value(fid.AllFrames(), list(zip(made, true, strict=True)))["fid.floor"], len(asked)

    first, again = scored(clips(8, 2), true), scored(clips(8, 3), true)
    assert (first[1], again[1]) == (21, 11)
    assert first[0] == again[0]
    other, calls = scored(clips(8, 2), clips(8, 4))
    assert calls == 21 and other != first[0]
    fewer, calls = scored(clips(7, 2), true[:7])
    assert calls == 21 and fewer != first[0]


def test_clips_without_features_are_left_out_on_both_sides(clips, array_clip):
    made, true = clips(5, 0), clips(5, 1)
    lost = array_clip(features={NAME: Unscored(Reason.NO_FACE, "nobody")}, n=5)
    values = set_value(fid.AllFrames(), [*zip(made, true, strict=True), (lost, made[0]), (made[0], lost)])
    assert values["n_clips"] == 5 and values["coverage"] == pytest.approx(5 / 7)
    assert values["fid"] == pytest.approx(frechet.distance(rows(made, range(5)), rows(true, range(5))))


def test_three_clips_have_a_value_but_no_spread(clips):
    values = set_value(fid.AllFrames(), list(zip(clips(3, 0), clips(3, 1), strict=True)))
    assert values["fid"] > 0
    assert all(np.isnan(values[f"fid.{name}"]) for name in ("low", "high", "floor"))


def test_one_clip_is_not_a_set(clips):
    with pytest.raises(Unscored, match="1 of 1 clips usable") as caught:
        set_value(fid.AllFrames(), list(zip(clips(1, 0), clips(1, 1), strict=True)))
    assert caught.value.reason is Reason.INSUFFICIENT_SAMPLES
