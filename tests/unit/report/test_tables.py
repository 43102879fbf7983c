"""Estimates, marks and recipes: which numbers stand in a table, and what is said beneath it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import fakes
import pandas as pd
import pytest

from bench import report
from bench.core.errors import UsageError
from bench.report import markdown, recipes, text
from bench.report.table import Column, Row, Table, Value, all_reasons
from bench.results import reference
from bench.results.runs import Results, merge
from bench.results.summary import Summary


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
    value = fakes.cells(report.build_tables(results, "summary"), "mouth-warp", "audio")["PSNR"]
    assert value is not None
    assert value.value == pytest.approx(one.groupby("sample")["value"].mean().mean())
    assert (value.n_ok, value.n_planned, value.n_identities) == (72, 72, 12)


def test_unscored_clips_leave_the_mean_and_stay_in_the_count() -> None:
    results = fakes.make()
    frozen = fakes.cells(report.build_tables(results, "summary"), "frozen", "none")["Sync-C"]
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
    value = fakes.cells(report.build_tables(fakes.make(), "summary"), "mouth-warp", "audio")["FID"]
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


def test_estimates_are_computed_for_every_cell() -> None:
    results = fakes.make()
    summary = Summary(results)
    keys = results.rows[["method", "gate", "protocol", "column"]].drop_duplicates()
    assert len(summary.estimates) == len(keys)


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
    plain = fakes.cells(report.build_tables(results, "summary"), "landmark-warp", "audio+visual")["PSNR"]
    assert plain is not None
    assert plain.mark == ""
    table = report.build_tables(results, "summary", intersection=True)
    common = fakes.cells(table, "landmark-warp", "audio+visual")["PSNR"]
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
    value = fakes.cells(
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


# ------------------------------------------------------------------ what is said beneath a table


def test_a_floor_above_every_row_is_left_out() -> None:
    results = fakes.make()
    fid = results.rows["column"] == "fid"
    said = "half against half: FID"
    assert said in report.text_table(results, "summary", 200)
    rows = results.rows.assign(floor=results.rows["floor"].where(~fid, results.rows["value"].max() + 1e6))
    high = Results(rows, results.provenance)
    assert said not in report.text_table(high, "summary", 200)


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


def test_nodes_that_differ_only_in_name_are_one_kind_of_machine() -> None:
    results = fakes.make(protocols=["psnr"])
    host = {"machine": "x86_64", "gpu": "NVIDIA H100"}
    hosts = [host | {"node": "gpu-1"}, host | {"node": "gpu-2"}]
    results.provenance["hardware"] = [json.dumps(h) for h in hosts]  # type: ignore[index]
    assert not any("machine" in n for n in report.build_tables(results, "summary")[0].notes)
    results.provenance["hardware"].append(json.dumps(hosts[0] | {"gpu": "NVIDIA A100"}))  # type: ignore[attr-defined]
    assert any("2 kinds of machine" in n for n in report.build_tables(results, "summary")[0].notes)


def test_a_row_without_numbers_still_shows_why() -> None:
    value = Value(math.nan, n_ok=0, n_planned=4, reasons=(("oom", 4),))
    table = Table("t", "T", "", (Column("p", "k", "K"),), (Row("m", "audio", "method", (value,)),))
    assert "—" in text.table(table)
    assert "0/4" in text.table(table)
