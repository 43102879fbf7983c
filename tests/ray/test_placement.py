"""Where workers come to be on a node whose GPUs are declared and absent: Ray places by what is declared."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import ray
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.spec import Split
from bench.execute import ray_token
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.home import Home

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc"),
]


@pytest.fixture(scope="module")
def gpus() -> Iterator[None]:
    """A Ray of one node with four CPUs and two GPUs."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "f" * 64)
        ray_token._read_anew()
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        node = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    made = toys.make_split(tmp_path_factory.mktemp("split"), 4)
    return dataclasses.replace(made, domain="synthetic")  # whose networks are everywhere


class Watch:
    """Looks, again and again, which workers of a home there are, and which devices they see.

    Attributes:
        seen: all pairs of a lane and `CUDA_VISIBLE_DEVICES`.
        together: the devices of a lane's workers at one time, of every look.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._ended = home, threading.Event()
        self.seen: set[tuple[str, str]] = set()
        self.together: dict[str, list[list[str]]] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            now: dict[str, list[str]] = {}
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    command = (process / "cmdline").read_bytes().split(b"\0")
                    if b"bench.execute.child" not in command or str(self._home).encode() not in command:
                        continue
                    variables = dict(
                        v.partition(b"=")[::2] for v in (process / "environ").read_bytes().split(b"\0")
                    )
                    lane = (process / "fd" / "1").readlink().stem.rpartition("-")[2]
                except OSError:
                    continue
                device = variables.get(b"CUDA_VISIBLE_DEVICES", b"unset").decode()
                self.seen.add((lane, device))
                now.setdefault(lane, []).append(device)
            for lane, devices in now.items():
                self.together.setdefault(lane, []).append(devices)


def go(split: Split, home: Path, *methods: str, metric_gpus: float | None = None) -> tuple[Watch, pd.DataFrame]:
    plan = plan_generation(split, [find_method(toys.target(m)) for m in methods])
    chosen = choose_metrics("synthetic", ["psnr", "csim", "flicker/mae"])
    with Watch(home) as watch:
        how = Execution("ray", metric_gpus=metric_gpus)
        result = execute(plan, chosen, Home(home), how, name="run")
    rows = pd.read_parquet(result.folder / "rows.parquet")
    assert set(rows["status"]) == {"ok"}
    return watch, rows.drop(columns=["seconds", "clip_path"])


def test_methods_share_no_gpu_beyond_what_they_declare_and_scores_are_made_on_gpus(
    gpus: None, split: Split, tmp_path: Path
) -> None:
    watch, rows = go(split, tmp_path, "TwoThirds", "Still")
    lanes = {lane for lane, _ in watch.seen}
    assert lanes == {"cpu", "thirds", "metrics"}
    assert {device for lane, device in watch.seen if lane == "cpu"} == {""}
    assert {device for lane, device in watch.seen if lane != "cpu"} == {"0", "1"}
    assert {device for lane, device in watch.seen if lane == "thirds"} == {"0", "1"}
    for devices in watch.together["thirds"] + watch.together["metrics"]:
        assert len(set(devices)) == len(devices), "two that need more than half of a GPU are on one"
    plan = plan_generation(split, [find_method(toys.target(m)) for m in ("TwoThirds", "Still")])
    chosen = choose_metrics("synthetic", ["psnr", "csim", "flicker/mae"])
    inline = execute(plan, chosen, Home(tmp_path / "inline"), Execution("inline"), name="run")
    expected = pd.read_parquet(inline.folder / "rows.parquet").drop(columns=["seconds", "clip_path"])
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


def test_scores_stay_on_cpus_when_that_is_asked_for(gpus: None, split: Split, tmp_path: Path) -> None:
    watch, _ = go(split, tmp_path, "Still", metric_gpus=0)
    assert watch.seen == {("cpu", "")}


def test_scores_share_a_gpu_when_that_is_asked_for(gpus: None, split: Split, tmp_path: Path) -> None:
    watch, _ = go(split, tmp_path, "Still", metric_gpus=0.5)
    assert {lane for lane, _ in watch.seen} == {"cpu", "metrics"}
    assert {device for lane, device in watch.seen if lane == "metrics"} <= {"0", "1"}
