"""Walking candidates until a data set's list is full, on the executor of `bench run`."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.keys import digest
from bench.data.candidates import Candidate
from bench.data.declared import Dataset
from bench.data.folder import safe_id
from bench.data.normalise import VERSION, Job, Media, Refused, Tools
from bench.data.preparation import Layout, Result, known, read_results, record_path, store
from bench.execute.interrupt import Interrupt
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import Outcome, PrepareTask, Task
from bench.store.files import append_to
from bench.store.home import Home


@dataclass(slots=True)
class _Group:
    """Candidates for one place in the list, and how far down them the walk has come."""

    clips: Sequence[Candidate]
    depth: int = 0
    running: bool = False
    passed: Result | None = None
    media: list[Media] = field(default_factory=list)

    @property
    def exhausted(self) -> bool:
        return self.passed is None and not self.running and self.depth == len(self.clips)


class Preparer:
    """Walks candidates until a list is full, on the executor of `bench run`.

    Args:
        dataset, seconds, root, tools: see `Job`.
        layout: finds media.
        home: of the benchmark.
        workers: clips made at a time; 1 works in this process, more start Ray.
        withdrawn: clip and source ids that are removed and never made again.

    Attributes:
        tried: results of every candidate so far.
    """

    def __init__(
        self,
        dataset: Dataset,
        seconds: float,
        root: Path,
        tools: Tools,
        layout: Layout,
        home: Home,
        workers: int = 1,
        withdrawn: Collection[str] = (),
    ) -> None:
        self._dataset, self._seconds, self._root, self._tools = dataset, seconds, root, tools
        self._layout = layout
        self._home = home
        self._workers = workers
        self._withdrawn = withdrawn
        self._stack = ExitStack()
        self._scratch = root / f".scratch-{os.getpid()}"
        self.tried: list[Result] = []

    def __enter__(self) -> Preparer:
        lock = self._stack.enter_context(append_to(self._root / "prepare.lock"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stack.close()
            raise UsageError(
                f"Another process is preparing {self._root.name} right now.", "Wait for it, then run this again."
            ) from error
        # Alone now, so whatever is half made was left by a process that was killed.
        for left in (*self._root.glob(".scratch-*"), *(self._root / "clips").glob(".*.part")):
            shutil.rmtree(left, ignore_errors=True)
        for result in read_results(self._root).values() if self._withdrawn else ():
            if result.clip_id in self._withdrawn or result.source_id in self._withdrawn:
                shutil.rmtree(self._root / "clips" / safe_id(result.clip_id), ignore_errors=True)
                record_path(self._root, result.clip_id).unlink()
        self._scratch.mkdir(parents=True)
        self._stack.callback(shutil.rmtree, self._scratch, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fill(
        self,
        groups: Sequence[Sequence[Candidate]],
        count: int,
        progress: Callable[[int, int], None] | None = None,
        distinct: Callable[[Result, Sequence[Result]], Refused | None] | None = None,
    ) -> list[Result]:
        """Take from each group, in order, the first clip that passes, until there are `count`.

        Several groups are tried at a time but accepted in order, and no group is opened that a walk one by one
        would not have reached: list and account do not depend on the number of workers.

        Args:
            groups: candidates for each place, in order.
            count: places.
            progress: called with (places settled, count).
            distinct: says why a clip may not stand beside those accepted before it, or None.

        Raises:
            KeyboardInterrupt: the user stopped it; what is finished stays.
            StoreFull: the disk is full.
        """
        walk = _Walk(groups, count, 4 * self._workers, distinct)
        running: dict[str, _Group] = {}

        def settle(group: _Group, result: Result) -> None:
            group.running = False
            group.passed = result if result.state == "ok" else None
            self.tried.append(result)
            for gone in walk.accept(self.tried):
                for media in gone.media:
                    if media.temporary and media.video is not None:
                        media.video.unlink(missing_ok=True)
            if progress and walk.settled:
                progress(walk.settled, count)

        def more() -> Iterator[Task]:
            while len(running) < 2 * self._workers and not interrupt.requested:
                group = walk.open()
                if group is None:
                    return
                candidate = group.clips[group.depth]
                group.depth += 1
                group.running = True
                job = self._job(candidate)
                if isinstance(job, Result):
                    settle(group, job)
                    continue
                group.media.append(job.media)
                running[candidate.clip_id] = group
                yield PrepareTask(candidate.clip_id, job)

        def follow(task: Task, outcome: Outcome | None) -> Iterator[Task]:
            assert isinstance(task, PrepareTask)
            if outcome is None:
                result = _given_up(task.job, scheduler.failures[-1].detail)
            else:
                result = Result(**outcome.records[task.key])
            settle(running.pop(task.key), result)
            return more()

        with Interrupt() as interrupt:
            scheduler = Scheduler(more(), follow)
            if not scheduler.finished:
                self._drive(scheduler, interrupt)
            if interrupt.requested:
                raise KeyboardInterrupt
        return walk.accepted

    def _drive(self, scheduler: Scheduler, interrupt: Interrupt) -> None:
        def ignore(task: Task, outcome: Outcome) -> None:
            """`follow` has seen everything."""

        if self._workers == 1:
            from bench.execute.inline import run_inline

            run_inline(scheduler, self._home.address, None, ignore, interrupt)
        else:
            from bench.execute.ray_cluster import run_on_ray
            from bench.execute.ray_session import connected

            with connected(None, self._workers) as ray:
                run_on_ray(ray, scheduler, self._home, None, ignore, interrupt, own=True, workers=self._workers)

    def _job(self, candidate: Candidate) -> Job | Result:
        """Return what a worker has to do, or what is known without it."""

        def request() -> str:
            wish = [asdict(candidate), self._seconds, self._dataset.size, self._tools.present()]
            return digest([VERSION, *wish, self._layout.stamp(candidate)])

        result = Result(candidate.clip_id, candidate.source_id, candidate.identity, "ok")
        if candidate.clip_id in self._withdrawn or candidate.source_id in self._withdrawn:
            return replace(result, state="dead", reason="withdrawn")
        # What is simply not there is found out again in no time, so it leaves no file.
        lasting = self._layout.stamp(candidate) is not None
        if lasting and (found := known(self._root, candidate.clip_id, request())) is not None:
            return found
        try:
            media = self._layout.media(candidate, self._scratch)
        except Refused as no:
            result = replace(result, state=no.state, reason=no.reason, detail=no.detail)
            if lasting:
                result = replace(result, request=request())
                store(self._root, result)
            return result
        # Asked anew: a downloaded archive may be here now.
        return Job(self._dataset, self._seconds, candidate, media, self._root, self._tools, request())


def _given_up(job: Job, detail: str) -> Result:
    """Return the result of a candidate whose worker failed or died every time: tried again another day."""
    candidate = job.candidate
    return Result(candidate.clip_id, candidate.source_id, candidate.identity, "retry", "not finished", detail)


class _Walk:
    """The order in which groups are opened and their clips accepted.

    Args:
        groups, count, distinct: see `Preparer.fill`.
        ahead: groups open at a time, so that few downloads wait on the disk for a slow one before them.

    Attributes:
        accepted: results so far, in order.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Candidate]],
        count: int,
        ahead: int,
        distinct: Callable[[Result, Sequence[Result]], Refused | None] | None,
    ) -> None:
        self._groups = groups
        self._count = count
        self._ahead = ahead
        self._distinct = distinct
        self._next = 0
        self._pending: list[_Group] = []
        self.accepted: list[Result] = []

    @property
    def settled(self) -> int:
        """Places that need no more work: filled, or nothing is left to try for them."""
        left = len(self._groups) - self._next + len(self._pending)
        return self._count - min(self._count - len(self.accepted), left)

    def open(self) -> _Group | None:
        """Return a group whose next clip can be tried now, or None."""
        for group in self._pending:
            if group.passed is None and not group.running and group.depth < len(group.clips):
                return group
        wanted = min(self._ahead, self._count - len(self.accepted))
        if self._next == len(self._groups) or len(self._pending) >= wanted:
            return None
        self._pending.append(_Group(self._groups[self._next]))
        self._next += 1
        return self._pending[-1]

    def accept(self, tried: list[Result]) -> Iterator[_Group]:
        """Accept what is next in order; yield the groups that are done."""
        while self._pending:
            group = self._pending[0]
            if group.passed is not None and self._distinct is not None:
                refusal = self._distinct(group.passed, self.accepted)
                if refusal is not None:
                    tried.append(
                        replace(group.passed, state=refusal.state, reason=refusal.reason, detail=refusal.detail)
                    )
                    group.passed = None
            if group.passed is not None:
                self.accepted.append(group.passed)
            elif not group.exhausted:
                return
            yield self._pending.pop(0)
