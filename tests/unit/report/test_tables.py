"""Estimates, marks, recipes and the renderers that print them."""

from __future__ import annotations

import copy
import csv
import html
import io
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pandas as pd
import pytest

from bench import report
from bench.core.errors import MissingError, UsageError
from bench.report import latex, markdown, recipes, text
from bench.report.table import Column, Row, Table, Value, all_reasons
from bench.results import published, reference
from bench.results.runs import Results, load, merge
from bench.results.summary import Summary

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
NASTY = "we_i&rd%#${}~^\\<b>\"|`*'x"


def cells(tables: list[Table], method: str, gate: str) -> dict[str, Value | None]:
    table = tables[0]
    row = next(r for r in table.rows if (r.label, r.gate) == (method, gate))
    return {c.label: v for c, v in zip(table.columns, row.values, strict=True)}


def two_methods(gap: float, noise: float = 0.25, identities: int = 24) -> list[Table]:
    """Two methods under one gate whose true difference is `gap` spreads of Sync-C."""
    methods = {"a": ("model", ("audio",), 0.5), "b": ("model", ("audio",), 0.5)}
    results = fakes.make(
        methods=methods,
        protocols=["sync"],
        shift={("a", "sync_c"): gap},
        identities=identities,
        repeat_noise=noise,
    )
    return report.build_tables(results, "summary")


# ------------------------------------------------------------------ estimates


def test_the_mean_is_over_clips_and_repeats_are_averaged_first() -> None:
    results = fakes.make(repeats=3, missing=False, clips_per_identity=2, identities=12)
    rows = results.rows
    one = rows[(rows["method"] == "mouth-warp") & (rows["column"] == "psnr")]
    value = cells(report.build_tables(results, "summary"), "mouth-warp", "audio")["PSNR"]
    assert value is not None
    assert value.value == pytest.approx(one.groupby("sample")["value"].mean().mean())
    assert (value.n_ok, value.n_planned, value.n_identities) == (72, 72, 12)


def test_unscored_clips_leave_the_mean_and_stay_in_the_count() -> None:
    results = fakes.make()
    frozen = cells(report.build_tables(results, "summary"), "frozen", "none")["Sync-C"]
    assert frozen is not None
    assert (frozen.n_ok, frozen.n_planned) == (21, 24)
    assert frozen.reasons == (("no_speech", 3),)


def test_infinite_values_become_unscored() -> None:
    rows = fakes.make(missing=False).rows.copy()
    rows.loc[rows.index[:1], "value"] = float("inf")
    fixed = Results.from_rows(rows, {})
    assert fixed.rows["status"].value_counts()["unscored"] == 1
    assert "not_finite" in set(fixed.rows["reason"])


def test_set_metrics_print_half_their_subsample_spread_around_the_value() -> None:
    value = cells(report.build_tables(fakes.make(), "summary"), "mouth-warp", "audio")["FID"]
    assert value is not None
    assert value.interval == "subsample"
    assert value.half == pytest.approx(1.5)
    assert value.low < value.value < value.high


def test_too_few_identities_show_the_raw_range_and_mark_nothing() -> None:
    table = two_methods(gap=5, identities=4)[0]
    value = table.rows[0].values[0]
    assert value is not None
    assert value.interval == "range"
    assert not any(v.mark for r in table.rows for v in r.values if v)
    assert any("Too few identities" in n and "4, fewer than 10" in n for n in table.notes)
    assert "(" in text.table(table)


# ------------------------------------------------------------------ marks


def test_a_clear_winner_is_bold_and_a_tie_is_not() -> None:
    clear, tie = two_methods(gap=1.0), two_methods(gap=0.0, noise=2.0)
    marks = {(r.label, r.values[0].mark) for r in clear[0].rows if r.values[0]}
    assert marks == {("a", "best"), ("b", "second")}
    assert {r.values[0].mark for r in tie[0].rows if r.values[0]} == {""}


def test_plain_marking_ignores_the_interval() -> None:
    results = fakes.make(protocols=["sync"])
    best = report.build_tables(results, "summary", mark="best")[0]
    assert sum(v.mark == "best" for r in best.rows for v in r.values if v) == len(best.columns)
    none = report.build_tables(results, "summary", mark="none")[0]
    assert not any(v.mark for r in none.rows for v in r.values if v)


