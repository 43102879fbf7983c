"""Workers of a cluster that exists only here: what it is asked for, and that everything gets done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

from bench.core.spec import AUDIO, Cause, Sample
from bench.execute.cluster import Event, Hand, HeadLost, Node
from bench.execute.interrupt import Interrupt
from bench.execute.pool import Pool
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import METRICS, ClipRef, GenerateTask, Lane, Outcome, ScoreTask, Task

METRIC = Lane(METRICS, 1, 1.0)


class OneNode:
    """A node whose tasks take what they are expected to."""

    def __init__(self, gpus: float) -> None:
        self.gpus = gpus
        self.clock = 0.0
        self.node = Node("n", "n", 64, gpus, 64, gpus)
        self.events: list[tuple[float, Event]] = []
        self.queue: list[Hand] = []
        self.there: list[Hand] = []
        self.loads: list[str] = []
        self.rivals = 0  # most workers that waited for a place at one time

    def now(self) -> float:
        return self.clock

    def nodes(self) -> Iterable[Node]:
        n = self.node
        return [Node(n.id, n.name, n.cpus, n.gpus, n.free_cpus, n.free_gpus)]

    def start(self, hand: Hand, avoid: Collection[str]) -> None:
        self.queue.append(hand)
        self.place()
        self.rivals = max(self.rivals, len(self.queue))

    def place(self) -> None:
        for hand in list(self.queue):
            if self.node.room(hand.lane):
                self.queue.remove(hand)
                self.there.append(hand)
                self.loads.append(hand.lane.name)
                self.node.free_cpus -= hand.lane.cpus
                self.node.free_gpus -= hand.lane.gpus
                self.events.append((self.clock + 5, Event(hand, node="n")))

    def submit(self, hand: Hand, task: Task, ahead: Task | None) -> None:
        outcome = Outcome("ok", records={task.key: {"status": "ok"}}, seconds=task.cost)
        self.events.append((self.clock + task.cost, Event(hand, outcome=outcome)))

    def wait(self, seconds: float) -> Iterable[Event]:
        assert self.clock < 1e5, "the run does not end"
        self.events.sort(key=lambda e: e[0])
        if not self.events or self.events[0][0] > self.clock + seconds:
            self.clock += seconds
            return []
        self.clock, event = self.events.pop(0)
        return [event]

    def stop(self, hand: Hand) -> None:
        self.events = [e for e in self.events if e[1].hand is not hand]
        if hand in self.queue:
            self.queue.remove(hand)
        if hand in self.there:
            self.there.remove(hand)
            self.node.free_cpus += hand.lane.cpus
            self.node.free_gpus += hand.lane.gpus
        self.place()

    def demand(self, lanes: Mapping[Lane, int]) -> None: ...

    def patience(self, empty: bool) -> float:
        return 0.0


def score(key: str) -> ScoreTask:
    return ScoreTask(key, ClipRef(key, Path("c.mp4")), None, (), lane=METRIC, cost=2.0)


def clips(method: str, count: int, seconds: float) -> list[GenerateTask]:
    sample = Sample("d", "s", "s", "i", Path("a.png"), None, None, None, 100)
    lane = Lane(method, 4, 1.0)
    return [
        GenerateTask(f"{method}{i}", method, "x:y", sample, None, AUDIO, 0, 0, {}, lane, seconds)
        for i in range(count)
    ]


def run(cluster: OneNode, tasks: Iterable[Task]) -> Scheduler:
    scheduler = Scheduler(tasks, lambda task, outcome: ())
    Pool(cluster, scheduler, lambda task, outcome: None).run(Interrupt())
    return scheduler


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_what_a_worker_knows_to_be_next_is_done_also_when_it_is_the_last(count: int) -> None:
    scheduler = run(OneNode(2), [score(f"s{i}") for i in range(count)])
    assert scheduler.finished and not scheduler.failures


def test_methods_share_gpus_without_loading_for_each_clip() -> None:
    cluster = OneNode(2)
    scheduler = run(cluster, [*clips("a", 30, 60.0), *clips("b", 30, 20.0), *clips("c", 10, 300.0)])
    assert scheduler.finished and not scheduler.failures
    assert set(cluster.loads) == {"a", "b", "c"} and len(cluster.loads) <= 12
    assert cluster.rivals == 1, "a place that is left goes to the lane it was left for"
    busy = (30 * 60 + 30 * 20 + 10 * 300) / 2
    assert cluster.clock <= 1.08 * busy


@pytest.mark.parametrize("node_dies", [False, True])
def test_a_clip_that_takes_too_long_is_begun_again_and_counts_once(node_dies: bool) -> None:
    class OneSlow(OneNode):
        attempts = 0

        def submit(self, hand: Hand, task: Task, ahead: Task | None) -> None:
            super().submit(hand, task, ahead)
            if task.key == "a0":
                self.attempts += 1
                if self.attempts == 1:
                    died = Event(hand, lost="it was unplugged")
                    self.events[-1] = (
                        (self.clock + 1180, died) if node_dies else (self.clock + 2000, self.events[-1][1])
                    )

    cluster, settled = OneSlow(2), []
    scheduler = Scheduler(clips("a", 20, 60.0), lambda task, outcome: ())
    Pool(cluster, scheduler, lambda task, outcome: settled.append(task.key)).run(Interrupt())
    assert scheduler.finished and not scheduler.failures
    assert cluster.attempts == 2 and sorted(settled) == sorted(f"a{i}" for i in range(20))
    assert cluster.clock < 1400, "the slow attempt is not waited for"


def test_a_cluster_that_makes_no_worker_ends_the_run_with_its_reason() -> None:
    class Broken(OneNode):
        def place(self) -> None:
            while self.queue:
                hand = self.queue.pop()
                self.events.append((self.clock, Event(hand, lost="no such image", cause=Cause.INFRA)))

    with pytest.raises(HeadLost, match="no such image"):
        run(Broken(2), clips("a", 3, 10.0))


def test_a_bare_head_is_no_node_that_is_too_small() -> None:
    """Where only a head without CPUs is there, nodes are still to come, and are waited for as long as it takes."""

    class Late(OneNode):
        def nodes(self) -> Iterable[Node]:
            head = Node("head", "head", 0, 0, 0, 0)
            return [head, *super().nodes()] if self.clock > 500 else [head]

        def patience(self, empty: bool) -> float:
            return 1e4 if empty else 60.0

    cluster = Late(1)
    scheduler = run(cluster, clips("a", 3, 10.0))
    assert scheduler.finished and not scheduler.failures and cluster.clock > 500
