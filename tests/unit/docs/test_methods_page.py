"""The examples in docs/methods.md run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.home import Home

PAGE = Path(__file__).resolve().parents[3] / "docs" / "methods.md"


def test_the_twenty_line_method_of_the_docs_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n# my_method\.py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert code is not None
    assert code[0] in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8"), "README and page differ"
    assert len(code[1].strip().splitlines()) <= 20
    path = tmp_path / "my_method.py"
    path.write_text(code[1], encoding="utf-8")
    settings = re.search(r"```python\n# sway\.py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert settings is not None
    other = tmp_path / "sway.py"
    other.write_text(settings[1], encoding="utf-8")
    split = toys.make_split(tmp_path / "split", 2)
    names = (f"{path}:Nod", f"{other}:Sway", f"{other}:Sway+pixels=8")
    plan = plan_generation(split, [find_method(name) for name in names])
    result = execute(plan, choose_metrics("real", ["flicker/mae"]), Home(tmp_path / "home"), Execution("inline"))
    rows = pd.read_parquet(result.folder / "rows.parquet")
    assert result.failed == 0
    assert set(rows["method"]) == {"nod", "sway", "sway+pixels=8"}
    assert (rows["value"] < 1).all(), "the picture moves"
