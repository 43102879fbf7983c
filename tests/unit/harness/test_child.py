"""A worker's own process: what is said when a method takes it down."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tests_toys as toys

from bench.catalogue import find_method
from bench.core.errors import UsageError
from bench.core.spec import Cause
from bench.execute.child import Child
from bench.run.plan import plan_generation
from bench.store.home import Home


def test_a_crash_is_told_by_exit_code_or_signal_with_the_log(tmp_path: Path) -> None:
    split = toys.make_split(tmp_path / "split", 1)
    child = Child(tmp_path / "home", None, tmp_path / "log")
    said = {}
    try:
        for name in ("Exits", "Faults", "AtStart", "Quits", "Still"):
            job = plan_generation(split, [find_method(toys.target(name))], gates=["audio"]).jobs[0]
            said[name] = child.run(job)
    finally:
        child.close()
    assert [said[n].cause for n in ("Exits", "Faults", "AtStart")] == [
        Cause.CRASH,
        Cause.CRASH,
        Cause.ENVIRONMENT,
    ]
    assert said["Exits"].detail.endswith("its worker ended with exit code 7")
    assert said["Faults"].detail.endswith("signal 11 (SIGSEGV)")
    assert said["AtStart"].detail.endswith("exit code 5 while the method was loaded")
    assert str(tmp_path / "log") in said["Exits"].detail
    assert "last words" in (tmp_path / "log").read_text()
    [quits] = said["Quits"].records.values()
    assert (quits["status"], quits["cause"]) == ("error", "method") and "SystemExit: 3" in quits["detail"]
    assert [r["status"] for r in said["Still"].records.values()] == ["ok"], "the next process is a fresh one"


def test_a_worker_with_other_code_refuses_and_names_both_digests(tmp_path: Path) -> None:
    split = toys.make_split(tmp_path / "split", 1)
    job = plan_generation(split, [find_method(toys.target("Still"))], gates=["audio"]).jobs[0]
    from bench.execute.worker import Worker

    outcome = Worker(tmp_path / "home").run(dataclasses.replace(job, method_code="f" * 64))  # type: ignore[type-var]
    assert outcome.cause is Cause.ENVIRONMENT and "ffffffffffff" in outcome.detail
    assert job.method_code[:12] in outcome.detail  # type: ignore[union-attr]


@pytest.mark.parametrize("home", ["https://example.org/x", "ftp://b/x", "s3://", "az://account"])
def test_an_address_that_cannot_hold_results_is_refused(home: str) -> None:
    with pytest.raises(UsageError, match=r"cannot hold results|names no bucket"):
        Home(Path(home))
