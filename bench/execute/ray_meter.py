"""Progress of a run as metrics of Ray, which a cluster with `ray[default]` exports for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.execute.scheduler import Scheduler
from bench.execute.tasks import Outcome, Task


class Meter:
    """Counts settled jobs, and says how many wait and run.

    The names: counters `bench_jobs_done` and `bench_jobs_failed` (an attempt that was lost, or a result that is an
    error), gauges `bench_jobs_queued` and `bench_jobs_running`; all have the tag `run`, the counters also `kind`.

    Args:
        scheduler: of the run.
        run: what its workers' names begin with.
        observe: told about every settled task, too.
    """

    def __init__(self, scheduler: Scheduler, run: str, observe: Callable[[Task, Outcome], None]) -> None:
        from ray.util.metrics import Counter, Gauge

        self._scheduler, self._observe, self._run = scheduler, observe, {"run": run}
        self._done = Counter("bench_jobs_done", "Jobs with a result.", ("run", "kind"))
        self._failed = Counter("bench_jobs_failed", "Lost attempts, and results that are errors.", ("run", "kind"))
        self._queued = Gauge("bench_jobs_queued", "Jobs that can be done and wait for a worker.", ("run",))
        self._running = Gauge("bench_jobs_running", "Jobs that workers do.", ("run",))
        self._said = 0.0
        self.look()

    def settled(self, task: Task, outcome: Outcome) -> None:
        """Take in a settled task."""
        bad = outcome.status != "ok" or any(r.get("status") == "error" for r in outcome.records.values())
        (self._failed if bad else self._done).inc(1.0, {**self._run, "kind": task.kind})
        if time.monotonic() - self._said > 1.0:
            self.look()
        self._observe(task, outcome)

    def look(self) -> None:
        """Say how many jobs wait and run now."""
        self._said = time.monotonic()
        self._queued.set(self._scheduler.waiting, self._run)
        self._running.set(len(self._scheduler.running), self._run)
