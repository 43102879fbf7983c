"""Speed is that of the method: sleeping frames count, encoding does not, the first call is kept apart."""

import time

import numpy as np
import pandas as pd
import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.spec import MethodSpec, Unscored
from bench.jobs.speed import Stopwatch
from bench.methods.base import Video
from bench.metrics.speed import OfflineSpeed
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.home import Home


def sleeper(seconds, count=20, slept=None):
    for _ in range(count):
        start = time.perf_counter()
        time.sleep(seconds)
        if slept is not None:
            slept.append(time.perf_counter() - start)  # a busy machine oversleeps
        yield np.zeros((8, 8, 3), np.uint8)


def test_ten_milliseconds_per_frame_are_a_hundred_frames_per_second():
    watch, slept = Stopwatch(load=1.5, first=False), []
    for _ in watch.watched(sleeper(0.01, slept=slept)):
        time.sleep(0.005)  # the encoder
    values = OfflineSpeed().read({"speed": watch.record(25.0)})
    assert values["fps"] == pytest.approx(20 / sum(slept), rel=0.05)
    assert values["rtf"] == pytest.approx(sum(slept) / 0.8, rel=0.05)
    assert values["n_frames"] == 20 and values["host_mib"] > 10


def test_the_first_call_warms_up():
    watch = Stopwatch(load=1.5, first=True)
    list(watch.watched(sleeper(0.001)))
    values = OfflineSpeed().read({"speed": watch.record(25.0)})
    assert np.isnan(values["rtf"]) and values["load"] == 1.5 and values["first_call"] > 0.02


def test_clips_made_elsewhere_have_no_speed():
    with pytest.raises(Unscored):
        OfflineSpeed().read({"status": "ok"})


class Dawdler:
    """Takes 20 ms per frame."""

    spec = MethodSpec("dawdler", "1", ("audio",), "classical", seeded=False)

    def generate(self, sample, gate, seed):
        return Video(np.full((32, 32, 3), 60 + i, np.uint8) for i, _ in enumerate(sleeper(0.02, sample.frames)))


def test_a_run_has_the_speed_of_its_methods(tmp_path):
    plan = plan_generation(toys.make_split(tmp_path / "s", 3), [find_method(f"{__file__}:Dawdler")])
    metrics = choose_metrics("real", ["speed", "flicker/mae"])
    for _ in range(2):  # the second run makes nothing, and still knows
        done = execute(plan, metrics, Home(tmp_path / "home"), Execution("inline"), name="run")
    rows = pd.read_parquet(done.folder / "rows.parquet").set_index(["column", "sample"])["value"]
    assert rows["rtf"].notna().sum() == 2 and rows["first_call"].notna().sum() == 1
    assert rows["rtf"].dropna().mean() == pytest.approx(0.5, rel=0.5)
