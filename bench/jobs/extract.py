"""Extracting features of a clip before anybody asks for them."""

from __future__ import annotations

import contextlib
import time

from bench.core.spec import Unscored
from bench.execute.tasks import FeatureTask, Outcome
from bench.jobs.workshop import Workshop


def extract(shop: Workshop, task: FeatureTask, start: float) -> Outcome:
    """Compute and store the task's features; a feature that cannot be had is told to whoever reads it."""
    view = shop.view(task.clip, bool(task.lane.gpus))
    for name in task.extractors:
        with contextlib.suppress(Unscored):
            view.features(name)
    return Outcome("ok", seconds=time.perf_counter() - start)
