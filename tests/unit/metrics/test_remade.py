"""Clips made again with silent sound and with other seeds."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bench.catalogue import choose_metrics, find_method
from bench.core.spec import MethodSpec, Reason, Unscored
from bench.data.silence import silenced
from bench.media.decode import chunks, read_audio
from bench.methods.base import Video
from bench.metrics.remade import LipLeak, SeedDiversity
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.home import Home
from bench.synthetic.split import make_split


def with_mouth(make_face, ratios):
    face = make_face(len(ratios))
    face.landmarks[:, 78], face.landmarks[:, 308] = (100, 150, 0), (150, 150, 0)
    face.landmarks[:, 13] = (125, 140, 0)
    face.landmarks[:, 14] = face.landmarks[:, 13]
    face.landmarks[:, 14, 1] += 50 * np.asarray(ratios)
    return face.clip()


def test_lipleak_is_the_share_of_open_frames(make_face):
    clip = with_mouth(make_face, [0.3] * 30 + [0.1] * 10)
    clip.swapped = {"silence": with_mouth(make_face, [0.4] * 10 + [0.2] * 20 + [0.1] * 10)}
    found = LipLeak().score(clip, None)
    assert (found["leak_15"], found["leak_25"], found["leak_35"]) == (0.75, 0.25, 0.25)
    assert found["spoken"] == 0.75


def test_diversity_is_the_distance_between_seeds(make_face):
    face, turned = make_face(30), make_face(30)
    turned.turn([(4, 0, 0)] * 30)
    clip = face.clip()
    clip.swapped = {"repeat 1": turned.clip(), "repeat 2": face.clip()}
    found = SeedDiversity().score(clip, None)
    assert found["pose"] == pytest.approx((4 + 0 + 4) / 3, rel=1e-3) and found["lips"] == 0 and found["seeds"] == 3
    clip.swapped = {}
    with pytest.raises(Unscored) as caught:
        SeedDiversity().score(clip, None)
    assert caught.value.reason == Reason.INSUFFICIENT_SAMPLES


class Shouter:
    """Copies the driving video, upside down in time for odd seeds; stands still when nobody speaks."""

    spec = MethodSpec("shouter", "1", ("audio", "audio+visual"), "classical")

    def generate(self, sample, gate, seed):
        frames = np.concatenate(list(chunks(sample.reference or sample.video or sample.image)))[: sample.frames]
        loud = np.abs(read_audio(sample.audio)).max() > 500
        if len(frames) < sample.frames or not loud:
            return Video(np.repeat(frames[:1], sample.frames, axis=0))
        return Video(frames[::-1] if seed % 2 else frames)


def test_a_run_makes_the_silent_clips_and_compares_the_seeds(tmp_path):
    split = make_split("synthetic-ci", tmp_path / "split")
    split = dataclasses.replace(split, samples=split.samples[:2])
    silence = silenced(split.samples, tmp_path / "silence")
    quiet = read_audio(silence[split.samples[0].id].audio)
    assert len(quiet) == 640 * split.samples[0].frames and 50 < np.abs(quiet).max() < 100
    metrics = choose_metrics("synthetic", ["silence/lipleak_synthetic_mar025", "diversity"])
    entry = find_method(f"{__file__}:Shouter")
    plan = plan_generation(
        split, [entry], ["audio+visual"], repeats=2, swaps=["silenced", "repeats"], silence=silence
    )
    assert sum("silence" in made for made in plan.swaps.values()) == 4
    assert sum("repeat 1" in made for made in plan.swaps.values()) == 2
    done = execute(plan, metrics, Home(tmp_path / "home"), Execution("inline"), name="run")
    rows = pd.read_parquet(done.folder / "rows.parquet")
    values = rows.set_index(["column", "repeat", "sample"])["value"]
    assert values["leak_15"].notna().sum() == 4
    # Standing still, a mouth is open in all frames or in none.
    assert set(values["leak_15"].round(6)) <= {0.0, 1.0} and values["spoken"].between(0, 1).all()
    assert list(values["seeds"]) == [2.0, 2.0]
    assert set(rows["status"]) == {"ok"}
