"""The documents hold together: every page is in the site, every link leads somewhere, commands exist."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bench.cli import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
        kept = "".join(c for c in plain if c in "-_ " or unicodedata.category(c)[0] in "LN")
        found.add(kept.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def _in(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [name for p in (part.values() if isinstance(part, dict) else part) for name in _in(p)]


def test_every_page_is_in_the_site() -> None:
    # Two tags of the theme are no plain YAML; none is used, so a safe reader reads the file.
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(_in(site["nav"])) == sorted(p.name for p in (ROOT / "docs").glob("*.md"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mkdocs") is None, reason="no mkdocs here")
def test_the_site_builds(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = ["mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    assert (tmp_path / "tutorial" / "index.html").is_file()


REFUSED = typer.BadParameter.__mro__[1]  # click's UsageError, wherever typer keeps it
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def commands() -> list[str]:
    """Return every `bench ...` line of the documents' blocks and of the workflows for other repositories."""
    found = []
    for page in PAGES:
        if page.name == "cli.md":  # made from the commands themselves
            continue
        for language, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in ("", "console", "bash"):
                lines = body.replace("\\\n", " ").splitlines()
                found += [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?bench ", line)]
    for name in ("your-method", "bench"):
        workflow = yaml.safe_load((ROOT / "docs" / "ci" / f"{name}.yml").read_text(encoding="utf-8"))
        runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
        found += [line for run in runs for line in run.splitlines() if line.startswith("bench ")]
    return found


def test_the_commands_exist_with_their_options() -> None:
    group: Any = typer.main.get_command(app)
    shown = commands()
    assert len(shown) > 60
    wrong = {}
    for line in shown:
        words = shlex.split(line, comments=True)[1:]
        command = group.commands.get(words[0])
        if words[0].startswith("-"):
            continue
        if command is None:
            wrong[line] = "no such verb"
            continue
        if hasattr(command, "commands"):
            command, words = command.commands[words[1]], words[1:]
        try:
            # Parsing fails on an unknown option or a wrong value; nothing is run.
            command.make_context(words[0], words[1:])
        except REFUSED as error:
            if "does not exist" not in error.message:  # a folder that only the reader has
                wrong[line] = error.message
    assert wrong == {}


def test_python_in_the_documents_is_python_and_finds_what_it_imports() -> None:
    """What a page promises to run as it stands is run by that page's own test; this holds for every block."""
    for page in [*PAGES, *sorted((ROOT / "actalker").rglob("*.md"))]:
        for language, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language != "python":
                continue
            tree = ast.parse(body, filename=page.name)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("bench", "actalker"):
                    module = importlib.import_module(node.module or "")
                    for name in (alias.name for alias in node.names):
                        if not hasattr(module, name):  # then it is a module itself
                            importlib.import_module(f"{node.module}.{name}")


def _json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_configurations_in_the_documents_are_what_their_language_says() -> None:
    readers: dict[str, Any] = {"toml": tomllib.loads, "json": _json_lines, "yaml": yaml.safe_load}
    for page in PAGES:
        for language, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in readers:
                assert readers[language](body), page.name
