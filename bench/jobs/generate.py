"""Making clips: a method draws frames, the harness retimes, encodes, adds the sound and checks the result."""

from __future__ import annotations

import time
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


def generate(shop: Workshop, task: GenerateTask, start: float) -> Outcome:
    """Make one clip."""
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
    """Make several clips of one method at once."""
    method = cast(BatchMethod, shop.method(task.jobs[0]))
    good = method.make_together([(job.sample, job.gate, job.seed) for job in task.jobs])
    share = (time.perf_counter() - start) / len(task.jobs)
    records: dict[str, dict[str, Any]] = {}
    for job in (task.jobs[index] for index in good):
        records |= generate(shop, job, time.perf_counter() - share).records
    return Outcome("ok", records=records, seconds=time.perf_counter() - start)
