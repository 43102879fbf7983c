from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tests_toys as toys

from bench import catalogue
from bench.catalogue import choose_metrics, find_method
from bench.core.errors import UsageError
from bench.core.spec import Cause, Column, MetricSpec, Reason, Split, Unscored
from bench.methods.base import Video
from bench.run.drive import Execution, RunResult, execute
from bench.run.flow import Flow
from bench.run.plan import Plan, plan_generation, plan_ingestion
from bench.run.rows import build_rows
from bench.run.session import reporter
from bench.store.home import Home

METRICS = ["psnr", "flicker/mae"]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return toys.make_split(tmp_path_factory.mktemp("toy split"))


def plan(split: Split, *names: str, **options: object) -> Plan:
    return plan_generation(split, [find_method(toys.target(n)) for n in names], **options)  # type: ignore[arg-type]


def go(plan: Plan, home: Path, **how: object) -> RunResult:
    return execute(plan, choose_metrics("real", METRICS), Home(home), Execution("inline", **how))  # type: ignore[arg-type]


def rows(result: RunResult) -> pd.DataFrame:
    return pd.read_parquet(result.folder / "rows.parquet")


def numbers(result: RunResult) -> pd.DataFrame:
    return rows(result).drop(columns=["seconds", "clip_path"])


def test_every_method_gate_and_sample_becomes_rows_with_values(split: Split, tmp_path: Path) -> None:
    result = go(plan(split, "Still", "Copy"), tmp_path)
    table = rows(result)
    assert (result.failed, result.planned) == (0, 9)
    assert set(zip(table["method"], table["gate"], strict=True)) == {
        ("still", "audio"),
        ("still", "audio+visual"),
        ("copy", "visual"),
    }
    assert (table["status"] == "ok").all()
    psnr = table[table["column"] == "psnr"].groupby("method")["value"].mean()
    assert psnr["copy"] > psnr["still"] + 10
    details = json.loads((result.folder / "run.json").read_text())
    assert details["counts"] == {"planned": len(table), "ok": len(table), "unscored": 0, "error": 0}


def test_the_same_command_again_does_nothing_and_says_the_same(split: Split, tmp_path: Path) -> None:
    first = go(plan(split, "Still"), tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").rglob("*.json")}
    second = go(plan(split, "Still"), tmp_path)
    assert second.folder == first.folder
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "records").rglob("*.json")} == stamps
    pd.testing.assert_frame_equal(numbers(first), numbers(second))


def test_a_lost_clip_is_made_again_and_nothing_else(split: Split, tmp_path: Path) -> None:
    result = go(plan(split, "Still", gates=["audio"]), tmp_path)
    lost, kept = Path(rows(result)["clip_path"].iloc[0]), Path(rows(result)["clip_path"].iloc[-1])
    before = kept.stat().st_mtime_ns
    lost.unlink()
    again = go(plan(split, "Still", gates=["audio"]), tmp_path)
    assert lost.exists() and kept.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(numbers(result), numbers(again))


def test_failures_are_rows_and_do_not_stop_the_others(tmp_path: Path) -> None:
    six = toys.make_split(tmp_path / "split", 6)
    result = go(plan(six, "Picky"), tmp_path / "home")
    table = rows(result)
    by_sample = table[table["column"] == "psnr"].set_index("sample")
    assert list(by_sample["status"]) == ["error"] * 5 + ["ok"]
    assert list(by_sample["reason"]) == ["method", "input", "method", "method", "method", ""]
    details = by_sample["detail"]
    assert "cannot count to zero" in details["toy-0"]
    assert "no face in the picture" in details["toy-1"]
    assert "3 frames" in details["toy-2"] and "12 were expected" in details["toy-2"]
    assert "black" in details["toy-3"]
    assert (
        "generate returned nothing, not a video" in details["toy-4"] and "return bench.Video" in details["toy-4"]
    )
    assert result.failed == 5
    again = go(plan(six, "Picky"), tmp_path / "home")
    pd.testing.assert_frame_equal(numbers(result), numbers(again))


def test_a_method_that_cannot_be_built_is_given_up_and_tried_again_next_time(split: Split, tmp_path: Path) -> None:
    result = go(plan(split, "Broken", "Still"), tmp_path)
    table = rows(result)
    assert set(table[table["method"] == "broken"]["reason"]) == {"environment"}
    assert (table[table["method"] == "still"]["status"] == "ok").all()
    assert not any("broken" in p.read_text() for p in (tmp_path / "records").rglob("*.json"))


def test_other_frame_rates_become_25(split: Split, tmp_path: Path) -> None:
    result = go(plan(split, "HalfRate"), tmp_path)
    assert result.failed == 0
    assert set(rows(result)["status"]) == {"ok"}


