"""Floors, curves and verdicts from rows whose answer is known."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from bench.report import sensitivity as pages
from bench.results import floors, reference, sensitivity
from bench.results.reference import add_floors, load_reference
from bench.results.runs import Results
from bench.store.home import Home

CLIPS = 12
NOISE = np.random.default_rng(1).normal(0, 1, (4, CLIPS))
BASE = np.random.default_rng(2).normal(50, 5, CLIPS)


def settings(kind, family, level=0, value=0.0, group="g", unit="px"):
    about = {"variant": kind, "family": family, "group": group, "touches": "picture", "level": level}
    return {"kind": "control", "settings": {**about, "value": value, "unit": unit}}


def results(series, direction="lower", kind="clip", **spread):
    """Rows of one column: `series` maps method -> (settings, values per clip)."""
    rows = []
    for method, (_, values) in series.items():
        for i, value in enumerate(np.atleast_1d(values)):
            ok = math.isfinite(value)
            rows.append(
                {
                    "kind": kind, "method": method, "gate": "none", "dataset": "d", "split": "s", "domain": "real",
                    "sample": f"c{i:02d}" if kind == "clip" else "", "identity": f"p{i:02d}", "protocol": "m/x",
                    "column": "x", "value": value, "status": "ok" if ok else "unscored", "digest": f"{method}{i}",
                    **spread,
                }
            )  # fmt: skip
    column = {"key": "x", "label": "X", "direction": direction, "unit": "u", "digits": 2, "scale": 1.0}
    provenance = {
        "methods": {name: about for name, (about, _) in series.items()},
        "protocols": {"m/x": {"columns": [column], "params": {}, "weights": {}}},
    }
    return Results.from_rows(pd.DataFrame(rows), provenance)


def series(levels, noise=0.1):
    """A base, two invisible changes of a known spread, and one ladder."""
    found = {
        "ground-truth": ({"kind": "control", "settings": {}}, BASE),
        "h264": (settings("invisible", "h264", group="video codec"), BASE + noise * NOISE[0]),
        "mp3": (settings("invisible", "mp3", group="sound codec"), BASE + 3 * noise * NOISE[1] + 2),
    }
    for level, values in enumerate(levels, 1):
        found[f"blur@{level}"] = (settings("damage", "blur", level, 2.0**level), values)
    return found


def analysed(levels, direction="lower", **how):
    return sensitivity.analyse([results(series(levels, **how), direction)], "s")


def test_floors_are_those_of_the_formula():
    found = analysed([BASE]).columns[0]
    spread = 0.3 * NOISE[1]
    error = t.ppf(0.975, CLIPS - 1) * spread.std(ddof=1) / math.sqrt(CLIPS)
    assert found.worst == found.worst_cross == "mp3"
    assert found.same == pytest.approx(math.sqrt(2) * error)
    assert found.cross == pytest.approx(abs(2 + spread.mean()) + error)
    assert found.clip == pytest.approx(np.percentile(np.abs([*(0.1 * NOISE[0]), *(spread + 2)]), 95))
    assert set(found.groups) == {"video codec", "sound codec"}
    assert found.groups["video codec"][0] < found.groups["sound codec"][0]


@pytest.mark.parametrize(
    "steps, direction, verdict",
    [
        ([3, 6, 9], "lower", "reacts"),
        ([-3, -6, -9], "higher", "reacts"),
        ([-3, -6, -9], "lower", "inverted"),
        ([3, -6, 9], "none", "not monotone"),
        ([0.05, 0.1, 0.05], "lower", "blind"),
        ([0.2, 0.4, 0.5], "lower", "noise-bound"),
        ([3, math.nan, math.nan], "lower", "breaks"),
        ([0, 0, 0], "lower", "blind"),
        ([-3, -6, -9], "none", "reacts"),
        ([3, 6, 9, 9.4, 9.8], "lower", "saturates"),  # one clip moves by 2.4 under an invisible change
        ([-3, -6, -9, -9, -9], "none", "saturates"),
        ([3, 6, 9, 9.4, 15], "lower", "reacts"),
    ],
)
def test_verdicts(steps, direction, verdict):
    curve = analysed([BASE + step for step in steps], direction).curves[0]
    assert curve.verdict == verdict


def test_threshold_is_the_first_level_from_which_all_are_above_the_floor():
    curve = analysed([BASE + 0.01, BASE + 5, BASE + 0.0, BASE + 6, BASE + 9]).curves[0]
    assert curve.threshold == 16
    assert math.isnan(analysed([BASE + 5, BASE]).curves[0].threshold)


def test_steps_and_tau_count_what_can_be_told_apart():
    curve = analysed([BASE + 5, BASE + 5, BASE + 9]).curves[0]
    assert curve.steps == 2
    assert curve.tau == pytest.approx(5 / math.sqrt(6 * 5))  # tau-b of 0 1 2 3 with 0 5 5 9


def test_constant_column_is_blind_and_no_error():
    constant = {k: (s, np.full(CLIPS, 7.0)) for k, (s, _) in series([BASE]).items()}
    found = sensitivity.analyse([results(constant)], "s")
    assert found.columns[0].same == 0 and found.curves[0].verdict == "blind"


def test_a_change_of_a_number_without_noise_is_infinitely_many_floors():
    exact = series([BASE + 1, BASE + 2], noise=0)
    exact["mp3"] = (exact["mp3"][0], BASE)
    found = sensitivity.analyse([results(exact)], "s")
    assert found.columns[0].same == 0
    assert found.curves[0].verdict == "reacts" and math.isinf(found.curves[0].range)
    assert found.curves[0].threshold == 2


def test_set_metric_has_its_sampling_spread_as_floor_when_that_is_larger():
    values = {k: (s, [float(np.mean(v))]) for k, (s, v) in series([BASE + 20, BASE + 40]).items()}
    wide = sensitivity.analyse([results(values, kind="set", low=0.0, high=10.0)], "s")
    assert wide.columns[0].worst == "sampling" and wide.columns[0].same == pytest.approx(5)
    narrow = sensitivity.analyse([results(values, kind="set", low=1.0, high=1.0)], "s")
    assert narrow.columns[0].worst == "mp3"
    assert narrow.curves[0].verdict == "reacts"


def test_set_metrics_show_what_fewer_clips_do():
    whole = {
        "ground-truth": ({"kind": "control", "settings": {}}, [1.0]),
        "h264": (settings("invisible", "h264", group="video codec"), [1.5]),
        "blur@5": (settings("damage", "blur", 5, 8.0), [50.0]),
    }
    spread = {"kind": "set", "low": 1.0, "high": 1.0}
    fewer = {n: results({"blur@5": (whole["blur@5"][0], [v])}, **spread) for n, v in ((2, 90.0), (6, 60.0))}
    found = sensitivity.analyse([results(whole, **spread)], "s", fewer=fewer)
    (curve,) = (c for c in found.curves if c.ladder == "clip_count")
    assert [(p.value, p.bias, p.response) for p in curve.points] == [(6, 10.0, 20.0), (2, 40.0, 80.0)]
    assert (curve.verdict, curve.threshold, curve.unit) == ("reacts", 6, "clips")
    assert "clip_count ≤ 6 clips" in pages.markdown(found)
    of_clips = sensitivity.analyse([results(series([BASE]))], "s", fewer=fewer)
    assert {c.ladder for c in of_clips.curves} == {"blur"}


def test_clips_that_lost_their_value_are_counted():
    gone = BASE + 3
    gone[:2] = math.nan
    point = analysed([gone]).curves[0].points[0]
    assert (point.clips, point.lost) == (CLIPS - 2, 2)


def test_every_format_is_written_and_can_be_read(tmp_path):
    found = analysed([BASE + step for step in (0.05, 3, 9)])
    files = pages.write(found, tmp_path)
    data = json.loads(files["json"].read_text())
    assert data["curves"][0]["points"][1]["bias"] == pytest.approx(3)
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves["value"].tolist() == [2, 4, 8]
    assert pd.read_csv(tmp_path / "floors.csv")["same"][0] == pytest.approx(found.columns[0].same, rel=1e-6)
    page = files["html"].read_text()
    assert page.count("<svg") == 1 and "blur ≥ 4 px" in page
    assert "blur ≥ 4 px" in files["md"].read_text()


def test_names_from_outside_are_escaped_on_the_page():
    found = analysed([BASE + 3])
    evil = sensitivity.Sensitivity("<script>alert(1)</script>", (), 1, found.columns, found.curves)
    assert "<script" not in pages.page(evil)


def test_floors_go_into_a_reference_and_out_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = results(series([BASE]))
    reference.save(one, "mine")
    found = analysed([BASE])
    add_floors("mine", found)
    _, noise = load_reference("mine")
    cell = next(iter(noise.codec))._replace(method="anything", gate="audio")
    column = found.columns[0]
    assert noise.floor(cell, "codec") * 1.96 == pytest.approx(column.same, rel=1e-4)
    assert noise.floor(cell, "codec-cross") * 1.96 == pytest.approx(column.cross, rel=1e-4)
    assert math.isnan(noise.floor(cell))  # only where a rule asks for it


def test_kept_floors_are_found_by_split_and_survive_damage(tmp_path):
    home = Home(tmp_path)
    found = analysed([BASE])
    floors.keep(home, found)
    protocols = {"m/x": {"params": {}, "weights": {}}}
    assert floors.floors(home, "s", protocols)["m/x|x"]["same"] == pytest.approx(found.columns[0].same)
    assert floors.floors(home, "other", protocols) == {}
    assert floors.floors(home, "s", {"m/x": {"params": {"k": 2}, "weights": {}}}) == {}
    (floors.folder(home, "s") / floors.FLOORS_FILE).write_text("[]")
    assert floors.floors(home, "s", protocols) == {}


def test_tables_of_the_split_say_what_is_noise():
    from bench.report import build_tables

    one = results(series([BASE]))
    known = {"m/x|x": {"same": 0.25, "cross": 2.1, "worst": "mp3", "clips": 8}}
    told = Results.from_rows(one.rows, {**one.provenance, "floors": known})
    notes = [note for table in build_tables(told) for note in table.notes]
    assert any("X 0.25 (2.10)" in note and "on 8 clips" in note for note in notes)
    assert not any("re-encoding" in note for table in build_tables(one) for note in table.notes)
