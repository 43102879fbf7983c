"""The papers' numbers: complete, sourced, and equal to what was read in the paper."""

import re

import pytest

from bench.core.resources import data_folder
from bench.results import published
from bench.systems import systems
from bench.systems.contract import contract_paths

OURS = {"memo": "MEMO", "vexpress": "V-Express", "followyouremoji": "Follow-Your-Emoji"}


@pytest.mark.parametrize("paper", published.papers())
def test_every_cell_names_its_table_and_what_is_known_of_the_protocol(paper):
    for cell in published.load(paper):
        assert float(cell.value) >= 0 and cell.scale in (1, 10, 100)
        assert re.search(r"\(.*\d{4}\).*, Table \d+$", cell.source), cell.source
        assert "protocol" in cell.note
        assert cell.gate in ("audio", "visual", "audio+visual")


def read_tables(text):
    """Yield (table, dataset or "", row label, values as printed) of section 6.3."""
    section = text.split("### 6.3")[1].split("### 6.4")[0]
    table = dataset = ""
    for line in section.splitlines():
        if found := re.match(r"\*\*Table (\d)", line):
            table, dataset = f"table{found[1]}", ""
        cells = [c.strip() for c in line.strip("|").split("|")]
        if not line.startswith("|") or set(cells[0]) == {"-"}:
            continue
        if not re.fullmatch(r"[\d.]+", cells[-1]):
            dataset = cells[0]
            continue
        yield table, dataset, cells[0], cells[1:]


def test_the_numbers_are_those_of_the_paper(shared):
    cells = published.load("actalker")
    count = 0
    for table, dataset, label, values in read_tables(
        (shared / "specs" / "actalker.md").read_text(encoding="utf-8")
    ):
        gate = "audio+visual" if "Audio-Visual" in label else "visual" if table == "table2" else "audio"
        system = re.sub(r" \((Only Audio|Audio-Visual)\)", "", label).replace("Ours", "ACTalker")
        system = OURS.get(system.lower(), system)
        where = dataset.lower() or {"table2": "vfhq", "table3": "celebv-hq"}[table]
        wanted = (table, system, gate, where)
        ours = [c.value for c in cells if (c.table, c.system, c.gate, c.dataset) == wanted]
        assert [float(v) for v in ours] == [float(v) for v in values], (table, dataset, label)
        count += len(values)
    assert count == len(cells) == 176


def test_numbers_of_twenty_systems_are_recorded_and_the_overview_says_whose_not():
    recorded = systems.numbers()
    assert recorded["sadtalker"][:2] == ("ACTalker, Table 1", "DAWN, Table 1")
    assert recorded["actalker-release"] == ("ACTalker, Table 1", "ACTalker, Table 2", "ACTalker, Table 3")
    # Papers spell them with and without spaces and hyphens.
    for name, where in (
        ("real3d-portrait", "KDTalker, Table 1"),
        ("hunyuan-portrait", "HunyuanPortrait, Table 1"),
        ("diffused-heads", "DAWN, Table 1"),
        ("face-vid2vid", "LivePortrait, Table 2"),
        ("megactor-sigma", "PersonaLive, Table 1"),
    ):
        assert where in recorded[name]
    contracts = contract_paths((data_folder("baselines"),))
    assert sum(name in contracts for name in recorded) == 27
    assert "MEMO" in recorded and "GT" not in recorded and "Real Video" not in recorded
    text = (data_folder("baselines") / "SYSTEMS.md").read_text(encoding="utf-8")
    without = next(line for line in text.splitlines() if line.startswith("None are recorded"))
    for name in ("vasa-1", "omnitalker", "emo2", "flap", "im-portrait"):
        assert name not in recorded and f" {name}" in without


def test_what_is_read_in_copies_says_so():
    for paper in published.papers():
        for cell in published.load(paper):
            assert paper == "actalker" or "read in" in cell.note or "transcription" in cell.note
