"""The executor on Ray: Ray places workers and notices their death; we account.

All retries are off in Ray and on in the scheduler. Messages carry keys and paths, never frames. CPU tasks of
every kind share actors; a GPU method has its own, so that its model stays loaded.
"""

from __future__ import annotations

import math
import os
import platform
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import numerics
from bench.core.errors import MissingError
from bench.core.spec import Cause
from bench.execute import ray_token
from bench.execute.interrupt import Interrupt
from bench.execute.reaper import Reaper
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import Lane, Outcome, Task
from bench.store.home import Home

_LOOK_EVERY = 5.0  # seconds between questions about the cluster's nodes
_GRACE = 30.0  # seconds: for running tasks after Ctrl-C, and past a task's own limit before its worker is killed

_Size = tuple[int, float]  # CPUs and GPUs of a node


@dataclass(slots=True)
class _Hand:
    """An actor and what it is doing."""

    actor: Any
    lane: Lane
    node: str
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
        workers: CPUs to use; None for all.

    Raises:
        StoreFull: the disk is full.
        MissingError: the cluster cannot be reached, or a node lacks the store or the package.
    """
    with connected(address, workers) as ray, Home(home).blobs.scratch(".run") as marker:
        marker.touch()
        pool = _Pool(ray, home, weights, marker, workers)
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
            if not scheduler.finished:
                time.sleep(1.0)  # no node has room now; one may come back
            continue
        ready, _ = ray.wait([hand.reference for hand in pool.busy], num_returns=1, timeout=1.0)
        for hand in [h for h in pool.busy if h.reference in ready]:
            task, outcome = pool.collect(hand)
            if outcome.error is not None:
                raise outcome.error
            scheduler.settle(task, outcome)
            observe(task, outcome)
        for hand in [h for h in pool.busy if time.monotonic() > h.deadline]:
            task = pool.kill(hand)
            outcome = Outcome("error", Cause.TIMEOUT, f"took longer than {task.limit:g} s; its worker was stopped")
            scheduler.settle(task, outcome)
            observe(task, outcome)


def _dispatch(pool: _Pool, scheduler: Scheduler, observe: Callable[[Task, Outcome], None]) -> None:
    pool.look()
    for lane in scheduler.ready:
        if not pool.fits_at_all(lane):
            while (task := scheduler.take(lane)) is not None:
                needs = f"{lane.cpus} CPUs and {lane.gpus:g} GPUs on one node"
                outcome = Outcome("error", Cause.ENVIRONMENT, f"needs {needs}; the cluster has {pool.capacity}")
                scheduler.settle(task, outcome)
                observe(task, outcome)
        while lane in scheduler.ready and (hand := pool.free(lane, scheduler.ready)) is not None:
            task = scheduler.take(lane)
            assert task is not None, "the lane is ready"
            pool.submit(hand, task)


class _Pool:
    """Actors by lane, each on a node with room for it.

    We choose the nodes ourselves: an actor that Ray cannot place waits without a word, and what a whole cluster
    has free may not be free on any one node.
    """

    def __init__(
        self, ray: Any, home: Path, weights: Path | None, marker: Path, workers: int | None = None
    ) -> None:
        self._ray = ray
        self._home = home
        self._weights = weights
        self._marker = marker
        self._limit = workers or math.inf
        self._hands: list[_Hand] = []
        self._nodes: dict[str, _Size] = {}
        self._sizes: set[_Size] = set()  # of every node seen so far: one that left may come back
        self._looked = -math.inf
        self._actor = ray.remote(_RayWorker)

    def look(self) -> None:
        """Learn, every few seconds, which nodes there are."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self._nodes = {
                node["NodeID"]: (int(node["Resources"].get("CPU", 0)), float(node["Resources"].get("GPU", 0)))
                for node in self._ray.nodes()
                if node["Alive"]
            }
            self._sizes |= set(self._nodes.values())

    @property
    def capacity(self) -> str:
        """The sizes of the cluster's nodes in words."""
        return " or ".join(f"{cpus} CPUs and {gpus:g} GPUs" for cpus, gpus in sorted(self._sizes))

    @property
    def busy(self) -> list[_Hand]:
        """Actors that are working."""
        return [h for h in self._hands if h.task is not None]

    def fits_at_all(self, lane: Lane) -> bool:
        """Tell whether a node could hold a worker of this lane if nothing else were there."""
        return any(lane.cpus <= min(cpus, self._limit) and lane.gpus <= gpus for cpus, gpus in self._sizes)

    def free(self, lane: Lane, ready: list[Lane]) -> _Hand | None:
        """Return an idle actor of a lane, starting one when there is room, or None."""
        for hand in self._hands:
            if hand.lane == lane and hand.task is None:
                return hand
        # Idle actors of lanes without work give their place to this one.
        for hand in [h for h in self._hands if h.task is None and h.lane not in ready]:
            if self._node_with_room(lane) is not None:
                break
            self._stop(hand)
        node = self._node_with_room(lane)
        return None if node is None else self._start(lane, node)

    def submit(self, hand: _Hand, task: Task) -> None:
        """Send a task to an idle actor."""
        hand.task = task
        hand.deadline = time.monotonic() + task.limit + _GRACE
        hand.reference = hand.actor.run.remote(task)

    def collect(self, hand: _Hand) -> tuple[Task, Outcome]:
        """Take the answer of an actor; a dead one is an infrastructure failure.

        Raises:
            MissingError: workers cannot be started.
        """
        task = hand.task
        assert task is not None
        errors = self._ray.exceptions
        try:
            outcome = self._ray.get(hand.reference)
        except errors.RayError as error:
            self._stop(hand)
            self._looked = -math.inf  # its node may be gone
            if isinstance(error, errors.RayActorError) and error.actor_init_failed:
                raise MissingError(
                    f"A worker cannot be started: {str(error).strip().splitlines()[-1]}",
                    "On a cluster, see what each node lacks: bench doctor --cluster ADDRESS",
                ) from error
            if isinstance(error, errors.OutOfMemoryError):
                return task, Outcome("error", Cause.OOM, str(error))
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

    def _node_with_room(self, lane: Lane) -> str | None:
        """Return the emptiest node that has what a worker of this lane needs."""
        used_cpus: Counter[str] = Counter()
        used_gpus: dict[str, float] = defaultdict(float)
        if lane.cpus + sum(hand.lane.cpus for hand in self._hands) > self._limit:
            return None
        for hand in self._hands:
            used_cpus[hand.node] += hand.lane.cpus
            used_gpus[hand.node] += hand.lane.gpus
        fitting = [
            (cpus - used_cpus[node], node)
            for node, (cpus, gpus) in self._nodes.items()
            if used_cpus[node] + lane.cpus <= cpus and used_gpus[node] + lane.gpus <= gpus
        ]
        return max(fitting)[1] if fitting else None

    def _start(self, lane: Lane, node: str) -> _Hand:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {
            "num_cpus": lane.cpus,
            "num_gpus": lane.gpus,
            "runtime_env": {"env_vars": dict(numerics.ENVIRONMENT)},  # before the node loads numpy
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        actor = self._actor.options(**options).remote(self._home, self._weights, lane.gpus > 0, self._marker)
        hand = _Hand(actor, lane, node)
        self._hands.append(hand)
        return hand

    def _stop(self, hand: _Hand) -> None:
        self._hands.remove(hand)
        self._ray.kill(hand.actor, no_restart=True)


class _RayWorker:
    """The actor: a `Worker` with an environment of its own."""

    def __init__(self, home: Path, weights: Path | None, gpu: bool, marker: Path) -> None:
        if not marker.exists():
            # Its results would be lost on a disk of its own.
            raise MissingError(f"node {platform.node()} does not see {home}; --home must be a shared folder")
        ray_token.hide()
        if not gpu:
            # Ray leaves the variable unset for actors without a GPU, and they would take GPU 0.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from bench.execute.worker import Worker

        self._worker = Worker(home, weights)

    def run(self, task: Task) -> Outcome:
        """See `bench.execute.worker.Worker.run`."""
        return self._worker.run(task)


def _require_listener(address: str) -> None:
    """Refuse an address that nobody answers at: Ray itself would try for minutes.

    Raises:
        MissingError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise MissingError(
            f"No Ray cluster answers at {address}: {error.strerror or error}.",
            "Start one there (ray start --head --port PORT), check --ray-address, or use --executor inline",
        ) from error


@contextmanager
def connected(address: str | None, workers: int | None = None) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine and stop it afterwards; yields the `ray` module.

    Raises:
        MissingError: it cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        _require_listener(address)
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False, "logging_level": "ERROR"}
    with ExitStack() as stack:
        if address is not None:
            ray_token.user_token()
            ray_token.require_accepted(address)
        else:
            # Nothing of Ray started here may outlive this process, not even when it is killed.
            stack.callback(Reaper().close)
            stack.enter_context(ray_token.own_token())
        stack.callback(ray.shutdown)
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
                ray_token.hide()
        except Exception as error:  # Ray raises that very class when a node takes too long to start
            if address is not None:
                ray_token.require_accepted(str(error))
            raise MissingError(
                f"Cannot {'reach the Ray cluster at ' + address if address else 'start Ray'}: {error}",
                "Check --ray-address, or run without a cluster: --executor inline",
            ) from error
        yield ray
