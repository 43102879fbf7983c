"""The executor on Ray: Ray places workers and notices their death; we account.

All retries are off in Ray and on in the scheduler. Messages carry keys and paths, never frames. CPU tasks of
every kind share actors; a GPU method has its own, so that its model stays loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import MissingError
from bench.execute.interrupt import Interrupt
from bench.execute.reaper import Reaper
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import Lane, Outcome, Task
from bench.spec import Cause
from bench.store.files import StoreFull

_GRACE = 30.0  # seconds: for running tasks after Ctrl-C, and past a task's own limit before its worker is killed


@dataclass(slots=True)
class _Hand:
    """An actor and what it is doing."""

    actor: Any
    lane: Lane
    task: Task | None = None
    reference: Any = None
    deadline: float = 0.0


def run_on_ray(
    scheduler: Scheduler,
    home: Path,
    weights: Path | None,
    observe: Callable[[Task, Outcome], None],
    interrupt: Interrupt,
    address: str | None = None,
    workers: int | None = None,
) -> None:
    """Run tasks on a cluster until none is left or a stop was asked for.

    Args:
        scheduler: what to do.
        home, weights: folders every node sees under the same path.
        observe: called after every task.
        interrupt: asked about once a second.
        address: of a running cluster, or None to start Ray on this machine.
        workers: CPUs to use on this machine; None for all.

    Raises:
        StoreFull: the disk is full.
        MissingError: the cluster cannot be reached.
    """
    with _cluster(address, workers) as ray:
        pool = _Pool(ray, home, weights)
        try:
            _loop(ray, pool, scheduler, observe, interrupt)
        finally:
            pool.close()


def _loop(
    ray: Any,
    pool: _Pool,
    scheduler: Scheduler,
    observe: Callable[[Task, Outcome], None],
    interrupt: Interrupt,
) -> None:
    stop_by: float | None = None
    while not scheduler.finished:
        if interrupt.requested and stop_by is None:
            stop_by = time.monotonic() + _GRACE
        if stop_by is None:
            _dispatch(pool, scheduler, observe)
        elif not pool.busy or time.monotonic() > stop_by:
            return
        if not pool.busy:
            continue
        ready, _ = ray.wait([hand.reference for hand in pool.busy], num_returns=1, timeout=1.0)
        for hand in [h for h in pool.busy if h.reference in ready]:
            task, outcome = pool.collect(hand)
            if outcome.status == "fatal":
                raise StoreFull(outcome.detail)
            scheduler.settle(task, outcome)
            observe(task, outcome)
        for hand in [h for h in pool.busy if time.monotonic() > h.deadline]:
            task = pool.kill(hand)
            outcome = Outcome("error", Cause.TIMEOUT, f"took longer than {task.limit:g} s; its worker was stopped")
            scheduler.settle(task, outcome)
            observe(task, outcome)


def _dispatch(pool: _Pool, scheduler: Scheduler, observe: Callable[[Task, Outcome], None]) -> None:
    for lane in list(scheduler.waiting):
        if not pool.fits_at_all(lane):
            task = scheduler.take(lane)
            if task is not None:
                needs = f"{lane.cpus} CPUs and {lane.gpus:g} GPUs"
                outcome = Outcome("error", Cause.ENVIRONMENT, f"needs {needs}; the cluster has {pool.capacity}")
                scheduler.settle(task, outcome)
                observe(task, outcome)
            continue
        while (hand := pool.free(lane, scheduler.waiting)) is not None:
            task = scheduler.take(lane)
            if task is None:
                break
            pool.submit(hand, task)


class _Pool:
    """Actors by lane, within what the cluster has."""

    def __init__(self, ray: Any, home: Path, weights: Path | None) -> None:
        self._ray = ray
        self._home = home
        self._weights = weights
        self._hands: list[_Hand] = []
        resources = ray.cluster_resources()
        self._cpus = int(resources.get("CPU", 1))
        self._gpus = float(resources.get("GPU", 0))
        self._actor = ray.remote(_RayWorker)

    @property
    def capacity(self) -> str:
        """The cluster's size in words."""
        return f"{self._cpus} CPUs and {self._gpus:g} GPUs"

    @property
    def busy(self) -> list[_Hand]:
        """Actors that are working."""
        return [h for h in self._hands if h.task is not None]

    def fits_at_all(self, lane: Lane) -> bool:
        """Tell whether the empty cluster could place a worker of this lane."""
        return lane.cpus <= self._cpus and lane.gpus <= self._gpus

    def free(self, lane: Lane, waiting: dict[Lane, int]) -> _Hand | None:
        """Return an idle actor of a lane, starting one when there is room, or None."""
        if not waiting.get(lane):
            return None
        for hand in self._hands:
            if hand.lane == lane and hand.task is None:
                return hand
        # Idle actors of drained lanes give their place to this one.
        for hand in [h for h in self._hands if h.task is None and not waiting.get(h.lane)]:
            if self._has_room(lane):
                break
            self._stop(hand)
        return self._start(lane) if self._has_room(lane) else None

    def submit(self, hand: _Hand, task: Task) -> None:
        """Send a task to an idle actor."""
        hand.task = task
        hand.deadline = time.monotonic() + task.limit + _GRACE
        hand.reference = hand.actor.run.remote(task)

    def collect(self, hand: _Hand) -> tuple[Task, Outcome]:
        """Take the answer of an actor; a dead one is an infrastructure failure."""
        task = hand.task
        assert task is not None
        try:
            outcome = self._ray.get(hand.reference)
        except self._ray.exceptions.OutOfMemoryError as error:
            self._stop(hand)
            return task, Outcome("error", Cause.OOM, str(error))
        except self._ray.exceptions.RayError as error:
            self._stop(hand)
            return task, Outcome("error", Cause.INFRA, f"the worker died: {type(error).__name__}")
        hand.task = hand.reference = None
        return task, outcome

    def kill(self, hand: _Hand) -> Task:
        """Stop an actor that overran its limit; return its task."""
        task = hand.task
        assert task is not None
        self._stop(hand)
        return task

    def close(self) -> None:
        """Stop every actor."""
        for hand in list(self._hands):
            self._stop(hand)

    def _has_room(self, lane: Lane) -> bool:
        cpus = sum(h.lane.cpus for h in self._hands)
        gpus = sum(h.lane.gpus for h in self._hands)
        return cpus + lane.cpus <= self._cpus and gpus + lane.gpus <= self._gpus

    def _start(self, lane: Lane) -> _Hand:
        options: dict[str, Any] = {
            "num_cpus": lane.cpus,
            "num_gpus": lane.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        actor = self._actor.options(**options).remote(self._home, self._weights, lane.cpus, lane.gpus > 0)
        hand = _Hand(actor, lane)
        self._hands.append(hand)
        return hand

    def _stop(self, hand: _Hand) -> None:
        self._hands.remove(hand)
        self._ray.kill(hand.actor, no_restart=True)


class _RayWorker:
    """The actor: a `Worker` with an environment of its own."""

    def __init__(self, home: Path, weights: Path | None, cpus: int, gpu: bool) -> None:
        os.environ["OMP_NUM_THREADS"] = str(cpus)
        if not gpu:
            # Ray leaves the variable unset for actors without a GPU, and they would take GPU 0.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from bench.execute.worker import Worker

        self._worker = Worker(home, weights)

    def run(self, task: Task) -> Outcome:
        """See `bench.execute.worker.Worker.run`."""
        return self._worker.run(task)


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine and stop it afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    if ray.is_initialized():
        yield ray
        return
    # Nothing of Ray started here may outlive this process, not even when it is killed.
    reaper = Reaper() if address is None else None
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        try:
            if address is not None:
                ray.init(address=address, **quiet)
            else:
                # "local" makes a new one even where another user's or an abandoned cluster runs on this
                # machine. Messages are small, so the shared-memory store can be too.
                ray.init(
                    address="local",
                    num_cpus=workers or os.cpu_count() or 1,
                    include_dashboard=False,
                    object_store_memory=200 * 1024**2,
                    **quiet,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise MissingError(
                f"Cannot {'reach the Ray cluster at ' + address if address else 'start Ray'}: {error}",
                "Check --ray-address, or run without a cluster: --executor inline",
            ) from error
        yield ray
    finally:
        ray.shutdown()
        if reaper is not None:
            reaper.close()
