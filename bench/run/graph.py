"""A graph of steps and the records they make, and the one rule by which it advances.

After ninja's two nouns (a thing that may exist; what makes it from what), with keys that are known only once the
inputs are: a clip's scores are named by the clip's content. Pure bookkeeping over records.

The rule: a step whose needs are settled looks for its records. If all are there it is settled. Otherwise steps
that its work reads from, or that make the same records already, come first; then its task is handed out, and it is
settled when the task is done or given up on. Whatever waits for it looks again. Readiness, resuming and giving up
follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import ClassVar

from bench.execute.scheduler import task_name
from bench.execute.tasks import Task
from bench.store.records import Kind, Record, Records


class State(Enum):
    """How far a step is."""

    WAITING = 1  # a step it needs is not settled
    HELD = 2  # records are missing, and what its task reads is being made
    RUNNING = 3  # its task was handed out
    SETTLED = 4  # its records are there, or will not be in this run


class Step(ABC):
    """What makes records of one kind in one task.

    Attributes:
        kind: of its records.
        state: see `State`.
        users: steps that wait for it.
        waits: number of unsettled steps it waits for.
    """

    kind: ClassVar[Kind]
    __slots__ = ("state", "users", "waits")

    def __init__(self) -> None:
        self.state = State.WAITING
        self.users: list[Step] = []
        self.waits = 0

    @property
    def settled(self) -> bool:
        """Its records are there, or will not be in this run."""
        return self.state is State.SETTLED

    @property
    def looks(self) -> bool:
        """Whether a record in the store will do."""
        return True

    @abstractmethod
    def wanted(self) -> Sequence[str]:
        """Return the keys of its records; asked once its needs are settled. Empty: there is nothing to make."""

    def reads(self, missing: Sequence[str]) -> Iterable[Step]:
        """Return steps to settle before the task, which would otherwise do their work itself."""
        return ()

    def closed(self) -> None:  # noqa: B027  most steps have nothing to do
        """Called when it is settled."""

    @abstractmethod
    def task(self, missing: Sequence[str]) -> Task:
        """Return the task that makes the records of these keys."""


class Graph:
    """Steps, and the records that are there.

    Args:
        store: where records are looked up.
        records: those found or made, by kind and key; filled here.
        counting: returns those of the records found there that are ones to go by.
    """

    def __init__(
        self,
        store: Records,
        records: dict[Kind, dict[str, Record]],
        counting: Callable[[Mapping[str, Record]], dict[str, Record]],
    ) -> None:
        self._store = store
        self._counting = counting
        self._running: dict[str, tuple[Step, list[str]]] = {}
        self._makers: dict[tuple[Kind, str], Step] = {}  # of records that are being made, each by one step
        self.records = records

    def link(self, step: Step, needs: Iterable[Step]) -> None:
        """Let a step wait until others are settled."""
        for need in needs:
            if not need.settled:
                need.users.append(step)
                step.waits += 1

    def advance(self, steps: Iterable[Step], look: bool = True) -> list[Task]:
        """Let steps, and then whatever waits for them, go as far as they can; return tasks to do now.

        Args:
            steps: those that may have become ready.
            look: whether the store is asked for their records.
        """
        tasks: list[Task] = []
        wave: Iterable[Step] = steps
        while ready := [s for s in wave if not s.waits and s.state in (State.WAITING, State.HELD)]:
            following: dict[Step, None] = {}
            for step, missing in self._look(ready, look):
                if not missing:
                    following.update(dict.fromkeys(self._close(step)))
                    continue
                first = [self._makers[step.kind, k] for k in missing if (step.kind, k) in self._makers]
                if step.state is State.WAITING:
                    first += [s for s in step.reads(missing) if not s.settled]
                if first:
                    step.state = State.HELD
                    self.link(step, dict.fromkeys(first))
                    following.update(dict.fromkeys(first))
                else:
                    step.state = State.RUNNING
                    task = step.task(missing)
                    self._running[task_name(task)] = step, missing
                    self._makers.update(((step.kind, key), step) for key in missing)
                    tasks.append(task)
            wave = following
        return tasks

    def settle(self, task: Task, records: Mapping[str, Record]) -> list[Task]:
        """Take in what a task made (nothing when it was given up on); return tasks that became possible."""
        step, missing = self._running.pop(task_name(task))
        self.records[step.kind].update(records)
        for key in missing:
            del self._makers[step.kind, key]
        # A round trip to an object store for every task would hold up all workers; there, they look themselves.
        return self.advance(self._close(step), look=self._store.near)

    def _look(self, steps: Sequence[Step], look: bool) -> Iterable[tuple[Step, list[str]]]:
        """Return each step with the keys of its records that are not there; the store is asked once per kind."""
        keys = {step: step.wanted() for step in steps}
        for kind, known in self.records.items():
            unknown = [k for s in steps if look and s.kind == kind and s.looks for k in keys[s] if k not in known]
            found = self._store.read(kind, dict.fromkeys(unknown)) if unknown else {}
            known.update(self._counting(found))
        for step in steps:
            yield step, [key for key in keys[step] if key not in self.records[step.kind]]

    def _close(self, step: Step) -> list[Step]:
        step.state = State.SETTLED
        step.closed()
        users, step.users = step.users, []
        for user in users:
            user.waits -= 1
        return users
