"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two test processes with one thread each; more threads only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real clips, portraits and specifications; the test is skipped where it is absent."""
    folder = Path(os.environ.get("BENCH_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no folder with real media")
    return folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's results and weights."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path_factory.mktemp("home")))
