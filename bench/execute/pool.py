"""Which workers a cluster should have, and which task each of them does next. The cluster places them.

Nothing here knows Ray or looks at a clock of its own: the same code drives a simulated `Cluster`.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection

from bench.core.errors import MissingError, last_line
from bench.core.spec import Cause
from bench.execute.cluster import Cluster, Event, Hand, HeadLost, Node
from bench.execute.interrupt import Interrupt
from bench.execute.machines import STRIKES, Machines
from bench.execute.pace import Pace
from bench.execute.scheduler import OtherRuns, Scheduler, task_name
from bench.execute.tasks import METRICS, GenerateTask, Lane, Outcome, Task

LOOK_EVERY = 2.0  # seconds between questions about the cluster's nodes
GRACE = 30.0  # seconds: for running tasks after Ctrl-C, and past a task's own limit before its worker is stopped
AWAITED = 10.0  # seconds after which a worker that is not there has found its place taken
HOLD = 45.0  # seconds that a worker keeps its GPU at least, and that scores may wait
SLOW = 2.0  # times what others of its lane take, after which a clip is begun once more
_STRAGGLE = 3.0  # times the length of a lane's shortest task that its last ones may take, begun again or not


class Pool:
    """Keeps workers busy until everything is done.

    Args:
        cluster: runs workers.
        scheduler: what to do.
        observe: told about every settled task.
        notice: told, in a sentence, about what a user should know.
        limit: CPUs to use in all.
    """

    def __init__(
        self,
        cluster: Cluster,
        scheduler: Scheduler,
        observe: Callable[[Task, Outcome], None],
        notice: Callable[[str], None] = lambda text: None,
        limit: float = math.inf,
    ) -> None:
        self.cluster, self.scheduler = cluster, scheduler
        self.observe, self.notice, self.limit = observe, notice, limit
        self._hands: dict[Hand, None] = {}
        self._idle: dict[Lane, dict[Hand, None]] = defaultdict(dict)
        self._ahead: dict[Lane, dict[Hand, None]] = defaultdict(dict)  # those that know their next task
        self._coming: dict[Hand, None] = {}  # those that are nowhere yet
        self._standing: dict[Hand, None] = {}  # of these, those asked for where there was no room
        self._busy = 0
        self._queued: Counter[Lane] = Counter()  # workers that wait for room
        self._placed: Counter[Lane] = Counter()
        self._used = 0.0  # CPUs
        self._slow: dict[str, Hand] = {}  # by task, who does what is queued once more
        self._pace = Pace()
        self._others = OtherRuns(scheduler, notice)
        self._deadlines: list[tuple[float, int, Hand]] = []
        self._sequence = 0
        self._machines = Machines()
        self._resting: dict[str, dict[Hand, None]] = defaultdict(dict)  # idle workers by node
        self._changed: set[str] = set()  # nodes with workers that became idle since work was given out
        self._homeless: dict[Lane, float] = {}  # since when no node could hold a lane
        self._looked = -math.inf
        self._horizon = {True: 0.0, False: 0.0}  # seconds until all work on GPUs, and on CPUs, could be done
        self._unplaced = 0  # workers lost in a row before they were anywhere

    def run(self, interrupt: Interrupt) -> None:
        """Work until nothing is left, or a stop was asked for and running tasks had their time.

        Raises:
            MissingError: no node can run workers.
            BenchError: what a worker says the whole run must stop for.
        """
        stop_by = math.inf
        while not self.scheduler.finished:
            now = self.cluster.now()
            if interrupt.requested and stop_by == math.inf:
                stop_by = now + GRACE
                self._return_what_is_ahead()
            if stop_by < math.inf and (not self._busy or now > stop_by):
                return
            try:
                self._look(now)
                if stop_by == math.inf:
                    self._dispatch(now)
                events = list(self.cluster.wait(1.0))
            except HeadLost:
                for event in self.cluster.wait(0.0):  # what workers had answered before
                    self._take(event)
                raise
            for event in events:
                self._take(event)
            self._stop_overdue()

    def close(self) -> None:
        """End every worker."""
        for hand in list(self._hands):
            self._drop(hand)

    # --- what there is -------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        machines = self._machines
        machines.look(self.cluster.nodes())
        for hand in [h for h in self._hands if h.node and h.node not in machines.known]:
            self._take(Event(hand, lost=f"node {machines.name(hand.node)} left the cluster"))
        for hand in [h for idle in self._idle.values() for h in idle if machines.known[h.node].draining]:
            self._drop(hand)
        for hand in [h for h in self._coming if h not in self._standing]:
            # What the cluster says is free may not count yet what it was asked for a moment ago.
            if now - hand.asked < 2 * LOOK_EVERY and (node := machines.with_room(hand.lane)) is not None:
                machines.occupy(node, hand.lane)
            elif now - hand.asked > AWAITED:
                self._standing[hand] = None
        self._changed.update(self._resting)
        for gpu in (True, False):
            there = sum(node.gpus if gpu else node.cpus for node in machines.usable)
            work = sum(
                self.scheduler.backlog(o) * (o.gpus or o.cpus) for o in self.scheduler.ready if (o.gpus > 0) == gpu
            )
            self._horizon[gpu] = work / there if there else 0.0
        self._begin_slow_ones_again(now)
        wanted = {lane: self.scheduler.queued(lane) for lane in self.scheduler.ready}
        busy = Counter(hand.lane for hand in self._hands if hand.task is not None)
        self.cluster.demand({lane: wanted.get(lane, 0) + busy[lane] for lane in dict.fromkeys((*wanted, *busy))})

    def _begin_slow_ones_again(self, now: float) -> None:
        """Let a second worker try clips on GPUs that take far longer than others of their lane, when none waits.

        They would hold up the end (backup tasks: Dean and Ghemawat, MapReduce, OSDI 2004, section 3.6).
        """
        doubled = Counter(hand.lane for hand in self._slow.values())
        for hand in [h for h in self._hands if h.lane.gpus and h.twin is None]:
            task, lane = hand.task, hand.lane
            if not isinstance(task, GenerateTask) or self.scheduler.queued(lane) > doubled[lane]:
                continue
            usual = self._pace.expected(task)
            if usual is not None and now - hand.began > SLOW * usual and task_name(task) not in self._slow:
                self._slow[task_name(task)] = hand
                self.scheduler.double(task)
                doubled[lane] += 1

    def _refuse_what_fits_nowhere(self, lane: Lane, now: float) -> bool:
        """Tell whether no node could hold a worker of a lane; after a while its tasks are given up."""
        if self._machines.could_hold(lane):
            self._homeless.pop(lane, None)
            return False
        patience, has = self.cluster.patience(not self._machines.sizes), self._machines.offer
        if lane not in self._homeless:
            self._homeless[lane] = now
            if patience:
                self.notice(f"Waiting for a node with {lane.needs}; the cluster has {has}.")
        if now - self._homeless[lane] < patience:
            return False
        while (task := self.scheduler.take(lane)) is not None:
            detail = f"needs {lane.needs} on one node; the cluster has {has}"
            self._settle(task, Outcome("error", Cause.ENVIRONMENT, detail))
        return True

    # --- giving out work -----------------------------------------------------------------------------------

    def _dispatch(self, now: float) -> None:
        for hand in [h for hands in self._ahead.values() for h in hands if h.task is None]:
            self._give(hand)  # what it knows to be next may be the last of its lane
        for lane in self.scheduler.ready:
            if self._refuse_what_fits_nowhere(lane, now):
                continue
            for hand in list(self._idle[lane]):
                if not self._give(hand):
                    break
        # Lanes with GPUs first; among them the one that is furthest behind, so that all end at the same time.
        open_lanes = {lane for lane in self.scheduler.ready if self._waiting(lane) > 0}
        for first in list(self._standing):  # the cluster gives it what others left
            node = self._machines.with_room(first.lane) or self._make_room(first.lane, self._changed)
            if node is not None:
                self._settle_in(first, node)
        while open_lanes:
            lane = max(open_lanes, key=self._order)
            if self._waiting(lane) <= 0 or not self._allowed(lane):
                open_lanes.remove(lane)
            elif (node := self._machines.with_room(lane)) is not None:
                self._start(lane, node)
            elif self._room_for_next(lane) is None:
                open_lanes -= {other for other in open_lanes if lane.rivals(other)}
        self._changed.clear()
        if not self.scheduler.ready:
            self._others.wait(now)

    def _order(self, lane: Lane) -> tuple[bool, bool, float, float, str]:
        late = self._late(lane)
        return lane.gpus > 0, late > 0, self._tail(lane) if late > 0 else late, lane.gpus, lane.name

    def _room_for_next(self, lane: Lane) -> Node | None:
        """Let a worker wait for the next place of its kind; return a node if one can be made now.

        It is the only one among lanes that could take the same place: the cluster would give it to whichever came
        first, and workers that leave for the sake of one lane would make room for another.
        """
        first = next((h for h in self._standing if lane.rivals(h.lane)), None)
        if first is not None and first.lane != lane and self._ahead_of(lane, first.lane):
            self._drop(first)
            first = None
        if first is not None:
            return None
        for hand in [h for h in self._coming if h.lane.rivals(lane) and not self.scheduler.queued(h.lane)]:
            self._drop(hand)  # nobody needs it, and it would take the place that is made now
        first = self._start(lane, None)
        self._standing[first] = None
        if (node := self._make_room(lane, self._resting)) is not None:
            self._settle_in(first, node)
        return node

    def _settle_in(self, first: Hand, node: Node) -> None:
        """Count a worker that waited where the cluster will place it now."""
        del self._standing[first]
        first.asked = self.cluster.now()
        self._machines.occupy(node, first.lane)

    def _waiting(self, lane: Lane) -> int:
        """Return how many tasks of a lane have no worker in sight, and are worth another one."""
        if lane.gpus and 0 < self._share(lane, 0) <= self._pace.loading(lane):
            return 0
        return self.scheduler.queued(lane) - len(self._idle[lane]) - self._queued[lane]

    def _late(self, lane: Lane, more: int = 1) -> float:
        """Return by how many seconds a lane would end too late with more (or fewer) workers than it will have.

        A task may take several times what is expected, and the last ones of a lane are its shortest: a lane has
        to end that much before everything does, and lanes with short tasks fill the rest. Scores follow clips
        closely: where they wait for more than a minute, they come first.
        """
        share = self._share(lane, more)
        if lane.name == METRICS:
            return math.inf if share > HOLD else -math.inf
        return share - self._horizon[lane.gpus > 0] + self._tail(lane)

    def _tail(self, lane: Lane) -> float:
        return _STRAGGLE * self.scheduler.shortest(lane) if lane.name != METRICS else math.inf

    def _ahead_of(self, lane: Lane, other: Lane, fewer: int = 0) -> bool:
        """Tell whether a lane should rather have a place than another one, which has it or waits for it.

        Args:
            lane, other: of one kind of place.
            fewer: 1 where the other would lose a worker.
        """
        if self._late(lane) <= HOLD:
            return False
        return self._tail(lane) > self._tail(other) or self._late(other, 1 - 2 * fewer) <= 0

    def _share(self, lane: Lane, more: int) -> float:
        """Return the seconds of work that each worker of a lane has before it; infinite without one."""
        standing = sum(hand.lane == lane for hand in self._standing)
        workers = more + self._placed[lane] + self._queued[lane] - standing
        return self.scheduler.backlog(lane) / workers if workers > 0 else math.inf

    def _allowed(self, lane: Lane) -> bool:
        """Tell whether the limit lets another worker start; idle ones without work leave for it."""
        if self._used + lane.cpus <= self.limit:
            return True
        for hand in [h for other, idle in self._idle.items() if not self.scheduler.queued(other) for h in idle]:
            if self._used + lane.cpus <= self.limit:
                break
            self._drop(hand)
        return self._used + lane.cpus <= self.limit or not self._hands

    def _start(self, lane: Lane, node: Node | None) -> Hand:
        hand = Hand(lane, asked=self.cluster.now())
        self._hands[hand] = self._coming[hand] = None
        self._queued[lane] += 1
        self._used += lane.cpus
        if node is not None:
            self._machines.occupy(node, lane)
        self.cluster.start(hand, self._machines.bad)
        return hand

    def _make_room(self, lane: Lane, nodes: Collection[str]) -> Node | None:
        """Stop idle workers without work on one of some nodes, if just that makes room for a worker of a lane."""
        for name in nodes:
            node = self._machines.known.get(name)
            if node is None or self._machines.closed(name):
                continue
            idle = [h for h in self._resting[name] if h.lane != lane and not self.scheduler.queued(h.lane)]
            cpus = gpus = 0.0
            for count, hand in enumerate(idle, 1):
                cpus, gpus = cpus + hand.lane.cpus, gpus + hand.lane.gpus
                if node.room(lane, cpus, gpus):
                    for chosen in idle[:count]:
                        self._drop(chosen)
                    return node
        return None

    def _give(self, hand: Hand) -> bool:
        """Give an idle worker its next task, or its place to another lane; False: it stays idle."""
        if self._machines.closed(hand.node) or self._yields(hand):
            self._drop(hand)
            return True
        task, hand.ahead = hand.ahead, None
        self._ahead[hand.lane].pop(hand, None)
        task = task or self.scheduler.take(hand.lane, self._machines.unfit(hand.node)) or self._steal(hand.lane)
        if task is None:
            return False
        if hand.lane.name == METRICS and (following := self.scheduler.take(hand.lane)) is not None:
            hand.ahead = following
            self._ahead[hand.lane][hand] = None
        hand.task, hand.began = task, self.cluster.now()
        if (other := self._slow.pop(task_name(task), None)) is not None:
            hand.twin, other.twin = other, hand
        hand.deadline = hand.began + task.limit + GRACE
        self._sequence += 1
        heapq.heappush(self._deadlines, (hand.deadline, self._sequence, hand))
        self._idle[hand.lane].pop(hand, None)
        self._resting[hand.node].pop(hand, None)
        self._busy += 1
        self.cluster.submit(hand, task, hand.ahead)
        return True

    def _steal(self, lane: Lane) -> Task | None:
        """Take what another worker of the lane would do next: it is busy still."""
        for other in self._ahead[lane]:
            task, other.ahead = other.ahead, None
            del self._ahead[lane][other]
            return task
        return None

    def _yields(self, hand: Hand) -> bool:
        """Tell whether a worker should leave its place to one of another lane that waits for room.

        A worker on a CPU leaves it to one that needs a GPU, for a GPU must not stand idle. Workers on GPUs change
        places only when the other lane is far behind, because loading a model costs.
        """
        node = self._machines.known.get(hand.node)
        if node is None or any(other.lane == hand.lane for other in self._slow.values()):
            return False
        for lane in {waiting.lane: None for waiting in self._standing}:
            if lane == hand.lane or node.room(lane) or not node.room(lane, hand.lane.cpus, hand.lane.gpus):
                continue
            if lane.gpus > hand.lane.gpus == 0:
                return True
            if not hand.lane.gpus or hand.lane.name == METRICS or self.cluster.now() - hand.since <= HOLD:
                continue
            if self._ahead_of(lane, hand.lane, 1):
                return True
        return False

    # --- what became of it ---------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        hand = event.hand
        if hand not in self._hands:
            return
        if event.node:
            self._unplaced = 0
            self._standing.pop(hand, None)
            self._coming.pop(hand, None)
            hand.node, hand.since = event.node, self.cluster.now()
            self._queued[hand.lane] -= 1
            self._placed[hand.lane] += 1
            self._rest(hand)
        elif event.outcome is not None:
            task, hand.task = hand.task, None
            assert task is not None, "only a worker with a task answers"
            self._busy -= 1
            self._rest(hand)
            if (twin := hand.part()) is not None:
                if event.outcome.status == "error":
                    return  # the other one may do better
                self._drop(twin)
            self._judge(hand, task, event.outcome)
        elif event.refused:
            self._drop(hand)
            self._set_aside(event.on, event.refused)
        else:
            task, node = hand.task if hand.twin is None else None, hand.node
            self._drop(hand)
            self._looked = -math.inf
            if task is not None:
                self._settle(task, Outcome("error", event.cause, event.lost))
            if node:
                self._machines.strike(node)
                if node in self._machines.known and self._machines.out(node):
                    self._set_aside(node, event.lost)
            else:
                self._count_unplaced(event.lost)

    def _rest(self, hand: Hand) -> None:
        self._idle[hand.lane][hand] = self._resting[hand.node][hand] = None
        self._changed.add(hand.node)

    def _count_unplaced(self, why: str) -> None:
        """Count workers that were lost in a row before they were anywhere.

        Raises:
            HeadLost: there were too many for an accident.
        """
        self._unplaced += 1
        if self._unplaced > STRIKES * (1 + len(self._machines.known)):
            raise HeadLost(
                f"The cluster makes no worker: {why}",
                "Finished results are kept. See what its nodes lack (bench doctor --cluster ADDRESS), then type"
                " the same command again.",
            )

    def _judge(self, hand: Hand, task: Task, outcome: Outcome) -> None:
        if outcome.error is not None:
            raise outcome.error
        if outcome.status == "claimed":
            self.scheduler.defer(task)
            return
        if isinstance(task, GenerateTask) and outcome.cause is Cause.ENVIRONMENT:
            failed = self._machines.failed[task.method]
            failed.add(hand.node)
            if self._machines.good[task.method] - {hand.node}:
                self._set_aside(hand.node, f"{task.method} works elsewhere: {last_line(outcome.detail)}")
            if self._machines.elsewhere(failed):
                self._slow.pop(task_name(task), None)
                self.scheduler.put_back(task)
                return
        elif outcome.status == "ok":
            self._machines.praise(hand.node)
            self._pace.note(hand, task, outcome)
            if isinstance(task, GenerateTask):
                self._machines.good[task.method].add(hand.node)
        self._settle(task, outcome)

    def _settle(self, task: Task, outcome: Outcome) -> None:
        self._slow.pop(task_name(task), None)
        self.scheduler.settle(task, outcome)
        self.observe(task, outcome)

    def _set_aside(self, node: str, why: str) -> None:
        """Use a node no more.

        Raises:
            MissingError: it was the last one, and no worker could begin there.
        """
        machines = self._machines
        if node in machines.bad:
            return
        if not machines.elsewhere({node}):
            if machines.out(node):  # what fails there are the tasks themselves
                return
            raise MissingError(
                f"A worker cannot be started: {why}",
                "On a cluster, see what each node lacks: bench doctor --cluster ADDRESS",
            )
        machines.set_aside(node, why)
        self.notice(f"Node {machines.name(node)} is set aside, the others go on: {why}")
        for hand in [h for h in self._hands if h.node == node and h.task is None]:
            self._drop(hand)

    def _stop_overdue(self) -> None:
        now = self.cluster.now()
        while self._deadlines and self._deadlines[0][0] < now:
            deadline, _, hand = heapq.heappop(self._deadlines)
            if hand not in self._hands or hand.task is None or hand.deadline != deadline:
                continue
            task, twin = hand.task, hand.twin
            self._drop(hand)
            if twin is None:
                detail = f"took longer than {task.limit:g} s; its worker was stopped"
                self._settle(task, Outcome("error", Cause.TIMEOUT, detail))

    def _drop(self, hand: Hand) -> None:
        """End a worker; what it would have done next goes back."""
        hand.part()
        if self._hands.pop(hand, hand) is hand:
            return
        self._machines.release(hand.node, hand.lane)
        self._used -= hand.lane.cpus
        self._busy -= hand.task is not None
        (self._placed if hand.node else self._queued)[hand.lane] -= 1
        for known in (self._standing, self._coming, self._idle[hand.lane], self._resting[hand.node]):
            known.pop(hand, None)
        self._ahead[hand.lane].pop(hand, None)
        if hand.ahead is not None:
            self.scheduler.put_back(hand.ahead)
        self.cluster.stop(hand)

    def _return_what_is_ahead(self) -> None:
        for hand in [h for hands in self._ahead.values() for h in hands]:
            assert hand.ahead is not None
            self.scheduler.put_back(hand.ahead)
            hand.ahead = None
        self._ahead.clear()
