"""The real scheduler and pool on simulated clusters: 64 and 512 nodes with 8 GPUs each, as discrete events.

Nothing sleeps: the clock jumps to the next event. Nodes die, one attempt in two hundred takes four times as
long as it should, four methods and the metric networks share the GPUs. Printed: virtual hours until the last GPU
task; the lower bound of that time, see `lower_bound`; their ratio; where the rest of the GPUs' time went; and the
driver's processor time.

The scheduler's constants were chosen on 16 and 64 nodes with `TUNING` seeds; what is printed has others.

Run alone: `python -m pytest -m performance -s tests/performance/test_cluster_scale.py`.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

from bench.core.spec import AUDIO, Sample
from bench.execute.cluster import Event, Hand, Node
from bench.execute.interrupt import Interrupt
from bench.execute.pool import Pool
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import METRICS, ClipRef, GenerateTask, Lane, Outcome, ScoreTask, Task

pytestmark = pytest.mark.performance

CPUS, GPUS = 64, 8
LOAD, LOAD_METRICS = 45.0, 10.0  # virtual seconds until a new worker has loaded what it needs
PLACED = 5.0  # virtual seconds until a new worker says where it is; it loads the rest with its first task
METHODS = {"fast": 20.0, "medium": 45.0, "slow": 120.0, "large": 300.0}  # GPU seconds per clip
METRIC = Lane(METRICS, 1, 1.0)
TUNING = (101, 102, 103)
REPORTED = (1, 2)


class Simulated:
    """A cluster of equal nodes whose tasks take what a seeded draw says."""

    def __init__(self, nodes: int, losses: int, horizon: float, seed: int) -> None:
        self._draw = random.Random(seed)
        self._clock = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._sequence = 0
        self._nodes = {f"n{i}": Node(f"n{i}", f"n{i}", CPUS, GPUS, CPUS, GPUS) for i in range(nodes)}
        self._on: dict[str, dict[Hand, None]] = defaultdict(dict)
        self._free = {True: dict.fromkeys(self._nodes), False: dict.fromkeys(self._nodes)}  # with GPUs, with CPUs
        self._queue: list[Hand] = []
        self._where: dict[Hand, str] = {}
        self._began: dict[Hand, float] = {}
        self._unloaded: dict[Hand, float] = {}  # seconds that a worker's first task takes longer
        self._own: dict[str, float] = {}  # by how much a task is longer than expected, whoever does it
        doomed = self._draw.sample(sorted(self._nodes), losses)
        self._losses = sorted((self._draw.uniform(0.1, 0.9) * horizon, name) for name in doomed)
        self.gpu_seconds = 0.0  # of finished tasks
        self.metric_seconds = 0.0  # of these, of metric networks
        self.lost = 0.0  # GPU seconds of work that went down with its node
        self.doubled = 0.0  # of work that another worker was faster with
        self.loading = 0.0
        self.longest = 0.0  # seconds of one task

    def now(self) -> float:
        return self._clock

    def nodes(self) -> Iterable[Node]:
        return [
            Node(n.id, n.name, n.cpus, n.gpus, n.free_cpus, n.free_gpus, n.draining) for n in self._nodes.values()
        ]

    def start(self, hand: Hand, avoid: Collection[str]) -> None:
        self._queue.append(hand)
        self._place()

    def submit(self, hand: Hand, task: Task, ahead: Task | None) -> None:
        seconds = task.cost * self._own.setdefault(task.key, self._draw.lognormvariate(0.0, 0.25))
        if self._draw.random() < 0.005:
            seconds *= 4  # a straggler
        self._began[hand] = self._clock
        records = {task.key: {"status": "ok"}}
        seconds += self._unloaded.get(hand, 0.0)
        self._post(seconds, Event(hand, outcome=Outcome("ok", records=records, seconds=seconds)))

    def wait(self, seconds: float) -> Iterable[Event]:
        until = self._clock + seconds
        if self._losses and (not self._events or self._losses[0][0] <= self._events[0][0]):
            self._clock, name = self._losses.pop(0)
            return self._lose(name)
        if not self._events:
            self._clock = until
            return []
        self._clock, _, event = heapq.heappop(self._events)
        found = [event]
        while self._events and self._events[0][0] == self._clock:
            found.append(heapq.heappop(self._events)[-1])
        for one in found:
            if one.outcome is not None and one.hand in self._began:
                self._began.pop(one.hand)
                seconds = one.outcome.seconds - self._unloaded.pop(one.hand, 0.0)
                self.gpu_seconds += seconds * one.hand.lane.gpus
                self.metric_seconds += seconds * (one.hand.lane.name == METRICS)
                self.longest = max(self.longest, seconds)
        return found

    def stop(self, hand: Hand) -> None:
        if hand in self._began:  # somebody else has done its task
            self.doubled += (self._clock - self._began.pop(hand)) * hand.lane.gpus
        if hand in self._queue:
            self._queue.remove(hand)
        name = self._where.pop(hand, "")
        if name in self._nodes:
            del self._on[name][hand]
            self._nodes[name].free_cpus += hand.lane.cpus
            self._nodes[name].free_gpus += hand.lane.gpus
            self._free[True][name] = self._free[False][name] = None
        self._place()

    def demand(self, lanes: Mapping[Lane, int]) -> None:
        """The cluster has a fixed size."""

    def patience(self, empty: bool) -> float:
        return 0.0

    def _post(self, after: float, event: Event) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self._clock + after, self._sequence, event))

    def _place(self) -> None:
        for hand in list(self._queue):
            free = self._free[hand.lane.gpus > 0]
            node = next((n for name in free if (n := self._nodes[name]).room(hand.lane)), None)
            if node is None:
                continue
            self._queue.remove(hand)
            node.free_cpus -= hand.lane.cpus
            node.free_gpus -= hand.lane.gpus
            for gpus, left in ((True, node.free_gpus), (False, node.free_cpus)):
                if left < 1:
                    self._free[gpus].pop(node.id, None)
            self._on[node.id][hand] = None
            self._where[hand] = node.id
            ready = LOAD_METRICS if hand.lane.name == METRICS else LOAD
            self.loading += ready * hand.lane.gpus
            self._unloaded[hand] = ready - PLACED
            self._post(PLACED, Event(hand, node=node.id))

    def _lose(self, name: str) -> list[Event]:
        del self._nodes[name]
        for free in self._free.values():
            free.pop(name, None)
        hands = self._on.pop(name)
        self._events = [e for e in self._events if e[-1].hand not in hands]
        heapq.heapify(self._events)
        self.lost += sum((self._clock - self._began.pop(h)) * h.lane.gpus for h in hands if h in self._began)
        return [Event(hand, lost=f"node {name} died") for hand in hands]


def clips(count: int) -> list[GenerateTask]:
    draw, tasks = random.Random(0), []
    for method, seconds in METHODS.items():
        lane = Lane(method, 4, 1.0)
        for i in range(count):
            sample = Sample("d", "s", f"s{i}", "i", Path("a.png"), None, None, None, 100)
            cost = seconds * draw.uniform(0.6, 1.4)
            key = f"{method}-{i}"
            tasks.append(GenerateTask(key, method, "x:y", sample, None, AUDIO, 0, 0, {}, lane, cost))
    return tasks


def follow(task: Task, outcome: Outcome | None) -> list[Task]:
    """A clip is scored on a GPU and then on a CPU."""
    if isinstance(task, GenerateTask):
        clip = ClipRef(task.key, Path("c.mp4"))
        return [ScoreTask(f"{task.key}-gpu", clip, None, (), lane=METRIC, cost=2.0)]
    if isinstance(task, ScoreTask) and task.lane is METRIC:
        return [ScoreTask(task.key.removesuffix("-gpu"), task.clip, None, (), cost=8.0)]
    return []


def lower_bound(cluster: Simulated, gpus: int, deaths: Collection[float]) -> float:
    """Return a time before which no scheduler could have done the finished GPU tasks, even knowing all draws.

    What went down with nodes is not in it: who knows when they die begins nothing there that would be lost.
    Every GPU that does anything loads something first: a method, unless it does nothing but metrics, and of those
    there is no use for more than their work fills. GPUs of dead nodes offer nothing after their death. And the
    longest task takes as long as it takes.
    """
    bound = 0.0
    for _ in range(100):  # both corrections depend on the bound itself
        scoring = min(float(gpus), cluster.metric_seconds / max(1.0, bound - LOAD_METRICS))
        loading = LOAD * (gpus - scoring) + LOAD_METRICS * scoring
        gone = sum(max(0.0, bound - died) * GPUS for died in deaths)
        bound = (cluster.gpu_seconds + loading + gone) / gpus
    return max(bound, cluster.longest + LOAD_METRICS)


@pytest.mark.parametrize(("nodes", "losses", "each", "seed"), [
    (64, 3, 3_000, REPORTED[0]),
    (64, 3, 3_000, REPORTED[1]),
    (512, 12, 24_000, REPORTED[0]),
], ids=["64", "64-again", "512"])  # fmt: skip
def test_a_simulated_cluster_is_kept_busy(nodes: int, losses: int, each: int, seed: int) -> None:
    tasks = clips(each)
    expected = sum(t.cost + 2.0 for t in tasks) / (nodes * GPUS)
    cluster = Simulated(nodes, losses, expected, seed)
    done: dict[str, int] = defaultdict(int)
    last_gpu = 0.0

    def observe(task: Task, outcome: Outcome) -> None:
        nonlocal last_gpu
        done[outcome.status] += 1
        if task.lane.gpus and outcome.status == "ok":
            last_gpu = cluster.now()

    scheduler = Scheduler(tasks, follow)
    start, deaths = time.process_time(), list(cluster._losses)
    Pool(cluster, scheduler, observe).run(Interrupt())
    used = time.process_time() - start
    gpus = nodes * GPUS
    bound = lower_bound(cluster, gpus, [died for died, _ in deaths])
    there = gpus * last_gpu - sum(max(0.0, last_gpu - died) * GPUS for died, _ in deaths)
    spent = {
        "work": cluster.gpu_seconds,
        "loading": cluster.loading,
        "begun twice": cluster.doubled,
        "lost with its node": cluster.lost,
    }
    spent["idle"] = there - sum(spent.values())
    print(
        f"\n  {nodes} nodes x {GPUS} GPUs, {done['ok']} tasks, {losses} nodes lost: last GPU task after"
        f" {last_gpu / 3600:.3f} h, lower bound {bound / 3600:.3f} h: {100 * bound / last_gpu:.1f} %."
        f"\n  The GPUs' time: {', '.join(f'{what} {100 * t / there:.1f} %' for what, t in spent.items())};"
        f" {1000 * used / done['ok']:.2f} ms of processor per task"
    )
    assert done["ok"] == 3 * len(tasks) and not scheduler.failures
    assert bound / last_gpu > 0.94
