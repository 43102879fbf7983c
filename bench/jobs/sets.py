"""Computing set metrics over the clips of a cell."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from bench import catalogue
from bench.core.spec import MISSING
from bench.execute.tasks import Outcome, SetTask
from bench.jobs.score import found, measured
from bench.jobs.workshop import Workshop


def set_of_clips(shop: Workshop, task: SetTask, start: float) -> Outcome:
    """Compute one set metric of one cell and store what it gave."""
    from bench.metrics.sets import set_value

    if records := found(shop, "set", [task.key]):
        return Outcome("ok", records=records, seconds=time.perf_counter() - start)
    metric = catalogue.metrics()[task.protocol]
    record: dict[str, Any] = {
        "kind": "set",
        "key": task.key,
        "protocol": task.protocol,
        "fields": dict(task.fields),
    }
    pairs = [(shop.view(g), shop.view(r)) for g, r in zip(task.generated, task.reference, strict=True)]
    record |= measured(partial(set_value, metric, pairs))  # type: ignore[arg-type]
    record["seconds"] = time.perf_counter() - start
    if record.get("reason") not in MISSING:
        shop.home.records.put("set", task.key, record)
    return Outcome("ok", records={task.key: record}, seconds=record["seconds"])
