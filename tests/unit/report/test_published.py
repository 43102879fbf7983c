"""The papers' numbers beside ours."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from bench import report
from bench.core.errors import UsageError
from bench.report.table import Value
from bench.results import published


def test_every_cell_of_the_papers_tables_is_there() -> None:
    rows = published.load("actalker")
    assert len(rows) == 2 * 8 * 6 + 5 * 10 + 5 * 6
    assert all(c.source and "unpublished" in c.note for c in rows)
    found = {(c.table, c.system, c.gate, c.dataset, c.column): c.value for c in rows}
    # Spot checks against the paper, one per table and data set.
    assert found["table1", "ACTalker", "audio+visual", "celebv-hq", "Sync-C"] == "5.737"
    assert found["table1", "EchoMimic", "audio", "ravdess", "FVD-Res"] == "46.038"
    assert found["table2", "X-Portrait", "visual", "vfhq", "Expr Sim"] == "0.48"
    assert found["table3", "ACTalker w/o ID", "audio", "celebv-hq", "Sync-D"] == "7.748"


def test_published_numbers_keep_their_digits_and_stand_apart_elsewhere() -> None:
    ours = report.build_tables(fakes.make(dataset="celebv-hq", domain="real"), "paper-table1")
    assert fakes.cells(ours, "Hallo", "audio")["FID"] == Value(37.4, verbatim="37.400")
    assert [t.title.split(" — ")[-1] for t in ours[1:]] == ["published numbers on ravdess"]
    synthetic = report.build_tables(fakes.make(), "paper-table1")
    assert not any(r.section == "published" for r in synthetic[0].rows)
    assert len(synthetic) == 3
    assert len(report.build_tables(fakes.make(), "paper-table1", published=False)) == 1


def test_every_paper_that_prints_a_data_set_stands_beside_a_run_of_it(tmp_path: Path) -> None:
    results = fakes.make(dataset="hdtf", domain="real")
    table = report.build_tables(results, "published")[0]
    printed = [r for r in table.rows if r.section == "published"]
    ours = [r for r in table.rows if r.section == "method"]
    assert ours and {r.label for r in printed} >= {"SadTalker (FLOAT, Table 1)", "SadTalker (KDTalker, Table 1)"}
    # One measure under its names in different papers.
    beside = fakes.cells([table], "SadTalker (FLOAT, Table 1)", "audio") | {"other": None}
    assert beside["Sync-C"] == Value(7.305, verbatim="7.305") and beside["FID"] == Value(71.952, verbatim="71.952")
    assert fakes.cells([table], "SadTalker (Teller, Table 1)", "audio")["Sync-D"] == Value(7.848, verbatim="7.848")
    assert not any(v.mark for r in printed for v in r.values if v)
    said = " ".join(table.notes)
    assert "arXiv 2412.01064, Table 1; protocol partly stated" in said
    assert "w/o" not in " ".join(r.label for r in printed)
    page = report.write(results, tmp_path, recipe="published", formats=["md"])["md"].read_text(encoding="utf-8")
    assert "SadTalker (FLOAT, Table 1)" in page
    # What was tried is said where it is not animation by speech.
    full = report.build_tables(fakes.make(dataset="vfhq", domain="real"), "full")
    labels = {r.label for t in full for r in t.rows}
    for tried in ("Table 2, self-reenactment", "Table 3, cross-reenactment"):
        assert f"FOMM (LivePortrait, {tried})" in labels


def test_broken_published_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="must have the columns"):
        published.load("p", folder=tmp_path)
    (tmp_path / "q.csv").write_text(",".join(published.FIELDS) + "\n" + "t,s,g,d,x,c,lower,abc,1,src,note\n")
    with pytest.raises(UsageError, match="line 2"):
        published.load("q", folder=tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'actalker'"):
        published.load("actaker")
