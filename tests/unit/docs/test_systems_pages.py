"""docs/baselines.md and docs/datasets.md cover every field, placeholder, data set and subset."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from bench.core.resources import data_folder
from bench.core.spec import Option
from bench.data import declared
from bench.systems import contract, placeholders
from bench.systems.inside.bench_patches import PATCHES

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_every_field_of_a_contract_is_described() -> None:
    text = (DOCS / "baselines.md").read_text(encoding="utf-8")
    parts = (contract.Contract, contract.Source, contract.Environment, contract.Weight, contract.Inputs)
    parts += (contract.GateCommand, contract.Config, contract.Output, contract.Seed, contract.Run, contract.Trap)
    parts += (contract.Trial, Option)
    words = set(re.findall(r"\w+", text))
    for part in parts:
        missing = {f.name for f in dataclasses.fields(part)} - words - {"folder"}  # set by the loader
        assert missing == set(), f"{part.__name__}: {missing}"


def test_every_placeholder_is_described() -> None:
    text = (DOCS / "baselines.md").read_text(encoding="utf-8")
    for name, meaning in placeholders.PLACEHOLDERS.items():
        assert f"| `{{{name}}}` | {meaning} |" in text


def test_every_patch_is_described() -> None:
    text = (DOCS / "baselines.md").read_text(encoding="utf-8")
    for name, meaning in PATCHES.items():
        assert f"| `{name}` | {meaning} |" in text


def test_every_data_set_is_described() -> None:
    text = (DOCS / "datasets.md").read_text(encoding="utf-8")
    for name in declared.names():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        dataset = declared.declared(name)
        assert str(dataset.subsets["test"].count) in row
        assert all(f"`{subset}`" in row for subset in dataset.subsets if subset != "test")


def test_the_overview_links_every_system() -> None:
    text = (data_folder("baselines") / "SYSTEMS.md").read_text(encoding="utf-8")
    for name, folder in contract.contract_paths((data_folder("baselines"),)).items():
        assert f"({name}/{contract.FILE})" in text
        assert (folder / "README.md").is_file()
