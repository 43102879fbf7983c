"""From one candidate to normalised files or a reason why not; and walking candidates until a list is full.

Every candidate tried leaves one record, so a second run looks at nothing twice, and a killed run goes on.
Only what was refused for the moment (rate limits, a broken connection) is tried again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from bench.data.candidates import Candidate
from bench.data.declared import Dataset
from bench.data.folder import safe_id
from bench.data.normalise import FILES, VERSION, Job, Media, Refused, State, Tools, make_clip
from bench.errors import UsageError
from bench.keys import digest
from bench.store.files import write_bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a candidate; stored as JSON.

    Attributes:
        clip_id, source_id, identity: of the candidate.
        state, reason, detail: see `Refused`; `ok` for a clip.
        request: digest of everything asked; another one means that it has to be made again.
        clip: provenance and digests of a clip, see `bench.data.normalise.make_clip`.
    """

    clip_id: str
    source_id: str
    identity: str
    state: State
    reason: str = ""
    detail: str = ""
    request: str = ""
    clip: Mapping[str, Any] = field(default_factory=dict)


class Layout(Protocol):
    """What a data set's module knows: which clips there are, and where their media is."""

    refused: list[tuple[str, str]]

    def media(self, candidate: Candidate, scratch: Path) -> Media:
        """Return a candidate's files.

        Raises:
            Refused: they cannot be had.
        """


def record_path(root: Path, clip_id: str) -> Path:
    """Return where a candidate's result is stored."""
    return root / "candidates" / f"{safe_id(clip_id)}.json"


def read_results(root: Path) -> dict[str, Result]:
    """Return all stored results by clip id; damaged ones are passed over and so made again."""
    found = {}
    for path in sorted((root / "candidates").glob("*.json")):
        try:
            result = Result(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        found[result.clip_id] = result
    return found


def process(job: Job) -> Result:
    """Do one candidate, or return what is already known of it. Runs in a worker process."""
    candidate = job.candidate
    request = digest(
        [VERSION, asdict(candidate), job.seconds, job.dataset.size, asdict(job.tools), job.media.stamp()]
    )
    known = _known(job.root, candidate.clip_id, request)
    if known is not None:
        return known
    base = Result(candidate.clip_id, candidate.source_id, candidate.identity, "ok", request=request)
    final = job.root / "clips" / safe_id(candidate.clip_id)
    work = final.with_name(f".{final.name}.{os.getpid()}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        clip = make_clip(job, work)
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
        result = replace(base, clip=clip)
    except Refused as refusal:
        result = replace(base, state=refusal.state, reason=refusal.reason, detail=refusal.detail)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    store(job.root, result)
    return result


def store(root: Path, result: Result) -> None:
    """Write a result."""
    write_bytes(record_path(root, result.clip_id), json.dumps(asdict(result), indent=1, sort_keys=True).encode())


def _known(root: Path, clip_id: str, request: str) -> Result | None:
    try:
        result = Result(**json.loads(record_path(root, clip_id).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if result.request != request or result.state in ("retry", "blocked"):
        return None
    return result if result.state != "ok" or intact(root, result) else None


def intact(root: Path, result: Result) -> bool:
    """Return whether a clip's files are there with their sizes."""
    folder = root / "clips" / safe_id(result.clip_id)
    try:
        return all((folder / FILES[k]).stat().st_size == size for k, size in result.clip["sizes"].items())
    except (OSError, KeyError):
        return False


class Preparer:
    """Processes candidates, in this process or in several.

    Args:
        dataset, seconds, root, tools: see `Job`.
        layout: finds media.
        workers: processes.

    Attributes:
        tried: results of every candidate so far.
    """

    def __init__(
        self, dataset: Dataset, seconds: float, root: Path, tools: Tools, layout: Layout, workers: int = 1
    ) -> None:
        self._make = lambda candidate, media: Job(dataset, seconds, candidate, media, root, tools)
        self._root = root
        self._layout = layout
        self._workers = workers
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        self._scratch = root / f".scratch-{os.getpid()}"
        self.tried: list[Result] = []

    def __enter__(self) -> Preparer:
        self._root.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context((self._root / "prepare.lock").open("w"))
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
        self._scratch.mkdir(parents=True)
        self._stack.callback(shutil.rmtree, self._scratch, ignore_errors=True)
        if self._workers > 1:
            pool = ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"))
            self._stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            self._pool = pool
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, candidates: Iterable[Candidate]) -> Iterator[Result]:
        """Yield the results in the order of the candidates."""
        waiting: list[tuple[Future[Result] | Result, Media]] = []
        for candidate in candidates:
            waiting.append(self._start(candidate))
            while len(waiting) > 2 * self._workers - 1:
                yield self._settle(*waiting.pop(0))
        for item in waiting:
            yield self._settle(*item)

    def _start(self, candidate: Candidate) -> tuple[Future[Result] | Result, Media]:
        media = Media()
        try:
            if not candidate.problem:
                media = self._layout.media(candidate, self._scratch)
        except Refused as refusal:
            result = Result(
                candidate.clip_id,
                candidate.source_id,
                candidate.identity,
                refusal.state,
                refusal.reason,
                refusal.detail,
            )
            store(self._root, result)
            return result, media
        job = self._make(candidate, media)
        return (process(job) if self._pool is None else self._pool.submit(process, job)), media

    def _settle(self, item: Future[Result] | Result, media: Media) -> Result:
        result = item.result() if isinstance(item, Future) else item
        self.tried.append(result)
        if media.temporary and media.video is not None:
            media.video.unlink(missing_ok=True)
        return result

    def fill(
        self, groups: Sequence[Sequence[Candidate]], count: int, progress: Callable[[int, int], None] | None = None
    ) -> list[Result]:
        """Take from each group, in order, the first clip that passes, until there are `count`.

        Several groups are tried at a time, but accepted in order, so the list does not depend on it.
        """
        accepted: list[Result] = []
        next_group = 0
        while len(accepted) < count and next_group < len(groups):
            window = groups[next_group : next_group + max(self._workers * 2, 1)]
            next_group += len(window)
            settled: list[Result | None] = [None] * len(window)
            depth = 0
            while open_groups := [i for i, g in enumerate(window) if settled[i] is None and depth < len(g)]:
                for i, result in zip(open_groups, self.run(window[i][depth] for i in open_groups), strict=True):
                    if result.state == "ok":
                        settled[i] = result
                depth += 1
            accepted += [result for result in settled if result is not None]
            if progress:
                progress(min(len(accepted), count), count)
        return accepted[:count]