def test_controls_and_published_rows_are_never_marked() -> None:
    results = fakes.make(dataset="celebv-hq", domain="real")
    for table in report.build_tables(results, "paper-table1"):
        assert not any(v.mark for r in table.rows if r.section != "method" for v in r.values if v)
        assert [r.section for r in table.rows] == sorted(
            (r.section for r in table.rows), key=["method", "control", "published"].index
        )


def test_stand_in_weights_are_never_ranked_nor_kept_as_a_reference(tmp_path: Path) -> None:
    methods = {"actalker": fakes.METHODS["actalker"], "fomm": ("stand-in", ("visual",), 1.0)}
    results = fakes.make(methods=methods, protocols=["sync", "psnr"])
    for table in report.build_tables(results, "summary", mark="best"):
        assert [r.section for r in table.rows if r.label == "fomm"] == ["stand-in"]
        assert not any(v.mark for r in table.rows if r.label == "fomm" for v in r.values if v)
        assert any(v.mark == "best" for r in table.rows if r.label == "actalker" for v in r.values if v)
    assert "Stand-in weights" in text.table(report.build_tables(results, "summary")[0])
    with pytest.raises(UsageError, match=r"stand-in weights \(fomm\)"):
        reference.save(results, "kept", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_over_other_samples_are_not_ranked_unless_by_intersection() -> None:
    results = fakes.make(shift={("landmark-warp", "psnr"): 40.0})
    plain = cells(report.build_tables(results, "summary"), "landmark-warp", "audio+visual")["PSNR"]
    assert plain is not None
    assert plain.mark == ""
    table = report.build_tables(results, "summary", intersection=True)
    common = cells(table, "landmark-warp", "audio+visual")["PSNR"]
    assert common is not None
    assert common.mark == "best"
    assert (common.n_ok, common.n_planned) == (23, 23)
    assert any("--intersection" in n for n in table[0].notes)
    assert "--intersection" in text.table(table[0])


def test_intersection_ignores_a_method_that_scored_nothing() -> None:
    results = fakes.make(missing=False)
    rows = results.rows.copy()
    dead = (rows["method"] == "mouth-warp") & (rows["kind"] == "clip")
    rows.loc[dead, ["status", "value", "reason"]] = ["error", float("nan"), "timeout"]
    value = cells(
        report.build_tables(Results.from_rows(rows, results.provenance), "summary", intersection=True),
        "actalker",
        "audio",
    )["PSNR"]
    assert value is not None
    assert value.n_ok == 24


# ------------------------------------------------------------------ recipes


@pytest.mark.parametrize("domain", ["real", "synthetic"])
def test_one_recipe_serves_both_domains(domain: str) -> None:
    table = report.build_tables(fakes.make(domain=domain), "paper-table1", published=False)[0]
    assert [c.label for c in table.columns][:2] == ["Sync-C", "Sync-D"]
    assert all(("synthetic" in c.protocol) == (domain == "synthetic") for c in table.columns)
    assert any("Not measured here: FVD-Res" in n for n in table.notes)


def test_domains_and_splits_never_share_a_table() -> None:
    both = merge([fakes.make(dataset="a"), fakes.make(dataset="b", domain="real", seed=1)])
    titles = [t.title for t in report.build_tables(both, "summary")]
    assert len(titles) == 2
    assert all(("a / test" in t) != ("b / test" in t) for t in titles)


def test_self_and_cross_reenactment_stand_side_by_side() -> None:
    same = fakes.make(dataset="vfhq", split="self", domain="real")
    cross = fakes.make(dataset="vfhq", split="cross", domain="real", seed=1)
    table = report.build_tables(merge([same, cross]), "paper-table2")[0]
    assert {(c.group, c.label) for c in table.columns} >= {("Self", "PSNR"), ("Cross", "CSIM")}
    assert any(r.section == "published" and r.label == "LivePortrait" for r in table.rows)


def test_gate_matrices_have_one_column_per_gate() -> None:
    table = report.build_tables(fakes.make(), "gates")[0]
    assert [c.label for c in table.columns[:3]] == ["audio", "visual", "audio+visual"]
    assert {r.label for r in table.rows} == {"actalker", "mouth-warp", "landmark-warp"}


def test_a_recipe_of_your_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('title = "Mine"\n[[table]]\ncolumns = ["psnr/*", "ssim/*"]\nmethods = ["!frozen"]\n')
    table = report.build_tables(fakes.make(), mine)[0]
    assert [c.label for c in table.columns] == ["PSNR", "SSIM"]
    assert "frozen" not in {r.label for r in table.rows}


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[[tabel]]", "Did you mean 'table'"),
        ("title = 'x'", "has no"),
        ("[[table]]\ncolumns = ['*']\nlayuot = 'rows'", "Did you mean 'layout'"),
        ("[[table]]\ncolumns = ['*']\nlayout = 'gate'", "Did you mean 'gates'"),
        ("[[table]]\ntitle = 'x'", "give either"),
        ("[[table]]\n[[table.column]]\nname = 'x'", "needs a name and a protocol"),
        ("mark = 'bets'\n[[table]]\ncolumns = ['*']", "Did you mean 'best'"),
        ("[[table]]\ncolumns = 3", "string or a list"),
        ("[[table]]\ncolumn = 'sync_c'", "written as"),
        ("[[table]]\ncolumn = ['sync_c']", "column 1 must be a table"),
        ("title = 3\n[[table]]\ncolumns = ['*']", "title must be text"),
        ("[[table]]\nid = 3\ncolumns = ['*']", "id must be text"),
        ("[[table]]\ncolumns = ['*']\npublished = {table = 'table1'}", "must name a paper"),
        ("[[table]]\ncolumns = ['*']\npublished = 'actalker'", "must be a table"),
        ("[[table", "not valid TOML"),
    ],
)
def test_broken_recipes_say_what_is_wrong(tmp_path: Path, toml: str, words: str) -> None:
    (tmp_path / "r.toml").write_text(toml)
    with pytest.raises(UsageError, match=words):
        recipes.load(tmp_path / "r.toml")


