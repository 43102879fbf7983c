"""Loading runs, and putting several into one set of results."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import fakes
import pandas as pd
import pytest

from bench.core.errors import MissingError, UsageError
from bench.results.runs import Results, distinct, load, merge


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


def test_rows_come_sorted_and_typed_whatever_they_were(tmp_path: Path) -> None:
    made = fakes.make(protocols=["psnr", "fid"], identities=4)
    shuffled = made.rows.sample(frac=1, random_state=1).astype({"method": "category", "n_clips": "float64"})
    shuffled["detail"] = shuffled["detail"].astype(object).where(shuffled["detail"] != "", None)
    shuffled.drop(columns="adapted").to_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(load(tmp_path).rows, made.rows)
    place = ["domain", "dataset", "split", "method", "gate", "protocol", "column", "sample", "repeat"]
    assert made.rows[place].apply(tuple, axis=1).is_monotonic_increasing


def test_the_distinct_rows_are_those_of_pandas() -> None:
    rows = fakes.make(protocols=["sync"], identities=4).rows
    for columns in (["method"], ["sample", "status", "reason"], ["repeat", "identity"]):
        pd.testing.assert_frame_equal(distinct(rows, columns), rows[columns].drop_duplicates())


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


def test_merging_other_weights_is_refused() -> None:
    a, b = fakes.make(seed=1), fakes.make(seed=2)
    b.provenance["protocols"]["sync/synthetic_v1"]["weights"] = {"syncnet_v2": "0"}
    with pytest.raises(UsageError, match="different parameters or weights"):
        merge([a, b])