def test_repeats_differ_and_unseeded_methods_have_none(split: Split, tmp_path: Path) -> None:
    made = plan(split, "Still", "Copy", gates=["audio", "visual"], repeats=2)
    assert sum(job.method == "still" for job in made.jobs) == 6
    assert sum(job.method == "copy" for job in made.jobs) == 3
    table = rows(go(made, tmp_path))
    still = table[(table["method"] == "still") & (table["column"] == "psnr")]
    assert still.groupby("sample")["value"].nunique().min() == 2


def test_keys_change_with_what_matters_and_with_nothing_else(split: Split) -> None:
    def keys(split: Split, **options: object) -> set[str]:
        return {job.key for job in plan(split, "Still", **options).jobs}

    base = keys(split)
    assert keys(split, seed=1).isdisjoint(base)
    assert keys(split, limit=1.0) == base
    moved = dataclasses.replace(
        split, samples=tuple(dataclasses.replace(s, image=Path("/else") / s.image.name) for s in split.samples)
    )
    assert keys(moved) == base
    redrawn = dataclasses.replace(
        split,
        samples=tuple(dataclasses.replace(s, digests={**s.digests, "image": "0" * 64}) for s in split.samples),
    )
    assert keys(redrawn).isdisjoint(base)
    revoiced = dataclasses.replace(
        split,
        samples=tuple(dataclasses.replace(s, digests={**s.digests, "video": "0" * 64}) for s in split.samples),
    )
    assert keys(revoiced, gates=["audio"]) <= base, "a video the gate hides does not count"


