"""The committed example: small, of drawn faces and saying so, complete, and read by the notebook."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bench

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLE = DOCS / "example"


def test_the_example_is_small_drawn_and_complete() -> None:
    files = [p for p in EXAMPLE.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 2_000_000
    page = (EXAMPLE / "report.html").read_text(encoding="utf-8")
    assert "Synthetic faces" in page.partition('id="tables"')[0], "said before any number"
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    assert found is not None
    links = {link for row in json.loads(found[1])["clips"] for link in row if link}
    assert links and all((EXAMPLE / link).is_file() for link in links)
    for text in (page, (EXAMPLE / "run.json").read_text(encoding="utf-8")):
        assert not re.search(r"/(tmp|home|root|work)/", text)


def test_its_rows_are_its_page() -> None:
    run = bench.load(EXAMPLE)
    assert set(run.rows["domain"]) == {"synthetic"}
    assert all((EXAMPLE / path).is_file() for path in set(run.rows["clip_path"]) - {""})
    cell = run.table("summary")[0].rows[0]
    assert cell.label in (EXAMPLE / "report.html").read_text(encoding="utf-8")


def test_the_notebook_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(DOCS)
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        # As a kernel does: everything runs, and a last expression is shown.
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    first, means, *_, gain, tables, clip = shown
    assert len(first) == 5 and not means.empty and isinstance(gain, pd.Series) and gain.notna().all()
    assert "<table" in tables._repr_html_()
    assert "<video" in clip._repr_html_() and clip.path.is_file()
