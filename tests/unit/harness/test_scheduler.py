from __future__ import annotations

from pathlib import Path

from bench.core.spec import AUDIO, Cause, Sample
from bench.execute.scheduler import QUARANTINE_AFTER, Scheduler
from bench.execute.tasks import CPU_LANE, ClipRef, GenerateTask, Lane, Outcome, ScoreTask, Task

SAMPLE = Sample("d", "s", "a", "i", Path("a.png"), None, None, None, 25)
OK = Outcome("ok")


def clip(key: str, method: str = "m", cost: float = 1.0, lane: Lane = CPU_LANE) -> GenerateTask:
    return GenerateTask(key, method, "x:y", SAMPLE, None, AUDIO, 0, 0, {}, lane, cost)


def score(key: str) -> ScoreTask:
    return ScoreTask(key, ClipRef("0" * 64, Path("c.mp4")), None, ())


def nothing(task: Task, outcome: Outcome | None) -> list[Task]:
    return []


def drain(scheduler: Scheduler, answer: Outcome = OK) -> list[str]:
    order = []
    while not scheduler.finished:
        task = scheduler.take(scheduler.ready[-1])
        assert task is not None
        order.append(task.key)
        scheduler.settle(task, answer)
    return order


def test_methods_are_grouped_and_long_jobs_come_first() -> None:
    tasks = [clip("b1", "b", 1), clip("a1", "a", 1), clip("a9", "a", 9), clip("b9", "b", 9)]
    assert drain(Scheduler(tasks, nothing)) == ["a9", "a1", "b9", "b1"]


def test_a_clip_is_scored_before_the_next_one_is_made() -> None:
    def follow(task: Task, outcome: Outcome | None) -> list[Task]:
        return [score(f"s-{task.key}")] if isinstance(task, GenerateTask) else []

    assert drain(Scheduler([clip("1"), clip("2")], follow)) == ["1", "s-1", "2", "s-2"]


def test_infrastructure_failures_are_tried_three_times_more() -> None:
    scheduler = Scheduler([clip("1")], nothing)
    assert drain(scheduler, Outcome("error", Cause.INFRA, "gone")) == ["1"] * 4
    assert [(f.cause, f.tries) for f in scheduler.failures] == [(Cause.INFRA, 4)]


def test_a_failure_that_passes_leaves_no_trace() -> None:
    scheduler = Scheduler([clip("1")], nothing)
    first = scheduler.take(CPU_LANE)
    assert first is not None
    scheduler.settle(first, Outcome("error", Cause.TIMEOUT, "slow"))
    assert drain(scheduler) == ["1"]
    assert scheduler.failures == []


def test_out_of_memory_is_tried_once_more_alone() -> None:
    scheduler = Scheduler([clip("big", cost=9), clip("x"), clip("y")], nothing)
    big, x = scheduler.take(CPU_LANE), scheduler.take(CPU_LANE)
    assert big is not None and x is not None
    scheduler.settle(big, Outcome("error", Cause.OOM))
    assert scheduler.take(CPU_LANE) is None, "x still runs, so the big one waits and nothing is added"
    scheduler.settle(x, OK)
    again = scheduler.take(CPU_LANE)
    assert again is big
    assert scheduler.take(CPU_LANE) is None, "nothing runs beside it"
    scheduler.settle(big, Outcome("error", Cause.OOM))
    assert drain(scheduler) == ["y"]
    assert [f.cause for f in scheduler.failures] == [Cause.OOM]


GPU = Lane("gpu-method", 1, 1.0)


def test_a_lonely_task_goes_before_the_other_lanes_which_then_go_on() -> None:
    scheduler = Scheduler([clip("g", "g", lane=GPU), clip("c"), clip("d")], nothing)
    g, c = scheduler.take(GPU), scheduler.take(CPU_LANE)
    assert g is not None and c is not None
    scheduler.settle(g, Outcome("error", Cause.OOM))
    assert scheduler.ready == [], "c still runs"
    scheduler.settle(c, OK)
    assert scheduler.ready == [GPU], "otherwise the lonely task would wait for every task of the other lanes"
    assert drain(scheduler) == ["g", "d"]


def test_lanes_that_need_a_gpu_are_offered_first() -> None:
    # Or the workers that need none would take every CPU, and the GPU would stand idle until they are done.
    scheduler = Scheduler([clip("c"), clip("g", "g", lane=GPU)], nothing)
    assert scheduler.ready == [GPU, CPU_LANE]


def test_a_method_that_cannot_start_is_quarantined_and_the_others_go_on() -> None:
    tasks = [clip(f"bad{i}", "bad") for i in range(10)] + [clip("good", "good")]
    scheduler = Scheduler(tasks, nothing)
    tried = []
    while not scheduler.finished:
        task = scheduler.take(CPU_LANE)
        assert isinstance(task, GenerateTask)
        tried.append(task.method)
        broken = Outcome("error", Cause.ENVIRONMENT, "no module named x")
        scheduler.settle(task, broken if task.method == "bad" else OK)
    assert tried == ["bad"] * QUARANTINE_AFTER + ["good"]
    assert len(scheduler.failures) == 10
    assert "no module named x" in scheduler.failures[-1].detail


def test_followers_of_a_given_up_task_are_told() -> None:
    told: list[tuple[str, bool]] = []

    def follow(task: Task, outcome: Outcome | None) -> list[Task]:
        told.append((task.key, outcome is None))
        return []

    drain(Scheduler([clip("1")], follow), Outcome("error", Cause.METHOD))
    assert told == [("1", True)]
