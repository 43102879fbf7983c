"""What the documents about reports, the gate and CI show must work."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import fakes
import pytest
import typer

from bench import catalogue, report
from bench.cli import app
from bench.core.declaration import matches
from bench.core.errors import ExitCode
from bench.core.spec import Domain
from bench.report import recipes
from bench.results.gate import FLOORS, VERDICTS, Rule, load_rules, parse_rules

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


@pytest.fixture
def workflow() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    data: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "ci" / "bench.yml").read_text(encoding="utf-8"))
    return data


def commands(job: dict[str, Any]) -> list[str]:
    return [line.strip() for step in job["steps"] for line in step.get("run", "").splitlines()]


def test_the_workflow_has_two_lanes_that_end_with_the_gate(workflow: dict[str, Any]) -> None:
    # YAML 1.1 reads the key `on` as true.
    triggers = workflow.get("on", workflow.get(True))
    assert {"pull_request", "schedule"} <= set(triggers)
    assert set(workflow["jobs"]) == {"cpu", "gpu"}
    for job in workflow["jobs"].values():
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert any(line.startswith("bench gate latest") for line in commands(job))
        assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
    cpu, gpu = workflow["jobs"]["cpu"], workflow["jobs"]["gpu"]
    assert "self-hosted" in gpu["runs-on"]
    assert any("--split celebv-hq --subset ci" in line for line in commands(gpu))
    assert any("--split synthetic-ci" in line for line in commands(cpu))
    cached = next(step["with"]["path"] for step in cpu["steps"] if "cache@" in step.get("uses", ""))
    assert cpu["env"]["BENCH_HOME"].endswith("/" + cached)


@pytest.mark.parametrize(("rules", "domain"), [(".ci/gate.toml", "synthetic"), ("docs/ci/gate-gpu.toml", "real")])
def test_every_rule_to_copy_is_about_a_number_its_lane_has(rules: str, domain: Domain) -> None:
    measured = {
        (m.spec.id, c.key): c.direction for m in catalogue.choose_metrics(domain, None) for c in m.spec.columns
    }
    for rule in load_rules(ROOT / rules).rule:
        for pattern in rule.protocol:
            found = [d for (p, c), d in measured.items() if matches(p, (pattern,)) and matches(c, rule.column)]
            assert set(found) - {"none"}, (rules, pattern)


def test_the_workflow_names_the_rules_and_references_the_page_tells_to_make(workflow: dict[str, Any]) -> None:
    gates = [line for job in workflow["jobs"].values() for line in commands(job) if line.startswith("bench gate")]
    for line in gates:
        words = shlex.split(line)
        rules, reference = words[words.index("--rules") + 1], words[words.index("--reference") + 1]
        assert re.search(rf"to `{rules}`", DOCS["ci"])
        assert f"bench reference save {reference} " in DOCS["ci"]
