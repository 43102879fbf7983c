"""What runs workers, as far as `bench.execute.pool` knows it: a real cluster or a simulated one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bench.core.errors import BenchError
from bench.core.spec import Cause
from bench.execute.tasks import Lane, Outcome, Task


class HeadLost(BenchError):
    """The cluster's head is gone. Finished results are in the store."""


@dataclass(slots=True)
class Node:
    """A machine of the cluster; what is free changes as workers come and go, ours and others'."""

    id: str
    name: str
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float
    draining: bool = False

    def room(self, lane: Lane, more_cpus: float = 0.0, more_gpus: float = 0.0) -> bool:
        """Tell whether a worker fits now, or would with more set free."""
        return lane.cpus <= self.free_cpus + more_cpus and lane.gpus <= self.free_gpus + more_gpus + 1e-9


@dataclass(slots=True, eq=False)
class Hand:
    """A worker, placed or waiting to be, and what it does.

    Attributes:
        handle: what the cluster knows it by.
        node: where it is, empty while it waits for room.
        task: what it does.
        ahead: what it will do next and prepares already.
        deadline: when the task has overrun its limit.
        asked: when it was asked for, and there was room.
        since: when it was placed.
        began: when it was given its task.
        warm: it has done something, so that what it needs is loaded.
        twin: another worker that does the same task; the first answer counts.
    """

    lane: Lane
    handle: Any = None
    node: str = ""
    task: Task | None = None
    ahead: Task | None = None
    deadline: float = math.inf
    asked: float = 0.0
    since: float = 0.0
    began: float = 0.0
    warm: bool = False
    twin: Hand | None = None

    def part(self) -> Hand | None:
        """Let this worker and its twin know nothing of each other; return the twin."""
        twin, self.twin = self.twin, None
        if twin is not None:
            twin.twin = None
        return twin


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a worker.

    Attributes:
        node: it was placed there.
        outcome: it did its task.
        refused, on: why it could not begin, and on which node.
        lost, cause: otherwise: how it was lost.
    """

    hand: Hand
    node: str = ""
    outcome: Outcome | None = None
    refused: str = ""
    on: str = ""
    lost: str = ""
    cause: Cause = Cause.INFRA


class Cluster(Protocol):
    """What runs workers."""

    def now(self) -> float:
        """Return seconds on the cluster's clock."""

    def nodes(self) -> Iterable[Node]:
        """Return the nodes that are alive."""

    def start(self, hand: Hand, avoid: Collection[str]) -> None:
        """Ask for a worker; it is placed when there is room on a node not to be avoided."""

    def submit(self, hand: Hand, task: Task, ahead: Task | None) -> None:
        """Send a task to a placed worker."""

    def wait(self, seconds: float) -> Iterable[Event]:
        """Wait until something happened, at most so long."""

    def stop(self, hand: Hand) -> None:
        """End a worker at once."""

    def demand(self, lanes: Mapping[Lane, int]) -> None:
        """Say how many workers of each lane there would be work for."""

    def patience(self, empty: bool) -> float:
        """Return for how many seconds a node may be waited for that could hold a worker.

        Args:
            empty: there has been no node at all.
        """
