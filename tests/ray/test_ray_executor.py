"""The Ray executor: same records as inline, dead workers, two nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
import ray
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.errors import MissingError
from bench.core.spec import Split
from bench.execute import ray_cluster, ray_token
from bench.run.drive import Execution, RunResult, execute
from bench.run.plan import plan_generation
from bench.store.home import Home

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def markers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("markers")


@pytest.fixture(scope="module")
def cluster(markers: Path) -> Iterator[object]:
    """Two nodes of one CPU each, in one process tree, shared by all tests here."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # With a token, as a run has: in one process, Ray cannot go from asking for one to asking for none.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "f" * 64)
        ray_token._read_anew()
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("TOY_MARKERS", str(markers))
        patch.setenv("OMP_NUM_THREADS", "1")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
        nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return toys.make_split(tmp_path_factory.mktemp("split"), 4)


NETWORKS = ("psnr", "flicker/mae", "csim", "fid")


def go(
    split: Split,
    home: Path,
    executor: str,
    *methods: str,
    workers: int | None = None,
    metrics: Sequence[str] = ("psnr", "flicker/mae"),
) -> RunResult:
    if metrics is NETWORKS:  # those of drawn faces are here everywhere
        split = dataclasses.replace(split, domain="synthetic")
    plan = plan_generation(split, [find_method(toys.target(m)) for m in methods])
    chosen = choose_metrics(split.domain, metrics)
    return execute(plan, chosen, Home(home), Execution(executor, workers=workers), name="run")  # type: ignore[arg-type]


def numbers(result: RunResult) -> pd.DataFrame:
    return pd.read_parquet(result.folder / "rows.parquet").drop(columns=["seconds", "clip_path"])


def test_both_executors_write_the_same_rows(cluster: object, split: Split, tmp_path: Path) -> None:
    """Bit for bit: values of networks and of pixels, and the digests of clips."""
    on_ray, inline = (
        go(split, tmp_path / name, name, "Still", "Copy", "Picky", metrics=NETWORKS) for name in ("ray", "inline")
    )
    found = numbers(on_ray)
    assert found["value"].notna().any() and {"csim", "fid", "psnr"} <= set(
        found.loc[found["status"] == "ok", "column"]
    )
    pd.testing.assert_frame_equal(found, numbers(inline), check_exact=True)
    names = {p.name for p in (tmp_path / "ray" / "records").rglob("*.json")}
    assert names == {p.name for p in (tmp_path / "inline" / "records").rglob("*.json")}


def test_one_worker_and_two_write_the_same_rows(cluster: object, split: Split, tmp_path: Path) -> None:
    one = go(split, tmp_path / "one", "ray", "Still", "Picky", workers=1)
    two = go(split, tmp_path / "two", "ray", "Still", "Picky", workers=2)
    pd.testing.assert_frame_equal(numbers(one), numbers(two), check_exact=True)


def test_a_node_without_the_store_stops_the_run_before_results_are_lost(
    cluster: object, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The driver's mark in the store is never made, so no worker sees it.
    monkeypatch.setattr(Home, "witness", lambda self: nullcontext("blobs/scratch/nothing.probe"))
    with pytest.raises(MissingError, match="must be a shared folder") as caught:
        go(split, tmp_path, "ray", "Still")
    assert "bench doctor --cluster" in caught.value.hint
    assert not list((tmp_path / "blobs").glob("??/*"))


def test_a_dying_worker_costs_a_retry_and_nothing_else(cluster: object, split: Split, tmp_path: Path) -> None:
    result = go(split, tmp_path, "ray", "Suicidal")
    assert result.failed == 0
    assert set(numbers(result)["status"]) == {"ok"}


def test_a_method_larger_than_the_cluster_is_refused_and_the_rest_runs(
    cluster: object, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_PATIENCE", 0.0)
    result = go(split, tmp_path, "ray", "Giant", "Still")
    table = numbers(result)
    giant = table[table["method"] == "giant"]
    assert set(giant["reason"]) == {"environment"}
    assert "the cluster has 1 CPUs and 0 GPUs" in giant["detail"].iloc[0]
    assert set(table[table["method"] == "still"]["status"]) == {"ok"}


def test_losing_a_node_in_the_middle_loses_no_result(cluster, split: Split, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import threading

    extra = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    timer = threading.Timer(2.0, lambda: cluster.remove_node(extra, allow_graceful=False))
    timer.start()
    try:
        result = go(split, tmp_path, "ray", "Slow")
    finally:
        timer.join()
    assert result.failed == 0
    assert set(numbers(result)["status"]) == {"ok"}
