"""Doing one task in a worker process, the same way in every executor: limits, and what became of it.

The job's own code is found by the name the task carries. It writes blob, then record, and only then answers;
nobody else writes results.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core import numerics
from bench.core.errors import in_words, is_out_of_memory
from bench.core.registry import resolve
from bench.core.spec import Cause
from bench.execute.tasks import Outcome, Task
from bench.store.files import StoreFull
from bench.store.home import Home
from bench.store.travel import unpacked

WORKSHOP = "bench.jobs.workshop"


class JobTimeout(BaseException):
    """The wall limit of a job was reached. No `Exception`, so that no method swallows it by accident."""


class Worker:
    """Runs tasks one after another, keeping loaded methods and metric networks.

    Args:
        home: folder or address of the store.
        weights: folder searched first for weight files, or None.
        loaded: called when a task's method is loaded and begins to work.
        run: what all workers of a run call it, see `bench.store.claims.Claims`.
    """

    def __init__(
        self,
        home: str | Path,
        weights: Path | None = None,
        loaded: Callable[[], None] = lambda: None,
        run: str = "",
    ) -> None:
        numerics.pin()
        self._home = Home(home)
        os.environ["BENCH_HOME"] = self._home.address  # where methods find what was prepared for them
        self._shop: Any = importlib.import_module(WORKSHOP).Workshop(home, weights, run)
        self._shop.loaded = loaded

    def close(self) -> None:
        """Let go of what is loaded; a process that goes on must not keep a model it will not use again."""
        self._shop.close()

    def run(self, task: Task, ahead: Task | None = None) -> Outcome:
        """Do a task. Never raises for a failure of the task; says what went wrong in the outcome.

        Args:
            task: what to do.
            ahead: what this worker will do next, if that is known.
        """
        start = time.perf_counter()
        try:
            with _time_limit(task.limit), self._home.storage.in_use():
                todo = [unpacked(one, self._home.storage) for one in (task, ahead) if one is not None]
                for one in todo:
                    self._shop.expect(one)
                outcome: Outcome = resolve(task.code)(self._shop, todo[0], start)
        except StoreFull as error:
            return Outcome("fatal", error=error)
        except JobTimeout:
            return Outcome("error", Cause.TIMEOUT, f"took longer than {task.limit:g} s")
        except (Exception, SystemExit) as error:
            # A job that knows why it cannot be done says so (see `bench.methods.base.GenerationFailed`).
            known = getattr(error, "cause", None)
            fallback = Cause.OOM if is_out_of_memory(error) else Cause.INFRA
            return Outcome("error", known if isinstance(known, Cause) else fallback, in_words(error))
        # What a record's key was made of is asked of the store (`bench cache explain`), never of a run.
        light = {key: {k: v for k, v in r.items() if k != "fields"} for key, r in outcome.records.items()}
        return replace(outcome, records=light)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise JobTimeout after a while, where the platform and thread allow it (main thread, POSIX)."""

    def ring(*_: object) -> None:
        raise JobTimeout

    try:
        previous = signal.signal(signal.SIGALRM, ring)
    except (ValueError, AttributeError):  # not the main thread, or no such signal: the executor watches
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
