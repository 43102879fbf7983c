"""What the harness itself costs: `make performance` prints it; nothing here asserts wall time.

Run alone: `python -m pytest -m performance -s tests/performance/test_harness.py`.
"""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.spec import Sample, Split
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import CPU_LANE, Outcome
from bench.run.drive import Execution, execute
from bench.run.flow import Flow
from bench.run.plan import Plan, plan_generation
from bench.store.blobs import Blob
from bench.store.home import Home

pytestmark = pytest.mark.performance

JOBS = 40_000


def timed(label: str, work: Callable[[], object], goal: str) -> object:
    """Print wall and processor time; on a machine that does other things only the second means something."""
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    wall, used = time.perf_counter() - start, time.process_time() - processor
    print(f"  {label:<58} {wall:8.3f} s ({used:.3f} s of processor)   goal {goal}")
    return result


def child_seconds(*command: str) -> tuple[float, float]:
    """Run a command; return wall and processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def large_split(count: int) -> Split:
    digest, video = "0" * 64, Path("v.mp4")
    samples = tuple(
        Sample(
            "large", "test", f"s{i:06d}", f"p{i // 4}", Path("i.png"), Path("a.wav"), video, video, 75,
            digests={"image": digest, "audio": f"{i:064x}", "video": digest, "reference": f"{i:064x}"},
        )
        for i in range(count)
    )  # fmt: skip
    return Split("large", "real", samples)


def test_starting_up() -> None:
    print()
    for label, command, goal in (
        ("python alone", ("-c", "pass"), "-"),
        ("bench --help", ("-m", "bench", "--help"), "0.2 s"),
    ):
        child_seconds(*command)
        wall, used = sorted(child_seconds(*command) for _ in range(5))[2]
        label = f"{label}, median of 5"
        print(f"  {label:<58} {wall:8.3f} s ({used:.3f} s of processor)   goal {goal}")


def test_planning_and_resuming_forty_thousand_jobs(tmp_path: Path) -> None:
    print()
    split = large_split(JOBS // 2)
    entry = find_method(toys.target("Still"))
    plan = timed(f"plan of {JOBS} jobs", lambda: plan_generation(split, [entry]), "1 s")
    assert isinstance(plan, Plan) and len(plan.jobs) == JOBS
    metrics = choose_metrics("real", ["flicker/mae"])
    home = Home(tmp_path)
    fill(home, plan, metrics)
    timed("first look at the store (writes the journal)", lambda: Flow(plan, metrics, home), "-")
    flow = timed("the same command again: nothing to do", lambda: Flow(plan, metrics, home), "2 s")
    assert isinstance(flow, Flow) and flow.initial == []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {'peak memory of this process, test libraries included':<58} {peak:8.0f} MB  goal 300 MB")


def fill(home: Home, plan: Plan, metrics: list) -> None:  # type: ignore[type-arg]
    """Write the records a finished run would have left, without the cost of durable writes."""
    home.blobs.root.mkdir(parents=True)
    blob = Blob("ab" * 32, 4, ".mp4")
    home.blobs.path(blob).parent.mkdir()
    home.blobs.path(blob).write_bytes(b"clip")
    record = {"status": "ok", "clip": dataclasses.asdict(blob), "seconds": 1.0, "host": {"node": "n"}}

    def put(kind: str, key: str, value: dict) -> None:  # type: ignore[type-arg]
        import json

        path = home.records.path(kind, key)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    for job in plan.jobs:
        put("gen", job.key, record | {"fields": dict(job.fields)})
    flow = Flow(plan, metrics, home)
    for job in plan.jobs:
        for _, key, fields in flow.score_keys(job, record, flow.clip_metrics):
            put("score", key, {"status": "ok", "values": {"flicker": 0.99}, "fields": fields})


def test_scheduling_forty_thousand_tasks() -> None:
    print()
    plan = plan_generation(large_split(JOBS // 2), [find_method(toys.target("Still"))])

    def drain() -> None:
        scheduler = Scheduler(plan.jobs, lambda task, outcome: ())
        while (task := scheduler.take(CPU_LANE)) is not None:
            scheduler.settle(task, Outcome("ok"))

    timed(f"scheduling {JOBS} tasks", drain, "-")


def test_overhead_per_job(tmp_path: Path) -> None:
    """Clips of 12 tiny frames; what the codec takes for the same work is measured alone and taken off."""
    from bench.media.clip import Clip
    from bench.media.decode import read_audio
    from bench.media.encode import write_clip
    from bench.media.validate import validate

    print()
    split = toys.make_split(tmp_path / "split", 40)
    plan = plan_generation(split, [find_method(toys.target("Still"))], gates=["audio"])
    metrics = choose_metrics("real", ["flicker/mae"])
    # The first run pays for imports and fills caches.
    execute(plan, metrics, Home(tmp_path / "first"), Execution("inline"))
    start = time.perf_counter()
    execute(plan, metrics, Home(tmp_path / "home"), Execution("inline"))
    whole = (time.perf_counter() - start) / len(plan.jobs)
    start = time.perf_counter()
    for i, sample in enumerate(split.samples):
        path = tmp_path / f"{i}.mp4"
        assert sample.audio is not None
        write_clip(path, toys.frames(i), 25.0, read_audio(sample.audio))
        validate(path, sample.frames, True)
        assert sum(len(chunk) for chunk in Clip(path).chunks()) == sample.frames
        assert sample.reference is not None and Clip(sample.reference).frames
    codec = (time.perf_counter() - start) / len(split.samples)
    print(f"  whole job {1000 * whole:.1f} ms, of which coding and decoding {1000 * codec:.1f} ms")
    print(
        f"  {'harness per job (generate, commit, score, commit)':<58} {1000 * (whole - codec):8.1f} ms  goal 10 ms"
    )
