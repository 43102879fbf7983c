"""What a run tells Ray's metrics; its own endpoint needs packages (`ray[default]`) that are not installed here."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from bench.core.spec import AUDIO, Cause, Sample
from bench.execute.ray_meter import Meter
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import CPU_LANE, GenerateTask, Outcome


def test_jobs_are_counted_by_what_became_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[tuple[str, str], float] = defaultdict(float)

    class Metric:
        def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] = ()) -> None:
            self.name, self.tags = name, set(tag_keys)

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == self.tags and tags["run"] == "bench-1"
            values[self.name, tags["kind"]] += value

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == self.tags
            values[self.name, ""] = value

    metrics = pytest.importorskip("ray.util.metrics")
    for kind in ("Counter", "Gauge"):
        real: Any = getattr(metrics, kind)
        assert {"name", "description", "tag_keys"} <= set(real.__init__.__code__.co_varnames)
        monkeypatch.setattr(metrics, kind, Metric)
    sample = Sample("d", "s", "s", "i", Path("a.png"), None, None, None, 100)
    tasks = [GenerateTask(f"k{i}", "m", "x:y", sample, None, AUDIO, 0, 0, {}) for i in range(5)]
    seen: list[str] = []
    scheduler = Scheduler(tasks, lambda task, outcome: ())
    meter = Meter(scheduler, "bench-1", lambda task, outcome: seen.append(task.key))
    assert (values["bench_jobs_queued", ""], values["bench_jobs_running", ""]) == (5, 0)
    taken = [task for _ in range(4) if (task := scheduler.take(CPU_LANE)) is not None]
    outcomes = [
        Outcome("ok", records={"k": {"status": "ok"}}),
        Outcome("ok", records={"k": {"status": "error"}}),
        Outcome("error", Cause.INPUT, "lost"),
    ]
    for task, outcome in zip(taken, outcomes, strict=False):
        scheduler.settle(task, outcome)
        meter.settled(task, outcome)
    meter.look()
    assert values["bench_jobs_done", "generate"] == 1 and values["bench_jobs_failed", "generate"] == 2
    assert (values["bench_jobs_queued", ""], values["bench_jobs_running", ""]) == (1, 1)
    assert seen == [task.key for task in taken[:3]]
