"""What is missing and what follows, driven without workers: records are written as a worker would."""

from __future__ import annotations

from pathlib import Path

import pytest
import tests_toys as toys

from bench import catalogue
from bench.catalogue import choose_metrics, find_method
from bench.core.spec import Split
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import METRICS, GenerateTask, Lane, ScoreTask, SetTask, Task
from bench.execute.worker import Worker
from bench.run.flow import Flow
from bench.run.plan import plan_generation
from bench.store.home import Home

GPU = Lane(METRICS, 1, 0.5)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return toys.make_split(tmp_path_factory.mktemp("toy split"), 2)


def drain(flow: Flow, home: Path) -> list[Task]:
    """Do everything, the most demanding lane first; return the tasks in order."""
    scheduler, worker, done = Scheduler(flow.initial, flow.follow), Worker(home), []
    while not scheduler.finished:
        task = scheduler.take(scheduler.ready[0])
        assert task is not None
        scheduler.settle(task, worker.run(task))
        done.append(task)
    assert scheduler.failures == []
    return done


def flow_of(split: Split, home: Path, *metrics: str, gpu: Lane | None = None) -> Flow:
    plan = plan_generation(split, [find_method(toys.target("Copy"))])
    return Flow(plan, choose_metrics("real", metrics), Home(home), gpu=gpu)


def test_with_a_gpu_each_clip_is_scored_once_on_it_and_once_on_a_cpu(split: Split, tmp_path: Path) -> None:
    flow = flow_of(split, tmp_path / "gpu", "psnr", "flicker/mae", gpu=GPU)
    scored = [t for t in drain(flow, tmp_path / "gpu") if isinstance(t, ScoreTask)]
    assert [(t.lane.name, [p[0] for p in t.protocols]) for t in scored] == [
        (METRICS, ["psnr/rgb_float64"]),
        ("cpu", ["flicker/mae"]),
    ] * 2
    assert flow.settled == 2
    one = flow_of(split, tmp_path / "cpu", "psnr", "flicker/mae")
    scored = [t for t in drain(one, tmp_path / "cpu") if isinstance(t, ScoreTask)]
    assert [len(t.protocols) for t in scored] == [2, 2], "without a GPU a clip is decoded once for everything"
    assert {k: r["values"] for k, r in one.scores.items()} == {
        k: pytest.approx(r["values"], rel=1e-12) for k, r in flow.scores.items()
    }


def test_a_finished_run_has_nothing_to_do_with_or_without_a_gpu(split: Split, tmp_path: Path) -> None:
    drain(flow_of(split, tmp_path, "psnr", gpu=GPU), tmp_path)
    assert flow_of(split, tmp_path, "psnr").initial == []
    assert flow_of(split, tmp_path, "psnr", gpu=GPU).initial == []


def test_a_set_metric_added_later_extracts_clip_by_clip_before_it_computes(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_generation(split, [find_method(toys.target("Copy"))])
    metrics = choose_metrics("synthetic", ["fid/synthetic_v1"])
    monkeypatch.setattr(catalogue, "metrics", lambda: {m.spec.id: m for m in metrics})
    drain(Flow(plan, [], Home(tmp_path)), tmp_path)
    done = drain(Flow(plan, metrics, Home(tmp_path)), tmp_path)
    assert [t.kind for t in done] == ["feature"] * 4 + ["set"]


def test_clips_with_the_same_content_are_scored_once(tmp_path: Path) -> None:
    """Two methods may make the same file; one scores it and both rows have the value."""
    split = toys.make_split(tmp_path / "split", 1)
    entries = [find_method(toys.target(name)) for name in ("Copy", "CopyToo")]
    plan = plan_generation(split, entries)
    metrics = choose_metrics("real", ["psnr"])
    done = drain(flow := Flow(plan, metrics, Home(tmp_path / "home")), tmp_path / "home")
    assert len([t for t in done if isinstance(t, GenerateTask)]) == 2
    assert len([t for t in done if isinstance(t, ScoreTask)]) == 1
    assert not [t for t in done if isinstance(t, SetTask)]
    assert [r is not None for job in plan.jobs for _, r in flow.clip_scores(job)] == [True, True]
