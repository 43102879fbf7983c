"""docs/cli.md covers every verb and option, because it is made from them."""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
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


def test_the_page_of_public_names_is_up_to_date() -> None:
    import bench

    module = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    named = {name for names in module["GROUPS"].values() for name in names}
    assert named == set(bench.__all__) - {"GATES", "Features"}, "put it into a group of docs/make_reference.py"
    assert module["page"]() == module["PAGE"].read_text(encoding="utf-8"), "run: make docs"


def test_every_field_of_a_declaration_is_explained() -> None:
    import bench

    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for kind in (
        bench.MethodSpec,
        bench.MetricSpec,
        bench.ExtractorSpec,
        bench.Option,
        bench.Column,
        bench.Sample,
    ):
        section = text.partition(f"### {kind.__name__}\n")[2].partition("\n### ")[0]
        rows = {name for line in section.splitlines() for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
        assert {f.name for f in dataclasses.fields(kind)} <= rows, kind.__name__


def test_the_readme_names_every_verb_and_exit_code() -> None:
    from bench.cli import app
    from bench.core.errors import ExitCode

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = [c.name for c in app.registered_commands] + [g.name for g in app.registered_groups]
    assert [v for v in verbs if f"`bench {v}" not in readme] == []
    assert [c.value for c in ExitCode if f"| {c.value} |" not in readme] == []
