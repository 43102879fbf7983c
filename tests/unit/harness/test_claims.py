"""Runs on one home at the same time: who does what, and what a run that was killed leaves."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tests_toys as toys

from bench.catalogue import find_method
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store import claims
from bench.store.bucket import Bucket
from bench.store.claims import Claims
from bench.store.home import Home
from bench.store.storage import Folder, Storage

DRIVE = Path(__file__).resolve().parents[2] / "drive.py"
KEY = "ab" * 32


def storages(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Storage]:
    found: list[Storage] = [Folder(root / "folder")]
    if obstore := pytest.importorskip("obstore.store"):
        monkeypatch.setenv("BENCH_CACHE", str(root / "cache"))
        found.append(Bucket("s3://bucket/prefix", obstore.MemoryStore()))
    return found


def leave(storage: Storage, **changes: Any) -> None:
    """Leave a claim as a run on another machine would that has 30 seconds left."""
    claim = {"run": "theirs", "node": "elsewhere", "process": 1, "until": time.time() + 30} | changes
    storage.write(f"blobs/scratch/{KEY}.claim", json.dumps(claim).encode())


def gone() -> int:
    """Return the id of a process that ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_job_is_claimed_by_one_run_and_by_all_workers_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for storage in storages(tmp_path, monkeypatch):
        with Claims(storage, "mine").held(KEY) as first:
            with Claims(storage, "other").held(KEY) as second:
                assert first and not second
            with Claims(storage, "mine").held(KEY) as twin:
                assert twin
        with Claims(storage, "other").held(KEY) as later:
            assert later


def test_what_a_killed_run_left_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = platform.node()
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, False),
        ({"node": here, "process": os.getpid()}, False),
        ({"node": here, "process": gone()}, True),
        ({"until": time.time() - 1}, True),
        ({"until": time.time() + 1e6}, True),
        ({"until": "soon"}, True),
        ({"run": "mine"}, True),
    ]
    for storage in storages(tmp_path, monkeypatch):
        for changes, free in cases:
            leave(storage, **changes)
            with Claims(storage, "mine").held(KEY) as mine:
                assert mine is free, changes
        storage.write(f"blobs/scratch/{KEY}.claim", b"\xff{")
        with Claims(storage, "mine").held(KEY) as mine:
            assert mine


def test_a_claim_is_renewed_as_long_as_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "EXPIRY", 2.0)
    monkeypatch.setattr(claims, "_RENEW", 0.1)
    with Claims(Folder(tmp_path), "mine").held(KEY):
        time.sleep(2.5)
        with Claims(Folder(tmp_path), "other").held(KEY) as second:
            assert not second


def test_two_runs_at_once_make_each_clip_once(tmp_path: Path) -> None:
    command = [sys.executable, str(DRIVE), str(tmp_path / "home"), str(tmp_path / "split"), "inline", "Counted"]
    toys.make_split(tmp_path / "split")
    environment = {**os.environ, "TOY_MARKERS": str(tmp_path)}
    runs = [
        subprocess.Popen(command, env=environment | {"TOY_RUN": name}, stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    begun = [line.split()[0] for line in (tmp_path / "begun").read_text().splitlines()]
    assert sorted(begun) == ["toy-0", "toy-1", "toy-2"]
    one, two = (pd.read_parquet(tmp_path / "home" / "runs" / name / "rows.parquet") for name in ("one", "two"))
    assert len(one) > 3 and one.drop(columns="seconds").equals(two.drop(columns="seconds"))


def test_a_run_waits_for_what_another_claimed_and_makes_it_when_that_comes_to_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, split = Home(tmp_path / "home"), toys.make_split(tmp_path / "split", count=2)
    plan = plan_generation(split, [find_method(toys.target("Slow"))])
    claim = {"run": "theirs", "node": "elsewhere", "process": 1, "until": time.time() + 3}
    home.storage.write(f"blobs/scratch/{plan.jobs[0].key}.claim", json.dumps(claim).encode())
    result = execute(plan, [], home, Execution("inline"))
    assert result.made == 2 and result.failed == 0
    assert time.time() > claim["until"]  # type: ignore[operator]
    assert "Another run on this home makes the last 1 clips; waiting for them." in capsys.readouterr().err
    assert not list(home.path.rglob("*.claim"))
