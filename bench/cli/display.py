"""What people see: progress on stderr while a run goes on, small tables on stdout."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bench.core.errors import last_line
from bench.core.printable import printable_json, printable_lines
from bench.execute.tasks import Outcome, Task
from bench.run.flow import Flow


class _Screen(Console):
    """A console that what is printed cannot speak to: texts hold names and messages from outside."""

    def print(self, *things: Any, **options: Any) -> None:
        """Print, each line of a text as `bench.core.printable` gives it."""
        super().print(*(printable_lines(t) if isinstance(t, str) else t for t in things), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the verb: a reader that went away (head, less) is no error."""
        raise BrokenPipeError


def _width() -> int | None:
    """Nothing is cut for a file or a pipe, unless COLUMNS asks for it."""
    return None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _UNLIMITED


_UNLIMITED = 100_000
# Without markup: file names and messages from outside may contain square brackets.
errors = _Screen(stderr=True, highlight=False, markup=False)
output = _Screen(highlight=False, markup=False, width=_width())


_LOG_EVERY = 30  # seconds between lines of progress where no bar can be drawn


class RunProgress:
    """A bar for clips, one for scores and one for set metrics; in a log, a line every half minute."""

    def __init__(self) -> None:
        self._progress = _bar()
        self._flow: Flow | None = None
        self._clips: Any = None
        self._scores: Any = None
        self._sets: Any = None
        self._seen: Counter[str] = Counter()
        self._ended = threading.Event()

    def start(self, flow: Flow, running: Callable[[], Sequence[Task]]) -> None:
        """Begin to draw."""
        self._flow = flow
        self._progress.now = Now(running)
        self._progress.start()
        self._clips = self._progress.add_task("clips", total=flow.clips)
        self._scores = self._progress.add_task("scores", total=len(flow.plan.jobs))
        self._progress.update(self._clips, completed=len(flow.generated))
        self._progress.update(self._scores, completed=flow.settled)
        sets = len(set(flow.plan.cells)) * len(flow.set_metrics)
        self._sets = self._progress.add_task("set metrics", total=sets, completed=len(flow.sets), visible=sets > 0)
        if not errors.is_terminal:
            threading.Thread(target=self._log, daemon=True).start()

    def _log(self) -> None:
        """Write how far it is into a log where no bar can be drawn, also while one job takes its time."""
        for second in itertools.count(1):
            if self._ended.wait(1.0):
                return
            running = self._progress.now()  # asked often, since it counts from when it first sees a job
            if second % _LOG_EVERY == 0:
                done = (f"{t.description} {t.completed:g}/{t.total:g}" for t in self._progress.tasks if t.visible)
                errors.print("; ".join(filter(None, (", ".join(done), running))), soft_wrap=True)

    def settled(self, task: Task, outcome: Outcome) -> None:
        """Advance the bar of the task's kind and print a line for a failure."""
        if task.kind in ("generate", "batch", "ingest"):
            self._progress.advance(self._clips, len(outcome.records))
            for record in (r for r in outcome.records.values() if r["status"] != "ok"):
                self._complain(f"{task.title}: {last_line(record['detail'])}")
        elif task.kind == "set" and outcome.status == "ok":
            self._progress.advance(self._sets)
        if self._flow is not None:
            self._progress.update(self._scores, completed=self._flow.settled)
        if outcome.status == "error":
            self._complain(f"{task.title}: {outcome.cause}: {last_line(outcome.detail)}")

    def notice(self, text: str) -> None:
        """Print a sentence about the cluster."""
        self._progress.console.print(f"! {text}", soft_wrap=True)

    def stop(self) -> None:
        """Stop drawing."""
        self._ended.set()
        self._progress.stop()

    def _complain(self, line: str) -> None:
        self._seen[line] += 1
        if self._seen[line] <= 3:
            self._progress.console.print(f"! {line}", soft_wrap=True)


class Now:
    """Names what is being done and for how long: one line, asked for as often as the screen is drawn."""

    def __init__(self, running: Callable[[], Sequence[Task]] = tuple) -> None:
        self._running = running
        self._since: dict[str, float] = {}

    def __call__(self) -> str:
        """Return the line; empty while nothing runs."""
        tasks = {task.title: task for task in self._running()}
        now = time.monotonic()
        self._since = {title: self._since.get(title, now) for title in tasks}
        if not tasks:
            return ""
        oldest = next(iter(tasks))
        rest = f", and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        return printable_lines(f"now {oldest} for {now - self._since[oldest]:.0f} s{rest}")


class _Bars(Progress):
    """Bars with a line beneath that names the running job."""

    now = Now()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if line := self.now():
            yield Text(line, style="dim", no_wrap=True, overflow="ellipsis")


def _bar() -> _Bars:
    """Return a progress bar with counts and the time left, on stderr."""
    return _Bars(
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=errors,
    )


class StepProgress:
    """A bar for one countable piece of work; called with (done, total)."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._progress = _bar()
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar; it starts with the first call and ends when everything is done."""
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(self._label, total=total)
        self._progress.update(self._task, completed=done, total=total)
        if done >= total:
            self._progress.stop()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a small table on stdout."""
    if title:
        output.print(title, soft_wrap=True)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        drawn.add_column(column, overflow="fold", no_wrap=number == 0)  # names are there to be copied
    for row in rows:
        drawn.add_row(*map(printable_lines, row))
    output.print(drawn)


def emit_json(value: Any) -> None:
    """Print JSON on stdout."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)
    sys.stdout.write(printable_json(text) + "\n")
