from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.plan import Plan, plan_generation
from bench.run import Execution, RunResult, execute
from bench.spec import Split
from bench.store.home import Home

METRICS = ["psnr", "flicker"]


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
    five = toys.make_split(tmp_path / "split", 5)
    result = go(plan(five, "Picky"), tmp_path / "home")
    table = rows(result)
    by_sample = table[table["column"] == "psnr"].set_index("sample")
    assert list(by_sample["status"]) == ["error"] * 4 + ["ok"]
    assert list(by_sample["reason"]) == ["method", "input", "method", "method", ""]
    details = by_sample["detail"]
    assert "cannot count to zero" in details["toy-0"]
    assert "no face in the picture" in details["toy-1"]
    assert "3 frames" in details["toy-2"] and "12 were expected" in details["toy-2"]
    assert "black" in details["toy-3"]
    assert result.failed == 4
    again = go(plan(five, "Picky"), tmp_path / "home")
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
