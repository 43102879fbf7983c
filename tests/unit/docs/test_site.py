"""The documents hold together: every page is in the site, every link leads somewhere, commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
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
    subprocess.run(["mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)], cwd=ROOT, check=True)
    assert (tmp_path / "tutorial" / "index.html").is_file()


def commands() -> list[str]:
    """Return the `bench` commands of the tutorial and of the workflow for other repositories."""
    shown = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    found = re.findall(r"^\$ (bench .+)$", shown, flags=re.M)
    workflow = yaml.safe_load((ROOT / "docs" / "ci" / "your-method.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["gate"]["steps"]
    return found + [s["run"] for s in steps if s.get("run", "").startswith("bench ")]


def test_the_commands_exist_with_their_options() -> None:
    group: Any = typer.main.get_command(app)
    shown = commands()
    assert len(shown) > 6
    for line in shown:
        words = shlex.split(line, comments=True)[1:]
        command = group.commands[words[0]]
        if hasattr(command, "commands"):
            command, words = command.commands[words[1]], words[1:]
        # Parsing fails on an unknown option or a wrong value; nothing is run.
        command.make_context(words[0], words[1:])