def test_unknown_names_are_corrected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'summary'"):
        report.build_tables(fakes.make(), "sumary")
    with pytest.raises(UsageError, match="Did you mean 'latex'"):
        report.write(fakes.make(), tmp_path, formats=("latx",))
    with pytest.raises(UsageError, match="None of the columns"):
        report.build_tables(fakes.make(protocols=["flicker"]), "paper-table1")


# ------------------------------------------------------------------ published numbers


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
    assert cells(ours, "Hallo", "audio")["FID"] == Value(37.4, verbatim="37.400")
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
    beside = cells([table], "SadTalker (FLOAT, Table 1)", "audio") | {"other": None}
    assert beside["Sync-C"] == Value(7.305, verbatim="7.305") and beside["FID"] == Value(71.952, verbatim="71.952")
    assert cells([table], "SadTalker (Teller, Table 1)", "audio")["Sync-D"] == Value(7.848, verbatim="7.848")
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


# ------------------------------------------------------------------ loading and merging


def test_runs_are_found_by_path_name_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n, name in enumerate(("first", "second")):
        folder = tmp_path / "h" / "runs" / name
        folder.mkdir(parents=True)
        fakes.make(seed=n, protocols=["psnr"]).rows.to_parquet(folder / "rows.parquet")
        os.utime(folder / "rows.parquet", (1_700_000_000 + n, 1_700_000_000 + n))
    home = tmp_path / "h"
    assert load("latest", home).name == "second"
    assert load("first", home).rows.equals(load(home / "runs" / "first").rows)
    assert load(home / "runs" / "first" / "rows.parquet").name == "first"
    with pytest.raises(MissingError, match="Did you mean 'first'"):
        load("frist", home)
    with pytest.raises(MissingError, match=r"holds no rows\.parquet"):
        load(tmp_path)
    with pytest.raises(MissingError, match="bench run"):
        load("latest", tmp_path / "empty")
    (home / "runs" / "first" / "rows.parquet").write_bytes(b"junk")
    with pytest.raises(UsageError, match="cannot be read"):
        load("first", home)


def test_rows_with_missing_columns_are_refused() -> None:
    with pytest.raises(UsageError, match="lack the column"):
        Results.from_rows(pd.DataFrame({"method": ["a"]}), {})


def test_merging_a_run_with_itself_changes_nothing() -> None:
    results = fakes.make()
    assert merge([results, results]).rows.equals(results.rows)