def test_a_full_disk_stops_the_run_with_a_next_step(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from bench.store import blobs
    from bench.store.files import StoreFull

    def full(self: object, path: Path, suffix: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(blobs.Blobs, "adopt", full)
        with pytest.raises(StoreFull, match="run the same command again"):
            go(plan(split, "Still"), tmp_path)
    assert go(plan(split, "Still"), tmp_path).failed == 0


class Shaky:
    """A set metric that fails until it is mended."""

    spec = MetricSpec("shaky/set", "1", "set", (Column("shaky", "Shaky", "none"),))
    code_modules = ("tests_toys",)
    mended = False

    def state(self, clip: object) -> dict[str, np.ndarray]:
        if not self.mended:
            raise ZeroDivisionError("shaky")
        return {"n": np.ones(1)}

    def merge(self, states: list) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        return {"n": sum(s["n"] for s in states)}

    def compute(self, generated: dict, reference: dict) -> dict[str, float]:  # type: ignore[type-arg]
        return {"shaky": float(generated["n"][0])}


def test_a_metric_that_breaks_is_a_failure_and_retry_does_it_again(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky = Shaky()
    monkeypatch.setattr(catalogue, "metrics", lambda: {"shaky/set": shaky})

    def again(**how: object) -> RunResult:
        once = plan(split, "Copy")
        return execute(once, [shaky], Home(tmp_path), Execution("inline", **how))  # type: ignore[arg-type, list-item]

    broken = again()
    assert (broken.planned, broken.made, broken.failed) == (3, 3, 1)
    assert "ZeroDivisionError" in broken.failures[0]
    monkeypatch.setattr(Shaky, "mended", True)
    assert again().failed == 1, "an error is a result until asked for again"
    mended = again(retry=True)
    assert mended.failed == 0
    assert rows(mended)["value"].tolist() == [3.0]


def test_a_method_that_lacks_weights_is_not_recorded_as_a_result(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needy(*_: object) -> Video:
        raise Unscored(Reason.MISSING_WEIGHTS, "run: bench prepare --metrics faces")

    with monkeypatch.context() as patch:
        patch.setattr(type(catalogue.load_method(toys.target("Still"))), "generate", needy)
        result = go(plan(split, "Still"), tmp_path)
    assert set(rows(result)["reason"]) == {Cause.ENVIRONMENT}
    assert "bench prepare" in rows(result)["detail"].iloc[0]
    assert go(plan(split, "Still"), tmp_path).failed == 0


def test_a_set_metric_that_was_given_up_says_why(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky = Shaky()
    monkeypatch.setattr(catalogue, "metrics", lambda: {"shaky/set": shaky})

    def starved(self: object, clip: object) -> None:
        raise MemoryError("too many clips")

    monkeypatch.setattr(Shaky, "state", starved)
    result = execute(plan(split, "Copy"), [shaky], Home(tmp_path), Execution("inline"))  # type: ignore[list-item]
    assert rows(result)["reason"].tolist() == [Cause.OOM]
    assert "shaky/set of copy (visual)" in result.failures[0]


def test_a_time_limit_ends_a_method_that_catches_every_exception(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    def stubborn(*_: object) -> Video:
        try:
            time.sleep(5)
        except Exception:
            time.sleep(5)
        raise AssertionError("not reached within the limit")

    monkeypatch.setattr(type(catalogue.load_method(toys.target("Still"))), "generate", stubborn)
    one = dataclasses.replace(split, samples=split.samples[:1])
    result = go(plan(one, "Still", gates=["audio"], limit=0.2), tmp_path)
    assert set(rows(result)["reason"]) == {Cause.TIMEOUT}


def test_clips_are_swapped_only_with_samples_that_have_a_driving_video(split: Split) -> None:
    first, second, third = split.samples
    mute = dataclasses.replace(
        second, video=None, digests={k: v for k, v in second.digests.items() if k != "video"}
    )
    mixed = dataclasses.replace(split, samples=(first, mute, third))
    made = plan(mixed, "Still", gates=["audio+visual"], swaps=["swapped"])
    assert len(made.swaps) == 2
    videos = {swap["visual"].sample.digests["video"] for swap in made.swaps.values()}
    assert videos == {first.digests["video"], third.digests["video"]}


def test_before_anything_ran_every_number_is_not_run(split: Split, tmp_path: Path) -> None:
    flow = Flow(plan(split, "Still", "Copy"), [*choose_metrics("real", METRICS), Shaky()], Home(tmp_path))  # type: ignore[list-item]
    table = build_rows(flow, [], [])
    assert set(table["kind"]) == {"clip", "set"}
    assert set(table["reason"]) == {"not_run"}


def test_without_metrics_clips_are_made_and_nothing_is_scored(split: Split, tmp_path: Path) -> None:
    result = execute(plan(split, "Still"), [], Home(tmp_path), Execution("inline"))
    assert (result.made, result.failed) == (6, 0)
    assert rows(result).empty


class Killer:
    """Stands in for a driver that dies after its first task."""

    def start(self, flow: Flow, running: object) -> None: ...

    def stop(self) -> None: ...

    def settled(self, task: object, outcome: object) -> None:
        if self.tasks:
            raise KeyboardInterrupt
        self.tasks += 1

    tasks = 0


def test_a_run_that_was_killed_is_known_with_the_command_that_resumes_it(split: Split, tmp_path: Path) -> None:
    once = plan(split, "Still")
    with pytest.raises(KeyboardInterrupt):
        execute(
            once, choose_metrics("real", METRICS), Home(tmp_path), Execution("inline"), "x", "bench run", Killer()
        )
    details = json.loads((tmp_path / "runs" / "x" / "run.json").read_text())
    assert details["command"] == "bench run"
    assert details["counts"]["error"] == details["counts"]["planned"] > 0
    table = pd.read_parquet(tmp_path / "runs" / "x" / "rows.parquet")
    assert set(table["reason"]) == {"not_run"}


@pytest.mark.parametrize("name", ["../outside", "..", ".", "a/b", "/tmp/x", "a\\b", "a\nb"])
def test_a_path_is_no_name_for_a_run(split: Split, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a run"):
        execute(plan(split, "Still"), [], Home(tmp_path), Execution("inline"), name=name)
    assert not (tmp_path / "runs").exists()


class Blind:
    """Sees no face anywhere."""

    spec = MetricSpec("blind/test", "1", "clip", (Column("blind", "Blind", "higher"),))
    code_modules = ("tests_toys",)

    def score(self, clip: object, reference: object) -> dict[str, float]:
        raise Unscored(Reason.NO_FACE, f"no face in {clip.path.name}")  # type: ignore[attr-defined]


def test_what_went_wrong_with_a_file_names_the_users_file(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = Blind()
    monkeypatch.setattr(catalogue, "metrics", lambda: {"blind/test": blind})
    theirs = {s.id: tmp_path / f"Ünï {s.id}.mp4" for s in split.samples}
    for sample in split.samples:
        shutil.copy(sample.video, theirs[sample.id])  # type: ignore[arg-type]
    job = plan_ingestion(split, "theirs", theirs, "audio")
    details = rows(execute(job, [blind], Home(tmp_path / "home"), Execution("inline"), name="x"))["detail"]  # type: ignore[list-item]
    assert sorted(details) == sorted(f"no face in {path.name}" for path in theirs.values())
    made = rows(execute(plan(split, "Copy"), [blind], Home(tmp_path / "home"), Execution("inline"), name="y"))  # type: ignore[list-item]
    assert sorted(made["detail"]) == sorted(f"no face in {s.id} by copy" for s in split.samples)


def test_asking_again_changes_no_byte_of_a_finished_report(split: Split, tmp_path: Path) -> None:
    def ask(command: str) -> dict[str, bytes]:
        metrics, how = choose_metrics("real", METRICS), Execution("inline")
        report = reporter("full", ("md", "csv", "html"), Home(tmp_path))
        found = execute(plan(split, "Still"), metrics, Home(tmp_path), how, command=command, report=report)
        return {p.name: p.read_bytes() for p in found.folder.iterdir() if p.is_file()}

    first = ask("bench run --split toy")
    assert {"report.md", "report.csv", "report.html", "run.json", "rows.parquet"} <= first.keys()
    assert b"bench run --split toy" in first["report.md"]
    again = ask("bench run --split toy --json -j 1")
    assert [name for name in first if first[name] != again[name]] == []
