"""Damaged and hostile texts of every format that is read: each is read or refused in words, and does nothing else.

A few run with all other tests, seven hundred alone: `pytest -m performance
tests/performance/test_text_mutations.py`. What must not happen is said in `watched_reading.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SEED, FEW, MANY = 20261, 40, 700
READER = Path(__file__).with_name("watched_reading.py")


def lane(folder: Path, seed: int, count: int, *which: str) -> Counter[str]:
    """Let another process read damaged files; return what became of them."""
    (folder / "outside").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "GITHUB_", "ACTALKER_"))}
    done = subprocess.run(
        [sys.executable, str(READER), str(folder / "root"), str(seed), str(count), *which],
        capture_output=True,
        text=True,
        timeout=1500,
        cwd=folder,
        env=kept | {"HOME": str(folder / "root" / "user")},
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    assert sorted(p.name for p in folder.iterdir()) in (["outside", "root"], ["kept", "outside", "root"])
    assert not list((folder / "outside").iterdir())
    return Counter(json.loads(line) for line in done.stdout.splitlines())


def _all_well(outcomes: Counter[str], count: int) -> None:
    assert outcomes.pop("read", 0) + outcomes.pop("refused", 0) == count, "\n".join(outcomes)
    assert not outcomes, "\n".join(outcomes)


def test_a_few_damaged_texts_of_every_format(tmp_path: Path) -> None:
    _all_well(lane(tmp_path, SEED, FEW), FEW)


@pytest.mark.performance
def test_seven_hundred_damaged_texts(tmp_path: Path) -> None:
    _all_well(lane(tmp_path, SEED + 1, MANY, "heavy"), MANY)
