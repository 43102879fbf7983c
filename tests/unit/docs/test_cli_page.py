"""docs/cli.md covers every verb and option, because it is made from them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_command_line_page_is_up_to_date(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "bench.cli", "utils", "docs", "--name", "bench"]
    command += ["--title", "The bench command", "--output", str(page)]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
    made, kept = page.read_text(encoding="utf-8"), (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert made == kept, "run: make docs"


def test_the_readme_names_every_verb_and_exit_code() -> None:
    from bench.cli import app
    from bench.core.errors import ExitCode

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = [c.name for c in app.registered_commands] + [g.name for g in app.registered_groups]
    assert [v for v in verbs if f"`bench {v}" not in readme] == []
    assert [c.value for c in ExitCode if f"| {c.value} |" not in readme] == []
