"""Which task runs next, and what happens when one fails. Pure: no clocks, no processes, no files."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from bench.core.errors import last_line
from bench.core.spec import Cause
from bench.execute.tasks import BatchTask, GenerateTask, Lane, Outcome, Task

# Tries in all, per cause. Input and method errors are results and are recorded by the worker.
TRIES = {
    Cause.INFRA: 4,
    Cause.OOM: 2,
    Cause.CRASH: 2,
    Cause.TIMEOUT: 2,
    Cause.ENVIRONMENT: 1,
    Cause.INPUT: 1,
    Cause.METHOD: 1,
}
QUARANTINE_AFTER = 3
ASK_EVERY = 2.0  # seconds between questions about what another run does

# Scores come before new clips: numbers appear early, and a clip is scored while it is in the page cache.
_RANK = {"feature": 0, "set": 1, "score": 2, "ingest": 3, "prepare": 3, "generate": 4, "batch": 4}


@dataclass(frozen=True, slots=True)
class Failure:
    """A task given up on. Not a result: nothing was recorded, so the next run tries again."""

    task: Task
    cause: Cause
    detail: str
    tries: int


class Scheduler:
    """Order tasks, retry them by cause, and stop a method that cannot be set up.

    Args:
        tasks: what can be done at once.
        follow: called once for every settled task, with its outcome or with None when it was given up on;
            returns the tasks that became possible.
    """

    def __init__(self, tasks: Iterable[Task], follow: Callable[[Task, Outcome | None], Iterable[Task]]) -> None:
        self._follow = follow
        self._queues: dict[Lane, list[tuple[int, str, float, int, Task]]] = defaultdict(list)
        self._costs: dict[Lane, float] = defaultdict(float)  # of what is in the queues
        self._shortest: dict[Lane, float] = {}
        self._alone: list[Task] = []
        self.deferred: list[Task] = []  # another run does them now
        self._exclusive: str | None = None
        self._running: dict[str, Task] = {}
        self._again: set[str] = set()  # running, and in a queue a second time
        self._tries: Counter[str] = Counter()
        self._setup_failures: Counter[str] = Counter()
        self._quarantined: dict[str, str] = {}
        self._sequence = 0
        self.failures: list[Failure] = []
        self._submit(tasks)

    @property
    def running(self) -> list[Task]:
        """Tasks handed out and not settled yet, the oldest first."""
        return list(self._running.values())

    @property
    def waiting(self) -> int:
        """Number of tasks not handed out yet."""
        return sum(map(len, self._queues.values())) + len(self._alone) + len(self.deferred)

    @property
    def ready(self) -> list[Lane]:
        """Lanes that `take` has a task for now, the most demanding first.

        A worker with a GPU would otherwise find its CPU taken by workers that need none. After a task ran out of
        memory nothing new is ready until the running ones are done, then only that task's lane.
        """
        if self._exclusive is not None or (self._alone and self._running):
            return []
        lanes = [self._alone[0].lane] if self._alone else [lane for lane, queue in self._queues.items() if queue]
        return sorted(lanes, key=lambda lane: (-lane.gpus, -lane.cpus))

    @property
    def finished(self) -> bool:
        """Nothing is running and nothing is waiting."""
        return not self._running and not self.waiting

    def queued(self, lane: Lane) -> int:
        """Number of a lane's tasks that wait."""
        return len(self._queues[lane])

    def backlog(self, lane: Lane) -> float:
        """Expected seconds of a lane's waiting tasks on one worker."""
        return max(0.0, self._costs[lane])

    def shortest(self, lane: Lane) -> float:
        """Expected seconds of the shortest task of a lane so far."""
        return self._shortest.get(lane, 0.0)

    def take(self, lane: Lane, without: Collection[str] = ()) -> Task | None:
        """Hand out the next task of a lane, or None when there is none to run now, see `ready`.

        Args:
            lane: of the worker that asks.
            without: methods that this worker should not be given.
        """
        if lane not in self.ready:
            return None
        if self._alone:
            task = self._alone.pop(0)
            self._exclusive = task_name(task)
        else:
            queue, passed = self._queues[lane], []
            while queue and queue[0][1] in without:
                passed.append(heapq.heappop(queue))
            entry = heapq.heappop(queue) if queue else None
            for other in passed:
                heapq.heappush(queue, other)
            if entry is None:
                return None
            task = entry[-1]
            self._costs[lane] -= task.cost
        name = task_name(task)
        self._tries[name] += name not in self._again
        self._again.discard(name)
        self._running[name] = task
        return task

    def peek(self, lane: Lane) -> Task | None:
        """Return what `take` would hand out next, or None."""
        if lane not in self.ready:
            return None
        return self._alone[0] if self._alone else self._queues[lane][0][-1]

    def double(self, task: Task) -> None:
        """Queue a running task once more: it takes suspiciously long, and the first of two workers may win."""
        self._again.add(task_name(task))
        self._push(task)

    def put_back(self, task: Task, where: Callable[[Task], None] | None = None) -> None:
        """Take a task back that was handed out and not begun, or whose failure says nothing about it."""
        name = self._end(task)
        self._tries[name] -= 1
        if self._exclusive == name:
            self._exclusive = None
            self._alone.insert(0, task)
        else:
            (where or self._push)(task)

    def defer(self, task: Task) -> None:
        """Take a task back that another run does now: its result may soon be there."""
        self.put_back(task, self.deferred.append)

    def recall(self) -> None:
        """Queue what was deferred again."""
        tasks, self.deferred[:] = list(self.deferred), []
        for task in tasks:
            self._push(task)

    def settle(self, task: Task, outcome: Outcome) -> None:
        """Take a worker's outcome: queue what follows, or the task again, or give up on it."""
        name = self._end(task)
        if self._exclusive == name:
            self._exclusive = None
        if outcome.status == "ok":
            if isinstance(task, GenerateTask):
                self._setup_failures[task.method] = 0
            self._submit(self._follow(task, outcome))
            return
        if isinstance(task, BatchTask):  # its clips are made one by one, and each fails for itself
            self._submit(self._follow(task, None))
            return
        cause = outcome.cause or Cause.INFRA
        again = self._tries[name] < TRIES[cause]
        if isinstance(task, GenerateTask) and (cause is Cause.ENVIRONMENT or (cause is Cause.CRASH and not again)):
            self._setup_failures[task.method] += 1
            if self._setup_failures[task.method] >= QUARANTINE_AFTER:
                self._quarantine(task.method, outcome.detail)
                self._give_up(task, cause, outcome.detail)
                return
        if again:
            if cause is Cause.OOM:
                self._alone.append(task)
            else:
                self._push(task)
            return
        self._give_up(task, cause, outcome.detail)

    def _end(self, task: Task) -> str:
        """Take a task out of those that run, and what it was queued once more for; return its name."""
        name = task_name(task)
        self._running.pop(name, None)
        if name in self._again:
            self._again.discard(name)
            self._queues[task.lane] = [e for e in self._queues[task.lane] if e[-1] is not task]
            self._costs[task.lane] -= task.cost
            heapq.heapify(self._queues[task.lane])
        return name

    def _submit(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            reason = self._quarantined.get(task.method) if isinstance(task, GenerateTask) else None
            if reason is None:
                self._push(task)
            else:
                self._give_up(task, Cause.ENVIRONMENT, reason)

    def _push(self, task: Task) -> None:
        self._sequence += 1
        group = task.method if isinstance(task, GenerateTask) else ""
        entry = (_RANK[task.kind], group, -task.cost, self._sequence, task)
        heapq.heappush(self._queues[task.lane], entry)
        self._costs[task.lane] += task.cost
        self._shortest[task.lane] = min(task.cost, self._shortest.get(task.lane, task.cost))

    def _quarantine(self, method: str, detail: str) -> None:
        reason = f"not tried: {method} failed {QUARANTINE_AFTER} times in a row: {last_line(detail)}"
        self._quarantined[method] = reason
        for lane, queue in self._queues.items():
            stopped = [e for e in queue if e[1] == method]
            if stopped:
                self._queues[lane] = [e for e in queue if e[1] != method]
                self._costs[lane] -= sum(e[-1].cost for e in stopped)
                heapq.heapify(self._queues[lane])
                for entry in sorted(stopped):
                    self._give_up(entry[-1], Cause.ENVIRONMENT, reason)

    def _give_up(self, task: Task, cause: Cause, detail: str) -> None:
        self.failures.append(Failure(task, cause, detail, self._tries[task_name(task)]))
        self._submit(self._follow(task, None))


class OtherRuns:
    """Asks now and then what became of the tasks that other runs on the same home do.

    Args:
        scheduler: has such tasks deferred.
        notice: told once that they are waited for.
    """

    def __init__(self, scheduler: Scheduler, notice: Callable[[str], None]) -> None:
        self._scheduler, self._notice = scheduler, notice
        self._asked = -math.inf
        self._said = False

    def wait(self, now: float) -> None:
        """Queue deferred tasks again, where it is time to; called when nothing else can be begun.

        Args:
            now: seconds on any clock.
        """
        count = len(self._scheduler.deferred)
        if not count or now - self._asked < ASK_EVERY:
            return
        if not self._said:
            self._said = True
            self._notice(f"Another run on this home makes the last {count} clips; waiting for them.")
        self._asked = now
        self._scheduler.recall()


def task_name(task: Task) -> str:
    """Return the task's name, unique within a run."""
    return f"{task.kind}:{task.key}"
