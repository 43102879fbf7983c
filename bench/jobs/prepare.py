"""Making one clip of a data set."""

from __future__ import annotations

import time
from dataclasses import asdict

from bench.execute.tasks import Outcome, PrepareTask
from bench.jobs.workshop import Workshop


def prepare(shop: Workshop, task: PrepareTask, start: float) -> Outcome:
    """Cut, check and write one candidate; see `bench.data.preparation.process`."""
    from bench.data.preparation import process

    result = process(task.job)
    return Outcome("ok", records={task.key: asdict(result)}, seconds=time.perf_counter() - start)
