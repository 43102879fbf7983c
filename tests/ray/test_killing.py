"""kill -9 at any moment: the same command afterwards gives the table of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]

DRIVER = Path(__file__).resolve().parents[1] / "drive.py"
METHODS = ("Slow", "Copy")


def start(home: Path, split: Path, executor: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BENCH_TEST_TAG": str(home)}
    command = [sys.executable, str(DRIVER), str(home), str(split), executor, *METHODS]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(home: Path, split: Path, executor: str) -> None:
    process = start(home, split, executor)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors.decode()[-2000:]


def numbers(home: Path) -> pd.DataFrame:
    return pd.read_parquet(home / "runs" / "run" / "rows.parquet").drop(columns=["seconds", "clip_path"])


def tagged(home: Path) -> dict[int, str]:
    """Return processes that inherited our mark in their environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(") ")[2][:1]
            except OSError:
                continue
            if f"BENCH_TEST_TAG={home}".encode() in environment.split(b"\0") and state != "Z":
                found[int(entry.name)] = command.strip()
    return found


def wait_until_gone(home: Path, seconds: float = 20.0) -> dict[int, str]:
    deadline = time.monotonic() + seconds
    while (left := tagged(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("uninterrupted")
    finish(root / "home", root / "split", "inline")
    return root / "split", numbers(root / "home")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc")
@pytest.mark.parametrize(
    ("executor", "victim"),
    [("inline", "driver"), ("ray", "driver"), ("ray", "worker")],
    ids=["inline-driver", "ray-driver", "ray-worker"],
)
def test_killed_at_random_points_and_resumed(
    executor: str, victim: str, truth: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    split, expected = truth
    draw = random.Random(f"{executor}{victim}")
    # Eight kills in all over the three cases; Ray takes seconds to start, so its kills come later.
    longest = 9.0 if executor == "ray" else 3.0
    for _ in range(4 if executor == "inline" else 2):
        process = start(tmp_path, split, executor)
        time.sleep(draw.uniform(0.3, longest))
        if victim == "driver":
            os.kill(process.pid, signal.SIGKILL)
        else:
            workers = [pid for pid, command in tagged(tmp_path).items() if command.startswith("ray::")]
            for pid in draw.sample(workers, min(1, len(workers))):
                os.kill(pid, signal.SIGKILL)
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)
        assert not wait_until_gone(tmp_path), "a process survived"
        whole = [p for p in (tmp_path / "blobs").glob("??/*.mp4") if not p.name.startswith(".")]
        assert all(len(p.stem) == 64 for p in whole), "a half file is visible"
    finish(tmp_path, split, executor)
    pd.testing.assert_frame_equal(numbers(tmp_path), expected)
    assert not wait_until_gone(tmp_path)


def test_one_ctrl_c_finishes_what_runs_and_exits_130(truth: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    split, expected = truth
    process = start(tmp_path, split, "inline")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("records/score/*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()[-2000:]
    partial = numbers(tmp_path)
    assert set(partial["status"]) == {"ok", "error"}
    assert set(partial[partial["status"] == "error"]["reason"]) == {"not_run"}
    finish(tmp_path, split, "inline")
    pd.testing.assert_frame_equal(numbers(tmp_path), expected)