def test_merging_different_results_of_one_method_keeps_both_apart() -> None:
    a, b = (
        Results(r.rows, r.provenance, name=n)
        for r, n in ((fakes.make(seed=1), "monday"), (fakes.make(seed=2), "tuesday"))
    )
    methods = set(merge([a, b]).rows["method"])
    assert {"actalker @ monday", "actalker @ tuesday"} <= methods
    assert "actalker" not in methods


def test_two_versions_of_a_method_keep_apart_when_runs_are_joined() -> None:
    """Also where they were run on different samples, so that no row holds two results."""
    first = fakes.make(seed=1)
    second = Results(first.rows.assign(split="other"), copy.deepcopy(first.provenance), name="new")
    second.provenance["methods"]["actalker"]["version"] = "2"
    joined = merge([first, second])
    assert {"actalker 1", "actalker 2", "mouth-warp"} <= set(joined.rows["method"])
    assert "actalker" not in set(joined.rows["method"])
    assert joined.provenance["methods"]["actalker 2"]["version"] == "2"
    same = merge([first, Results(second.rows, first.provenance, name="new")])
    assert "actalker" in set(same.rows["method"])


def test_a_floor_above_every_row_is_left_out() -> None:
    results = fakes.make()
    fid = results.rows["column"] == "fid"
    said = "half against half: FID"
    assert said in report.text_table(results, "summary", 200)
    rows = results.rows.assign(floor=results.rows["floor"].where(~fid, results.rows["value"].max() + 1e6))
    high = Results(rows, results.provenance)
    assert said not in report.text_table(high, "summary", 200)


def test_merging_other_weights_is_refused() -> None:
    a, b = fakes.make(seed=1), fakes.make(seed=2)
    b.provenance["protocols"]["sync/synthetic_v1"]["weights"] = {"syncnet_v2": "0"}
    with pytest.raises(UsageError, match="different parameters or weights"):
        merge([a, b])


# ------------------------------------------------------------------ rendering


def test_numbers_are_shown_at_their_precision() -> None:
    column = Column("p", "k", "K", digits=2, scale=100)
    assert column.show(0.01234) == "1.23"
    assert column.show(-0.00001) == "0.00"
    assert column.show(float("nan")) == "—"
    assert Column("p", "k", "K", digits=2).show(1.5e7) == "1.5e+07"
    assert column.heading == "K (×10⁻²)"
    # Nothing would be left of either at two digits: both go scientific.
    assert Column("p", "k", "K", digits=2).show_pair(0.0012, 0.0003) == ("1.2e-03", "3.0e-04")
    assert Column("p", "k", "K", digits=2).show_pair(0.0012, 0.2) == ("0.00", "0.20")


