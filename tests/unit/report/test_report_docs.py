"""What the documents about reports, the gate and CI show must work."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import click
import fakes
import pytest
import typer

from bench import report
from bench.cli import app
from bench.errors import ExitCode
from bench.gate import FLOORS, VERDICTS, Rule, load_rules, parse_rules
from bench.report import recipes

ROOT = Path(__file__).parents[3]
DOCS = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("reports", "gate", "ci")}


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS[name], flags=re.S)


def test_the_rules_of_the_documents_are_valid() -> None:
    (shown,) = blocks("gate", "toml")
    rules = parse_rules(tomllib.loads(shown))
    assert len(rules.rule) == 3
    assert load_rules(ROOT / ".ci" / "gate.toml").rule


def test_the_recipe_of_the_documents_works(tmp_path: Path) -> None:
    (shown,) = blocks("reports", "toml")
    (tmp_path / "mine.toml").write_text(shown)
    tables = report.build_tables(fakes.make(), tmp_path / "mine.toml")
    assert [t.id for t in tables][:2] == ["summary", "lips"]


def test_the_python_of_the_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_HOME", raising=False)
    run = tmp_path / ".bench" / "runs" / "first"
    run.mkdir(parents=True)
    results = fakes.make()
    results.rows.to_parquet(run / "rows.parquet")
    (run / "run.json").write_text(json.dumps(results.provenance))
    (shown,) = blocks("reports", "python")
    exec(compile(shown, "docs/reports.md", "exec"), {})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.md", "report.tex"]


@pytest.mark.parametrize("name", sorted(DOCS))
def test_every_command_shown_exists_with_its_options(name: str) -> None:
    text = "\n".join(blocks(name, "console"))
    text += "\n" + (ROOT / "docs" / "ci" / "bench.yml").read_text(encoding="utf-8")
    lines = re.findall(r"(?:^\$ |run: |^ {10})(bench .*)", text, flags=re.M)
    assert lines
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = group
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for p in command.params for option in p.opts}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, line
        assert command is not group, line


def test_every_recipe_format_verdict_and_key_is_documented() -> None:
    for word in (*recipes.names(), *report.FORMATS, *recipes.MARKS):
        assert re.search(rf"[`\"]{word}[`\"]", DOCS["reports"]), word
    rule_keys = set(Rule.__dataclass_fields__)
    for word in (*VERDICTS, *FLOORS):
        assert f"`{word}`" in DOCS["gate"], word
    for word in rule_keys:
        assert re.search(rf"\b{word}\b", DOCS["gate"]), word
    for code in (ExitCode.GATE_FAILED, ExitCode.MISSING, ExitCode.INCONCLUSIVE):
        assert f"| {int(code)} |" in DOCS["ci"]


def test_the_workflow_is_valid_yaml_with_two_lanes() -> None:
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((ROOT / "docs" / "ci" / "bench.yml").read_text(encoding="utf-8"))
    assert set(data["jobs"]) == {"cpu", "gpu"}
    for job in data["jobs"].values():
        assert all("uses" in step or "run" in step for step in job["steps"])
        assert any("bench gate" in step.get("run", "") for step in job["steps"])
