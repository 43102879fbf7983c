"""Making clips: a method draws frames, the harness retimes, encodes, adds the sound and checks the result."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from bench.core import numerics
from bench.core.errors import in_words, is_out_of_memory
from bench.core.spec import Cause
from bench.execute.tasks import BatchTask, GenerateTask, Outcome
from bench.jobs.clips import commit_clip
from bench.jobs.workshop import Workshop
from bench.media.probe import Probe
from bench.methods.base import BatchMethod, GenerationFailed, Video
from bench.store.blobs import Blob


def generate(shop: Workshop, task: GenerateTask, start: float) -> Outcome:
    """Make one clip, unless another run has just made it or makes it now."""
    if task.fresh:
        return _made(shop, task, start)
    with shop.claims.held(task.key) as mine:
        if not mine:
            return Outcome("claimed", detail=f"{task.title} is being made by another run")
        there = _there(shop, task)
        return Outcome("ok", records=there) if there else _made(shop, task, start)


def _there(shop: Workshop, task: GenerateTask) -> dict[str, dict[str, Any]]:
    """Return the record of a clip that was made since the run began, by key; nothing when it was not."""
    record = shop.home.records.get("gen", task.key)
    if record is None or record["status"] != "ok" or not shop.home.blobs.has(Blob(**record["clip"])):
        return {}
    return {task.key: record}


def _made(shop: Workshop, task: GenerateTask, start: float) -> Outcome:
    from bench.media.decode import read_audio
    from bench.media.encode import write_clip
    from bench.media.retime import retime
    from bench.media.validate import validate

    try:
        method = shop.method(task)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        detail = str(error) if isinstance(error, GenerationFailed) else in_words(error)
        return Outcome("error", Cause.ENVIRONMENT, detail)
    shop.loaded()

    watch = shop.stopwatch(task)
    measured: dict[str, Any] = {}

    def make(path: Path) -> Probe:
        with numerics.threads(task.lane.cpus):  # frames may be drawn only while they are written
            watch.begin()
            video = method.generate(task.sample, task.gate, task.seed)
            watch.end()
            if not isinstance(video, Video):
                raise GenerationFailed(
                    Cause.METHOD,
                    f"generate returned {'nothing' if video is None else type(video).__name__}, not a video.",
                    "End it with: return bench.Video(frames)",
                )
            sound = video.audio
            if sound is None and task.sound is not None:
                sound = read_audio(task.sound)
            frames = retime(watch.watched(video.frames), video.fps, task.sample.fps)
            write_clip(path, frames, task.sample.fps, sound, task.lossless)
            measured["speed"] = watch.record(video.fps, video.heard)
        if spent := getattr(method, "process_seconds", 0.0):  # of outside systems that were started for this clip
            measured["process_seconds"] = spent
        if closed := getattr(method, "sandbox", ""):  # only outside systems are closed in
            measured["sandbox"] = closed
        return validate(path, task.sample.frames, expect_audio=task.sound is not None)

    return commit_clip(shop, task, ".mp4", make, start, measured)


def together(shop: Workshop, task: BatchTask, start: float) -> Outcome:
    """Make several clips of one method at once, those that no other run makes now."""
    records: dict[str, dict[str, Any]] = {}
    with ExitStack() as claims:
        jobs = [job for job in task.jobs if job.fresh or claims.enter_context(shop.claims.held(job.key))]
        for job in jobs:
            records |= {} if job.fresh else _there(shop, job)
        jobs = [job for job in jobs if job.key not in records]
        method = cast(BatchMethod, shop.method(task.jobs[0]))
        good = method.make_together([(job.sample, job.gate, job.seed) for job in jobs]) if jobs else []
        share = (time.perf_counter() - start) / len(task.jobs)
        for job in (jobs[index] for index in good):
            records |= _made(shop, job, time.perf_counter() - share).records
    return Outcome("ok", records=records, seconds=time.perf_counter() - start)
