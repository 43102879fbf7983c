"""Speed is that of the method: sleeping frames count, encoding does not, the first call is kept apart."""

import time

import numpy as np
import pandas as pd
import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.spec import MethodSpec, Unscored
from bench.jobs.speed import Stopwatch
from bench.methods.actalker import segment_ends
from bench.methods.base import Video
from bench.metrics.speed import OfflineSpeed, ProcessSpeed, StreamingSpeed, played_live
from bench.report import build_tables
from bench.results.runs import load
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


def test_a_method_that_streams_is_played_as_if_the_sound_came_live():
    # Two blocks of ten frames at 25 fps, each heard to its end (0.4 s); the first is worked on for 0.1 s, the
    # second for 0.7 s, which is 0.3 s more than the player has.
    heard, ready = [10] * 10 + [20] * 10, [0.1] * 10 + [0.8] * 10
    found = played_live(ready, heard, 25.0)
    assert found["ffd"] == pytest.approx(0.5)
    assert found["lookahead"] == pytest.approx(9 / 25)
    late = [max(0.8, 0.5) + 0.7 - 0.5 - i / 25 for i in range(10, 20)]
    assert found["stalls"] == pytest.approx(np.mean([late_by > 1e-6 for late_by in [0] * 10 + late]))
    assert found["lag_p95"] == pytest.approx(np.percentile([-i / 25 for i in range(10)] + late, 95))


def test_only_a_method_that_says_so_streams():
    watch = Stopwatch(load=0.0, first=False)
    list(watch.watched(sleeper(0.002)))
    with pytest.raises(Unscored):
        StreamingSpeed().read({"speed": watch.record(25.0)})
    values = StreamingSpeed().read({"speed": watch.record(25.0, [i + 1 for i in range(20)])})
    assert values["lookahead"] == 0 and values["ffd"] > 0.04
    first = {"speed": {**watch.record(25.0, [1] * 20), "first": True}}
    assert np.isnan(StreamingSpeed().read(first)["ffd"])


@pytest.mark.parametrize(
    "count, frames, overlap, ends",
    [(5, 10, 2, [5] * 5), (12, 6, 2, [6] * 4 + [10] * 4 + [12] * 4), (10, 10, 3, [10] * 10)],
)
def test_actalker_says_what_a_frame_waits_for(count, frames, overlap, ends):
    assert segment_ends(count, frames, overlap) == ends


def test_processes_are_timed_from_start_to_exit():
    record = {"frames": 50, "fps": 25.0, "process_seconds": 3.0}
    assert ProcessSpeed().read(record)["process_rtf"] == pytest.approx(1.5)
    with pytest.raises(Unscored):
        ProcessSpeed().read({"frames": 50, "fps": 25.0})


def test_the_first_clip_is_not_missed_in_tables(tmp_path):
    plan = plan_generation(toys.make_split(tmp_path / "s", 3), [find_method(f"{__file__}:Dawdler")])
    metrics = choose_metrics("real", ["speed/offline_v1", "flicker/mae"])
    done = execute(plan, metrics, Home(tmp_path / "home"), Execution("inline"), name="run")
    rows = pd.read_parquet(done.folder / "rows.parquet")
    assert set(rows["status"]) == {"ok"}
    columns = (("RTF", "speed/*", "rtf"), ("Flicker", "flicker/mae", "flicker"))
    entries = [f'[[table.column]]\nname = "{n}"\nprotocol = ["{p}"]\ncolumn = ["{c}"]\n' for n, p, c in columns]
    (tmp_path / "both.toml").write_text('[[table]]\nid = "both"\n' + "".join(entries))
    ((row,),) = (table.rows for table in build_tables(load(str(done.folder)), tmp_path / "both.toml"))
    assert row.n_text == "3/3"