def test_wide_tables_are_split_without_cutting_groups() -> None:
    columns = tuple(Column("p", str(i), str(i), group="abc"[i // 3]) for i in range(9))
    table = Table("t", "t", "", columns, ())
    assert [len(p) for p in table.parts(4)] == [3, 3, 3]
    assert [i for p in table.parts(4) for i in p] == list(range(9))
    assert list(table.parts(9)) == [tuple(range(9))]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_text_tables_keep_to_the_width(width: int) -> None:
    lines = report.text_table(fakes.make(), "full", width).splitlines()
    assert max(text.width_of(line) for line in lines) <= width
    assert sum("Sync-C ↑" in line for line in lines) >= 2


def test_text_tables_defuse_control_characters() -> None:
    methods = {"evil\x1b[31m": ("model", ("audio",), 0.5)}
    assert "\x1b" not in report.text_table(fakes.make(methods=methods), "summary")


def test_markdown_tables_are_rectangular_and_escaped() -> None:
    methods = {**fakes.METHODS, NASTY: ("model", ("audio",), 0.4)}
    out = markdown.document("t", report.build_tables(fakes.make(methods=methods), "full"), {})
    blocks = re.findall(r"(?:^\|.*\n)+", out, flags=re.M)
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1
    assert "<b>" not in out
    assert markdown.escape(NASTY) in out


def test_markdown_escapes_but_keeps_names_readable() -> None:
    assert markdown.escape("syncnet_v2") == "syncnet_v2"
    assert markdown.escape("_x_ *y* [z](u) <b>") == "\\_x\\_ \\*y\\* \\[z\\](u) &lt;b&gt;"
    assert markdown.escape("a\nb|c") == "a b\\|c"


def test_csv_has_every_planned_cell_and_no_formulas() -> None:
    methods = {"=cmd()": ("model", ("audio",), 0.4)}
    results = fakes.make(methods=methods, protocols=["psnr", "ssim"])
    from bench.report import csv as tidy

    lines = list(csv.DictReader(io.StringIO(tidy.document(report.build_tables(results, "summary")))))
    assert [r["column"] for r in lines] == ["psnr"]
    assert lines[0]["method"] == "'=cmd()"
    assert float(lines[0]["low"]) < float(lines[0]["value"]) < float(lines[0]["high"])
    assert (lines[0]["n_ok"], lines[0]["n_planned"]) == ("24", "24")


def test_parquet_and_csv_hold_the_same(tmp_path: Path) -> None:
    written = report.write(fakes.make(), tmp_path, recipe="summary", formats=("csv", "parquet"))
    a, b = pd.read_csv(written["csv"]), pd.read_parquet(written["parquet"])
    np.testing.assert_allclose(a["value"], b["value"].astype(float))
    assert a["protocol"].tolist() == b["protocol"].tolist()


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    results = fakes.make(media={"clip": "c/{method}{i}.mp4"})
    shuffled = Results.from_rows(
        results.rows.sample(frac=1, random_state=3), results.provenance, name=results.name
    )
    formats = tuple(report.FORMATS)
    first = {k: p.read_bytes() for k, p in report.write(results, tmp_path, formats=formats).items()}
    second = {k: p.read_bytes() for k, p in report.write(shuffled, tmp_path, formats=formats).items()}
    assert first == second
    assert not list(tmp_path.glob("*.partial"))


SCRIPT = """
import sys
from pathlib import Path
import fakes
from bench import report
report.write(fakes.make(media={"clip": "c/{method}{i}.mp4"}), Path(sys.argv[1]), formats=tuple(report.FORMATS))
"""


def test_the_same_rows_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    paths = [str(Path(fakes.__file__).parent), str(Path(report.__file__).parents[2])]
    found = []
    for seed in ("1", "2"):
        out = tmp_path / "out"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)}
        subprocess.run([sys.executable, "-c", SCRIPT, str(out)], env=environment, check=True, cwd=tmp_path)
        found.append({f.name: f.read_bytes() for f in out.iterdir()})
    assert found[0].keys() == set(report.FORMATS.values())
    assert found[0] == found[1]


def test_a_name_with_every_special_character_survives_in_every_format(tmp_path: Path) -> None:
    results = fakes.make(methods={NASTY: ("model", ("audio",), 0.4)}, protocols=["psnr"], dataset=NASTY)
    written = report.write(results, tmp_path, recipe="summary", formats=tuple(report.FORMATS))
    raw = {name: path.read_text(encoding="utf-8") for name, path in written.items() if name != "parquet"}
    assert pd.read_parquet(written["parquet"])["method"].tolist() == [NASTY]
    assert [r["method"] for r in csv.DictReader(io.StringIO(raw["csv"]))] == [NASTY]
    assert NASTY in re.findall(r'<th scope="row"><span>(.*?)</span>', html.unescape(raw["html"]))
    assert latex.escape(NASTY) in raw["latex"]
    assert markdown.escape(NASTY) in raw["md"]
    assert NASTY in report.text_table(results, "summary")


def test_nothing_in_a_report_is_silent_about_missing_results() -> None:
    out = markdown.document("t", report.build_tables(fakes.make(), "full"), {})
    assert "no_speech: 3 results of frozen (none)" in out
    assert "RMS below threshold" in out
    assert "21/24" in out


def test_columns_without_any_value_are_named_not_drawn() -> None:
    results = fakes.make(missing=False)
    rows = results.rows.copy()
    rows.loc[rows["column"] == "csim", ["status", "reason", "detail", "value"]] = [
        "unscored", "missing_weights", "run: bench prepare --metrics csim", float("nan"),
    ]  # fmt: skip
    table = report.build_tables(Results.from_rows(rows, results.provenance), "summary")[0]
    assert "CSIM" not in [c.label for c in table.columns]
    assert "Columns without any value are left out: CSIM." in table.notes
    assert any("bench prepare --metrics csim" in str(r) for r in table.reasons)


def test_every_command_that_gets_something_is_said() -> None:
    results = fakes.make(missing=False)
    rows = results.rows.copy()
    for column in ("csim", "fid"):
        rows.loc[rows["column"] == column, ["status", "reason", "detail", "value"]] = [
            "unscored", "missing_weights", f"run: bench prepare --metrics {column}", float("nan"),
        ]  # fmt: skip
    tables = report.build_tables(Results.from_rows(rows, results.provenance), "full")
    said = [str(r) for r in all_reasons(tables)]
    for label, command in (("CSIM", "csim"), ("FID", "fid")):
        (reason,) = (s for s in said if s.endswith(f"bench prepare --metrics {command}."))
        assert f"in {label}" in reason


def test_an_unscored_protocol_does_not_hide_a_scored_one() -> None:
    results = fakes.make(missing=False, protocols=["psnr"])
    dead = results.rows.assign(
        protocol="psnr/aaa", status="unscored", reason="missing_weights", value=float("nan")
    )
    both = Results.from_rows(pd.concat([results.rows, dead]), results.provenance)
    assert [c.protocol for c in report.build_tables(both, "summary")[0].columns] == ["psnr/rgb"]


def test_a_table_made_on_different_machines_says_so() -> None:
    results = fakes.make(protocols=["psnr"])
    results.provenance["hardware"].append("8 x GPU")  # type: ignore[attr-defined]
    assert any("2 kinds of machine" in n for n in report.build_tables(results, "summary")[0].notes)


def test_a_row_without_numbers_still_shows_why() -> None:
    value = Value(math.nan, n_ok=0, n_planned=4, reasons=(("oom", 4),))
    table = Table("t", "T", "", (Column("p", "k", "K"),), (Row("m", "audio", "method", (value,)),))
    assert "—" in text.table(table)
    assert "0/4" in text.table(table)


# ------------------------------------------------------------------ golden files and LaTeX


def golden(name: str, found: str) -> None:
    path = GOLDEN / name
    if os.environ.get("BENCH_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{name} changed; BENCH_UPDATE_GOLDEN=1 rewrites it"


@pytest.mark.parametrize("recipe", ["summary", "paper-table1", "gates"])
def test_golden_markdown_latex_and_text(recipe: str) -> None:
    methods = {**fakes.METHODS, NASTY: ("model", ("audio",), 0.4)}
    results = fakes.make(dataset="celebv-hq", domain="real", methods=methods)
    tables = report.build_tables(results, recipe)
    golden(f"{recipe}.md", markdown.document("Golden", tables, results.provenance))
    golden(f"{recipe}.tex", latex.document(tables, results.provenance))
    golden(f"{recipe}.txt", text.document(tables, 120))


def test_latex_escapes_everything() -> None:
    escaped = latex.escape(NASTY)
    assert escaped == (
        r"we\_i\&rd\%\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}b\textgreater{}"
        r"\textquotedbl{}\textbar{}\textasciigrave{}*\textquotesingle{}x"
    )
    assert latex.escape("a--b") == "a-{}-{}b"
    assert latex.escape("×10⁻²") == r"$\times$10$^{-2}$"
    assert "\x07" not in latex.escape("a\x07b")


@pytest.mark.parametrize("recipe", ["full", "paper-table2"])
def test_latex_compiles(tmp_path: Path, recipe: str) -> None:
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no pdflatex or tectonic here")
    methods = {
        **fakes.METHODS,
        NASTY: ("model", ("audio", "visual"), 0.4),
        "naïve--x": ("model", ("visual",), 0.2),
    }
    report.write(fakes.make(methods=methods, dataset=NASTY), tmp_path, recipe=recipe, formats=("latex",))
    packages = "\\usepackage[T1]{fontenc}\\usepackage{booktabs,textcomp,xcolor}"
    (tmp_path / "main.tex").write_text(
        f"\\documentclass{{article}}{packages}\\begin{{document}}\\input{{report.tex}}\\end{{document}}"
    )
    options: list[Any] = [] if "tectonic" in engine else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [engine, *options, "main.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "main.pdf").stat().st_size > 10_000


def test_estimates_are_computed_for_every_cell() -> None:
    results = fakes.make()
    summary = Summary(results)
    keys = results.rows[["method", "gate", "protocol", "column"]].drop_duplicates()
    assert len(summary.estimates) == len(keys)
