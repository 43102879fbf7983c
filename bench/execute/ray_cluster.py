"""The executor on Ray: Ray places workers and notices their death; we account.

All retries are off in Ray and on in the scheduler. Messages carry keys and paths, never frames. CPU tasks of
every kind share actors; a GPU method has its own, so that its model stays loaded. An actor does its tasks in a
child process (see `bench.execute.child`), so that a crash says what it was.
"""

from __future__ import annotations

import math
import os
import pickle
import platform
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from bench.core.errors import BenchError
from bench.core.keys import package_digest
from bench.core.spec import Cause
from bench.execute import ray_token
from bench.execute.cluster import Event, Hand, HeadLost, Node
from bench.execute.interrupt import Interrupt
from bench.execute.pool import Pool
from bench.execute.ray_meter import Meter
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import Lane, Outcome, Task
from bench.store.home import Home
from bench.store.travel import Luggage

_HEAD_GRACE = 30.0  # seconds the head may be silent
_PATIENCE = 60.0  # seconds a cluster of fixed size may take to get a node that is large enough
_SILENT = 20.0  # seconds after which a worker that is at work is spoken to
_SANDBOX = "BENCH_SANDBOX"  # see `bench.systems.sandbox`
_SCALING = 1800.0  # the same for a cluster that says it starts nodes when they are needed


def run_on_ray(
    ray: Any,
    scheduler: Scheduler,
    home: Home,
    weights: Path | None,
    observe: Callable[[Task, Outcome], None],
    interrupt: Interrupt,
    own: bool = False,
    workers: int | None = None,
    notice: Callable[[str], None] = lambda text: None,
    inputs: Iterable[Any] = (),
) -> None:
    """Run tasks on a cluster until none is left or a stop was asked for.

    Args:
        ray: what `connected` yields.
        scheduler: what to do.
        home: the store, which every node sees: a folder under the same path, or a bucket.
        weights: folder searched first for weight files, under the same path on every node.
        observe: called after every task.
        interrupt: asked about once a second.
        own: see `RayCluster`.
        workers: CPUs to use; None for all.
        notice: told what a user should know while it goes on.
        inputs: samples and tasks that name the files all tasks begin with.

    Raises:
        StoreFull: the disk is full.
        MissingError: a node lacks the store or the package, and there is no other.
        HeadLost: the cluster's head no longer answers.
    """
    with home.witness() as marker:
        cluster = RayCluster(ray, home, weights, marker, own, inputs)
        meter = None if own else Meter(scheduler, cluster.name, observe)
        pool = Pool(cluster, scheduler, meter.settled if meter else observe, notice, workers or math.inf)
        try:
            pool.run(interrupt)
        finally:
            if meter:
                meter.look()
            if not cluster.head_lost:
                pool.close()
                cluster.demand({})


def gpus_of(ray: Any) -> float:
    """Return the number of GPUs that the cluster has now."""
    return float(ray.cluster_resources().get("GPU", 0.0))


