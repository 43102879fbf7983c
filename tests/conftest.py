"""Fixtures every test may use."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.core import numerics

# As every process of the harness does before it loads torch: one thread, reproducible kernels.
numerics.pin()

ROOT = Path(__file__).resolve().parents[1]

# tests/toys.py is loaded by path, as a user's own method file would be; this makes it importable too. tests/gpu
# needs no toys and runs on a machine without a media library.
_spec = importlib.util.spec_from_file_location("tests_toys", ROOT / "tests" / "toys.py")
assert _spec is not None and _spec.loader is not None
if importlib.util.find_spec("av") is not None:
    sys.modules["tests_toys"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["tests_toys"])


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real clips, portraits and specifications; the test is skipped where it is absent."""
    folder = Path(os.environ.get("BENCH_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no folder with real media")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium; a process can drive only one."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield found
        found.close()


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's results and weights."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path_factory.mktemp("home")))
