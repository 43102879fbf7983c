"""Every promise of SECURITY.md names the test that proves it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_each_promise_names_tests_that_exist() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    enforced = page.partition("## What is enforced")[2].partition("## What is not")[0]
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    promises = re.split(r"^- ", enforced, flags=re.MULTILINE)[1:]
    assert len(promises) > 8
    for promise in promises:
        named = re.findall(r"`(test_\w+)`", promise)
        assert named, promise
        assert not [name for name in named if f"def {name}(" not in written]