class RayCluster:
    """Ray as `bench.execute.pool.Cluster`.

    Args:
        ray: the module, connected.
        home, weights: see `run_on_ray`.
        marker: name of a file that shows a node that it sees our store, see `Home.witness`.
        own: this process started it for itself, so that no more nodes will come.
        inputs: see `run_on_ray`.

    Attributes:
        name: what the names of its workers begin with.
        head_lost: it no longer answers, so it is not to be asked for anything more.
    """

    def __init__(
        self, ray: Any, home: Home, weights: Path | None, marker: str, own: bool, inputs: Iterable[Any] = ()
    ) -> None:
        self._ray = ray
        self._own = own
        run = uuid.uuid4().hex
        self._arguments = (home.address, weights, marker, package_digest(), os.environ.get(_SANDBOX, ""), run)
        self._luggage = Luggage(home.storage)
        if not own:
            self._luggage.pack(inputs)
        self._actor = ray.remote(_RayWorker)
        self.name = f"bench-{run[:6]}"
        self._count = 0
        self._waits: dict[Any, Hand] = {}  # references, of workers that start or work
        self._spoken: dict[Hand, tuple[float, Any]] = {}  # to workers that work: when, and what they may answer
        self._answers: SimpleQueue[tuple[Any, Future[Any]]] = SimpleQueue()  # put there by a thread of Ray's
        self._later: list[tuple[Hand, Collection[str]]] = []  # workers to start when the head answers again
        self._demand: Any = None
        self._scales = _scales(ray)
        host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
        self._head = (host, int(port))
        self._heard = self._asked = time.monotonic()
        self.head_lost = False
        self._nodes: list[Node] = []  # as they were when the head last answered

    def now(self) -> float:
        """See `Cluster.now`."""
        return time.monotonic()

    def nodes(self) -> Iterable[Node]:
        """See `Cluster.nodes`."""
        if self._head_answers():  # a question to a head that is silent would not come back
            self._nodes = list(self._found())
        return self._nodes

    def _found(self) -> Iterator[Node]:
        from ray._private import state

        free = state.available_resources_per_node()
        draining = state.state.get_draining_nodes()
        for node in self._ray.nodes():
            if node["Alive"]:
                key, has = node["NodeID"], node["Resources"]
                left = free.get(key, {})
                yield Node(
                    key,
                    node["NodeManagerHostname"],
                    cpus=has.get("CPU", 0.0),
                    gpus=has.get("GPU", 0.0),
                    free_cpus=left.get("CPU", 0.0),
                    free_gpus=left.get("GPU", 0.0),
                    draining=key in draining,
                )

    def start(self, hand: Hand, avoid: Collection[str]) -> None:
        """See `Cluster.start`."""
        if not self._head_answers():  # Ray would ask for the name, and wait for an answer
            self._later.append((hand, avoid))
            return
        lane = hand.lane
        self._count += 1
        options: dict[str, Any] = {
            "name": f"{self.name}-{lane.name}-{self._count}",
            "num_cpus": lane.cpus,
            "num_gpus": lane.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 2,  # it answers while it works
            "scheduling_strategy": "SPREAD",
            "resources": dict(lane.resources),
        }
        if lane.memory_gb:
            options["memory"] = int(lane.memory_gb * 2**30)
        if lane.accelerator:
            options["accelerator_type"] = lane.accelerator
        labels = dict(lane.labels)
        if avoid:
            labels["ray.io/node-id"] = f"!in({','.join(sorted(avoid))})"
        if labels:
            options["label_selector"] = labels
        try:
            hand.handle = self._actor.options(**options).remote(*self._arguments, lane)
        except self._ray.exceptions.RayError as error:
            if not self._head_answers():
                raise self._lost() from error
            raise HeadLost(
                f"The Ray cluster makes no worker: {error}",
                "Check that all nodes reach each other, and type the same command: finished results are kept.",
            ) from error
        self._expect(hand.handle.hello.remote(), hand)

    def submit(self, hand: Hand, task: Task, ahead: Task | None) -> None:
        """See `Cluster.submit`."""
        if not self._own:
            task, ahead = self._luggage.away(task), self._luggage.away(ahead)
        # Ray would pickle in Python, for objects that only Python functions can make; these are plain.
        self._expect(hand.handle.run.remote(pickle.dumps((task, ahead))), hand)
        self._spoken[hand] = time.monotonic(), None

    def _expect(self, reference: Any, hand: Hand) -> None:
        # `ray.wait` looks at every reference every time, which takes too long with thousands of workers.
        self._waits[reference] = hand
        reference.future().add_done_callback(lambda future: self._answers.put((reference, future)))

    def wait(self, seconds: float) -> Iterable[Event]:
        """See `Cluster.wait`.

        Raises:
            HeadLost: nobody answers there.
        """
        if not self.head_lost and (now := time.monotonic()) - self._asked >= 5.0:
            self._asked = now
            self._require_head()
            self._speak(now)
            later, self._later = self._later, []
            for hand, avoid in later:
                self.start(hand, avoid)
        events: list[Event] = []
        until = time.monotonic() + seconds
        while not events and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                events += self._event(*self._answers.get(timeout=left))
        with suppress(Empty):
            while True:
                events += self._event(*self._answers.get_nowait())
        return events

    def stop(self, hand: Hand) -> None:
        """See `Cluster.stop`."""
        for reference in [r for r, other in self._waits.items() if other is hand]:
            del self._waits[reference]
        self._spoken.pop(hand, None)
        self._later = [(other, avoid) for other, avoid in self._later if other is not hand]
        if hand.handle is not None:  # Ray may have refused to make it
            self._ray.kill(hand.handle, no_restart=True)

    def demand(self, lanes: Mapping[Lane, int]) -> None:
        """See `Cluster.demand`; reaches the autoscaler of a cluster that has one."""
        if not self._scales:
            return
        bundles: list[dict[str, float]] = []
        for lane, count in lanes.items():
            bundle = {"CPU": float(lane.cpus), **dict(lane.resources)}
            bundle |= {"GPU": lane.gpus} if lane.gpus else {}
            bundles += [bundle] * min(count, 1000)
        if bundles != self._demand:
            from ray.autoscaler.sdk import request_resources

            self._demand = bundles
            request_resources(bundles=bundles)

    def patience(self, empty: bool) -> float:
        """See `Cluster.patience`."""
        if self._own:
            return 0.0
        if empty:
            return math.inf
        return _SCALING if self._scales else _PATIENCE

    def _event(self, reference: Any, future: Future[Any]) -> list[Event]:
        hand = self._waits.pop(reference, None)
        if hand is None:  # it was stopped
            return []
        self._spoken.pop(hand, None)
        errors = self._ray.exceptions
        try:
            answer = future.result()
        except errors.OutOfMemoryError as error:
            return [Event(hand, lost=str(error), cause=Cause.OOM)]
        except errors.RayError as error:
            detail = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            if isinstance(error, errors.ActorUnschedulableError):
                return [Event(hand, lost=f"Ray cannot place its worker: {detail}", cause=Cause.ENVIRONMENT)]
            return [Event(hand, lost=f"its worker was lost ({type(error).__name__}: {detail})")]
        if isinstance(answer, bytes):
            return [Event(hand, outcome=pickle.loads(answer))]
        node, problem = answer
        return [Event(hand, refused=problem, on=node) if problem else Event(hand, node=node)]

    def _speak(self, now: float) -> None:
        """Speak to workers that are at work for long.

        When a link was down for a while, one side may have closed a connection that the other still waits at; only
        who sends something learns of it. Ray does so after five minutes. It then reports the task as lost.
        """
        for hand, (when, answer) in self._spoken.items():
            if now - when < _SILENT:
                continue
            if answer is not None and self._ray.wait([answer], timeout=0)[0]:
                with suppress(self._ray.exceptions.RayError):  # the task's own reference has it too
                    self._ray.get(answer)
            self._spoken[hand] = now, hand.handle.hello.remote()

    def _require_head(self) -> None:
        if not self._head_answers() and time.monotonic() - self._heard > _HEAD_GRACE:
            raise self._lost()

    def _lost(self) -> HeadLost:
        self.head_lost = True
        return HeadLost(
            f"The head of the Ray cluster at {self._head[0]}:{self._head[1]} no longer answers.",
            "Finished results are kept: start the cluster again and type the same command.",
        )

    def _head_answers(self) -> bool:
        try:
            socket.create_connection(self._head, timeout=3.0).close()
        except OSError:
            return False
        self._heard = time.monotonic()
        return True


