"""The executor without a cluster: every task in this process, one after another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from bench.execute.interrupt import Interrupt
from bench.execute.scheduler import OtherRuns, Scheduler
from bench.execute.tasks import Outcome, Task


def run_inline(
    scheduler: Scheduler,
    home: str | Path,
    weights: Path | None,
    observe: Callable[[Task, Outcome], None],
    interrupt: Interrupt,
    notice: Callable[[str], None] = lambda text: None,
) -> None:
    """Run tasks until none is left or a stop was asked for.

    Args:
        scheduler: what to do.
        home, weights: see `bench.execute.worker.Worker`.
        observe: called after every task.
        interrupt: asked between tasks.
        notice: told what a user should know while it goes on.

    Raises:
        StoreFull: the disk is full.
    """
    from bench.execute.worker import Worker

    others = OtherRuns(scheduler, notice)
    with contextlib.closing(Worker(home, weights)) as worker:
        while not scheduler.finished and not interrupt.requested:
            if not scheduler.ready:
                others.wait(time.monotonic())
                time.sleep(0.2)
                continue
            # The least demanding lane first: a clip is scored before the next one is made.
            lane = scheduler.ready[-1]
            task = scheduler.take(lane)
            assert task is not None, "nothing runs beside this process, so what waits is ready"
            outcome = worker.run(task, scheduler.peek(lane))
            if outcome.error is not None:
                raise outcome.error
            if outcome.status == "claimed":
                scheduler.defer(task)
                continue
            scheduler.settle(task, outcome)
            observe(task, outcome)
