"""Doing one task and committing its result, the same way in every executor.

A worker writes blob, then record, and only then answers; nobody else writes results.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from bench import catalogue
from bench.errors import BenchError
from bench.execute.features import FeatureBank
from bench.execute.tasks import (
    BatchTask,
    ClipRef,
    FeatureTask,
    GenerateTask,
    IngestTask,
    Outcome,
    PrepareTask,
    ScoreTask,
    SetTask,
    Task,
)
from bench.media.probe import DecodeError, Probe
from bench.methods.base import BatchMethod, GenerationFailed, Method
from bench.metrics.base import ClipMetric, ClipView
from bench.spec import MISSING, Cause, Reason, Unscored
from bench.store.files import StoreFull
from bench.store.home import Home


class JobTimeout(BaseException):
    """The wall limit of a job was reached. No `Exception`, so that no method swallows it by accident."""


class Worker:
    """Runs tasks one after another, keeping loaded methods and metric networks.

    Args:
        home: the store.
        weights: folder searched first for weight files, or None.
    """

    def __init__(self, home: Path, weights: Path | None = None) -> None:
        self.home = Home(home)
        os.environ["BENCH_HOME"] = str(self.home.path)  # where methods find what was prepared for them
        self.bank = FeatureBank(self.home)
        self._methods: dict[str, Method] = {}
        if weights is not None:
            from bench.weights import use_folder

            use_folder(weights)

    def run(self, task: Task) -> Outcome:
        """Do a task. Never raises for a failure of the task; says what went wrong in the outcome."""
        start = time.perf_counter()
        try:
            with _time_limit(task.limit):
                outcome = self._do(task, start)
        except StoreFull as error:
            return Outcome("fatal", error=error)
        except JobTimeout:
            return Outcome("error", Cause.TIMEOUT, f"took longer than {task.limit:g} s")
        except GenerationFailed as error:
            return Outcome("error", error.cause, str(error))
        except Exception as error:
            cause = Cause.OOM if _is_out_of_memory(error) else Cause.INFRA
            return Outcome("error", cause, _in_words(error))
        return outcome

    def _do(self, task: Task, start: float) -> Outcome:
        if isinstance(task, GenerateTask):
            return self._generate(task, start)
        if isinstance(task, BatchTask):
            return self._batch(task, start)
        if isinstance(task, IngestTask):
            return self._ingest(task, start)
        if isinstance(task, FeatureTask):
            return self._extract(task, start)
        if isinstance(task, ScoreTask):
            return self._score(task, start)
        if isinstance(task, PrepareTask):
            return self._prepare(task, start)
        return self._set(task, start)

    # Clips

    def _generate(self, task: GenerateTask, start: float) -> Outcome:
        from bench.media.decode import read_audio
        from bench.media.encode import write_clip
        from bench.media.retime import retime
        from bench.media.validate import validate

        try:
            method = self._method(task)
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            return Outcome("error", Cause.ENVIRONMENT, _in_words(error))

        def make(path: Path) -> Probe:
            video = method.generate(task.sample, task.gate, task.seed)
            sound = video.audio
            if sound is None and task.sound is not None:
                sound = read_audio(task.sound)
            frames = retime(video.frames, video.fps, task.sample.fps)
            write_clip(path, frames, task.sample.fps, sound)
            return validate(path, task.sample.frames, expect_audio=task.sound is not None)

        return self._commit_clip(task, ".mp4", make, start)

    def _batch(self, task: BatchTask, start: float) -> Outcome:
        method = cast(BatchMethod, self._method(task.jobs[0]))
        good = method.make_together([(job.sample, job.gate, job.seed) for job in task.jobs])
        share = (time.perf_counter() - start) / len(task.jobs)
        records: dict[str, dict[str, Any]] = {}
        for job in (task.jobs[index] for index in good):
            records |= self._generate(job, time.perf_counter() - share).records
        return Outcome("ok", records=records, seconds=time.perf_counter() - start)

    def _ingest(self, task: IngestTask, start: float) -> Outcome:
        from bench.media.validate import validate

        def make(path: Path) -> Probe:
            # Checked where it lies, so that an error names the user's file. Any length will do.
            found = validate(task.path, None, expect_audio=False)
            shutil.copyfile(task.path, path)
            return found

        return self._commit_clip(task, task.path.suffix.lower(), make, start)

    def _commit_clip(
        self, task: GenerateTask | IngestTask, suffix: str, make: Callable[[Path], Probe], start: float
    ) -> Outcome:
        record: dict[str, Any] = {
            "kind": "gen",
            "key": task.key,
            "method": task.method,
            "sample": task.sample.id,
            "fields": dict(task.fields),
        }
        scratch = ""
        try:
            with self.home.blobs.scratch(suffix) as path:
                scratch = str(path)
                probe = make(path)
                blob = self.home.blobs.adopt(path, suffix)
            record |= {
                "status": "ok",
                "clip": asdict(blob),
                "width": probe.width,
                "height": probe.height,
                "frames": probe.frames,
                "fps": probe.fps,
                "audio": probe.has_audio,
            }
        except Unscored as error:
            if error.reason in MISSING:
                raise GenerationFailed(Cause.ENVIRONMENT, str(error)) from error
            record |= {"status": "error", "cause": Cause.INPUT, "detail": str(error)}
        except StoreFull:
            raise
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            cause = Cause.INPUT if isinstance(task, IngestTask) else getattr(error, "cause", Cause.METHOD)
            if cause not in (Cause.INPUT, Cause.METHOD):
                raise  # a state of this machine, not a result
            # The scratch file has another name every time, and a user never sees it.
            detail = _in_words(error).replace(scratch or "\0", "the clip")
            record |= {"status": "error", "cause": cause, "detail": detail}
            record["traceback"] = "".join(traceback.format_exception(error))
        record["seconds"] = time.perf_counter() - start
        record["host"] = host()
        self.home.records.put("gen", task.key, record)
        return Outcome("ok", records={task.key: record}, seconds=record["seconds"])

    def _method(self, task: GenerateTask) -> Method:
        if task.target not in self._methods:
            if task.lane.gpus:
                self._methods.clear()  # two models rarely fit on one GPU
            self._methods[task.target] = catalogue.load_method(task.target)
        return self._methods[task.target]

    def _prepare(self, task: PrepareTask, start: float) -> Outcome:
        from bench.data.preparation import process

        result = process(task.job)
        return Outcome("ok", records={task.key: asdict(result)}, seconds=time.perf_counter() - start)

    # Numbers

    def view(self, clip: ClipRef) -> ClipView:
        """Open a clip for metrics; its features come from the bank."""
        from bench.media.clip import Clip

        return Clip(clip.path, clip.image, clip.truth, self.bank.bind(clip.sha256))

    def _extract(self, task: FeatureTask, start: float) -> Outcome:
        view = self.view(task.clip)
        for name in task.extractors:
            with contextlib.suppress(Unscored):
                view.features(name)
        return Outcome("ok", seconds=time.perf_counter() - start)

    def _score(self, task: ScoreTask, start: float) -> Outcome:
        clip = self.view(task.clip)
        clip.swapped = {control: self.view(other) for control, other in task.swapped.items()}
        reference = self.view(task.reference) if task.reference else None
        records: dict[str, dict[str, Any]] = {}
        for protocol, key, fields in task.protocols:
            began = time.perf_counter()
            metric = catalogue.metrics()[protocol]
            record: dict[str, Any] = {"kind": "score", "key": key, "protocol": protocol, "fields": dict(fields)}
            record |= self._value(partial(_clip_value, metric, clip, reference))
            record["seconds"] = time.perf_counter() - began
            if record.get("reason") not in MISSING:
                self.home.records.put("score", key, record)
            records[key] = record
        for name in task.warm:
            with contextlib.suppress(Unscored):
                clip.features(name)
        return Outcome("ok", records=records, seconds=time.perf_counter() - start)

    def _set(self, task: SetTask, start: float) -> Outcome:
        from bench.metrics.sets import set_value

        metric = catalogue.metrics()[task.protocol]
        record: dict[str, Any] = {
            "kind": "set",
            "key": task.key,
            "protocol": task.protocol,
            "fields": dict(task.fields),
        }
        pairs = [(self.view(g), self.view(r)) for g, r in zip(task.generated, task.reference, strict=True)]
        record |= self._value(partial(set_value, metric, pairs))  # type: ignore[arg-type]
        record["seconds"] = time.perf_counter() - start
        if record.get("reason") not in MISSING:
            self.home.records.put("set", task.key, record)
        return Outcome("ok", records={task.key: record}, seconds=record["seconds"])

    def _value(self, compute: Callable[[], Mapping[str, float]]) -> dict[str, Any]:
        """Run a metric; return the record's status and values, with null for what is not finite."""
        try:
            values = {k: float(v) for k, v in compute().items()}
        except Unscored as error:
            return {"status": "unscored", "reason": str(error.reason), "detail": error.detail}
        except DecodeError as error:
            return {"status": "unscored", "reason": str(Reason.DECODE_ERROR), "detail": error.message}
        except StoreFull:
            raise
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            return {"status": "error", "reason": str(Cause.METHOD), "detail": _in_words(error)}
        return {"status": "ok", "values": {k: v if math.isfinite(v) else None for k, v in values.items()}}


def _clip_value(metric: Any, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
    spec = metric.spec
    if "reference" in spec.needs and reference is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no ground-truth video")
    if "swapped" in spec.needs and not clip.swapped:
        raise Unscored(Reason.NO_REFERENCE, "the clip was not made again with other controls")
    if "image" in spec.needs and clip.image is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no reference picture")
    scored: ClipMetric = metric
    return scored.score(clip, reference)


def host() -> dict[str, str]:
    """Return what a record says about where it was made. Recorded, never keyed."""
    import platform

    return {"node": platform.node(), "machine": platform.machine(), "gpu": _gpu_name()}


def _gpu_name() -> str:
    import sys

    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise JobTimeout after a while, where the platform and thread allow it (main thread, POSIX)."""

    def ring(*_: object) -> None:
        raise JobTimeout

    try:
        previous = signal.signal(signal.SIGALRM, ring)
    except (ValueError, AttributeError):  # not the main thread, or no such signal: the executor watches
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _in_words(error: Exception) -> str:
    """Return what a record keeps of a failure: one line, the same on every machine."""
    if isinstance(error, BenchError):
        return f"{error.message} {error.hint}".strip()
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return text + where