def _scales(ray: Any) -> bool:
    """Tell whether the cluster starts nodes when they are needed."""
    from ray._private import state

    try:
        return bool(state.state.get_cluster_config().node_group_configs)
    except Exception:  # an older cluster, or one without an autoscaler, has nothing to say
        return False


class _RayWorker:
    """The actor: watches over the process that does the work."""

    def __init__(
        self, address: str, weights: Path | None, marker: str, code: str, closed: str, run: str, lane: Lane
    ) -> None:
        ray_token.hide()
        os.environ[_SANDBOX] = closed  # what the user asked for, on whatever node this is
        if not lane.gpus:
            # Ray leaves the variable unset for actors without a GPU, and they would take GPU 0.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._problem = _problem_here(address, marker, code)
        if not self._problem:
            from bench.execute.child import Child

            log = Home(address).logs / "workers" / f"{platform.node()}-{lane.name}.log"
            self._child = Child(address, weights, log, run)

    def hello(self) -> tuple[str, str]:
        """Return this worker's node, and why it cannot work there if so."""
        import ray

        return ray.get_runtime_context().get_node_id(), self._problem

    def run(self, packed: bytes) -> bytes:
        """Take and return what `bench.execute.worker.Worker.run` does, pickled."""
        task, ahead = pickle.loads(packed)
        return pickle.dumps(self._child.run(task, ahead))


def _problem_here(address: str, marker: str, code: str) -> str:
    """Return why this machine cannot work for a run, or nothing."""
    node = f"node {platform.node()}"
    if (found := package_digest()) != code:
        return f"{node} has another version of this program (code {found[:12]}, here {code[:12]})"
    try:
        home = Home(address)
        if not home.sees(marker):  # its results would be lost on a disk of its own
            return f"{node} does not see {address}; --home must be a shared folder, or a bucket"
        if not home.storage.near:
            home.ready()  # its cache of the bucket
    except BenchError as error:
        return f"{node}: {error.message} {error.hint}"
    return ""
