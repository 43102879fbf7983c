"""How long things take in this run: tasks, against what was expected of them, and making a worker ready."""

from __future__ import annotations

from collections import defaultdict

from bench.execute.cluster import Hand
from bench.execute.tasks import Lane, Outcome, Task

LOADING = 45.0  # seconds assumed for making a worker ready, until some were


class Pace:
    """Means over what finished so far, by lane."""

    def __init__(self) -> None:
        self._taken: dict[Lane, float] = defaultdict(float)  # seconds, of all but the first task of each worker
        self._planned: dict[Lane, float] = defaultdict(float)  # what was expected of these
        self._loading: dict[Lane, tuple[float, int]] = {}

    def note(self, hand: Hand, task: Task, outcome: Outcome) -> None:
        """Take in a finished task of a worker; its first one also loads what the others find loaded."""
        if not outcome.seconds:  # another run had done it
            return
        if hand.warm:
            self._taken[hand.lane] += outcome.seconds
            self._planned[hand.lane] += task.cost
        elif (expected := self.expected(task)) is not None:
            seconds, count = self._loading.get(hand.lane, (LOADING, 1))
            took = hand.since - hand.asked + outcome.seconds - expected
            self._loading[hand.lane] = seconds + took, count + 1
        hand.warm = True

    def expected(self, task: Task) -> float | None:
        """Return the seconds a task should take on a worker that is ready; None: too early to say."""
        planned = self._planned[task.lane]
        return task.cost * self._taken[task.lane] / planned if planned else None

    def loading(self, lane: Lane) -> float:
        """Return the seconds until a new worker of a lane does something."""
        seconds, count = self._loading.get(lane, (LOADING, 1))
        return max(0.0, seconds / count)
