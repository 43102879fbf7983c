"""Every verdict, every exit code, every coverage case; the error rate; the planted regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from bench.core.errors import ExitCode, MissingError, UsageError
from bench.results.gate import Outcome, gate, load_rules, parse_rules
from bench.results.reference import measure_noise
from bench.results.runs import Results

TWO = {k: fakes.METHODS[k] for k in ("mouth-warp", "ground-truth")}
SYNC = {"protocol": "sync/*", "column": "sync_c"}


def make(**options: Any) -> Results:
    return fakes.make(**{"methods": TWO, "protocols": ["sync"], "repeats": 2, "missing": False, **options})


def judge(new: Results, reference: Results, *rules: dict[str, Any], intersection: bool = False) -> Outcome:
    return gate(new, reference, parse_rules({"rule": list(rules)}), measure_noise(reference), intersection)


def edited(results: Results, change: Any) -> Results:
    return Results.from_rows(change(results.rows.copy()), results.provenance, name="edited")


def without(results: Results, **columns: str) -> Results:
    def drop(rows: Any) -> Any:
        keep = np.ones(len(rows), dtype=bool)
        for name, value in columns.items():
            keep &= (rows[name] == value).to_numpy()
        return rows[~keep]

    return edited(results, drop)


def unscored(results: Results, sample: str) -> Results:
    def blank(rows: Any) -> Any:
        where = (rows["sample"] == sample) & (rows["method"] == "mouth-warp")
        rows.loc[where, ["status", "reason", "value"]] = ["unscored", "no_face", float("nan")]
        return rows

    return edited(results, blank)


@pytest.fixture(scope="module")
def reference() -> Results:
    return make(seed=1)


def test_a_rerun_passes_by_its_bytes(reference: Results) -> None:
    outcome = judge(make(seed=1), reference, {**SYNC, "noise": 1})
    assert [c.verdict for c in outcome.checks] == ["pass"]
    assert "byte-identical" in outcome.checks[0].why
    assert outcome.exit_code(strict=True) == ExitCode.OK


def test_identical_clips_pass_even_with_a_single_identity() -> None:
    one = make(seed=1, identities=1)
    assert judge(one, one, {**SYNC, "tolerance": 1.0}).checks[0].verdict == "pass"


def test_a_metric_that_scores_the_same_clips_differently_is_not_waved_through(reference: Results) -> None:
    def lower(rows: Any) -> Any:
        return rows.assign(value=rows["value"].where(rows["column"] != "sync_c", rows["value"] - 1))

    assert judge(edited(reference, lower), reference, {**SYNC, "noise": 1}).checks[0].verdict == "fail"


def test_a_regression_of_three_noise_sigmas_is_caught(reference: Results) -> None:
    floors = measure_noise(reference)
    cell = next(c for c in floors.seed if c.column == "sync_c" and c.method == "mouth-warp")
    sigma = floors.floor(cell, "seed", (2, 2))
    spread = 0.7  # of sync_c in the fakes
    caught = 0
    for seed in range(10, 20):
        new = make(seed=seed, shift={("mouth-warp", "sync_c"): -3 * sigma / spread})
        outcome = judge(new, reference, {**SYNC, "noise": 1})
        caught += outcome.exit_code() == ExitCode.GATE_FAILED
    assert caught >= 8


def test_the_false_alarm_rate_stays_below_alpha() -> None:
    # Every method is a family of its own: forty independent gates in one run, two numbers each.
    many = {f"method{i}": ("model", ("audio",), 0.5) for i in range(40)}
    rules = parse_rules(
        {"rule": [{"protocol": "sync/*", "tolerance": 0.0, "methods": m, "family": m} for m in many]}
    )
    alarms, gates = 0, 0
    for n in range(10):
        old, new = (make(seed=2 * n + k, repeats=1, world=n, identities=12, methods=many) for k in (0, 1))
        checks = gate(new, old, rules).checks
        alarms += len({c.difference.cell.method for c in checks if c.verdict == "fail"})
        gates += len(many)
    assert alarms / gates <= 0.05 + 3 * (0.05 * 0.95 / gates) ** 0.5


def test_an_improvement_passes(reference: Results) -> None:
    better = make(seed=2, shift={("mouth-warp", "sync_c"): 2.0})
    assert judge(better, reference, {**SYNC, "noise": 1}).checks[0].verdict == "pass"


def test_lower_is_better_columns_fail_upwards(reference: Results) -> None:
    worse = make(seed=2, shift={("mouth-warp", "sync_d"): 2.0})
    outcome = judge(worse, reference, {"protocol": "sync/*", "column": "sync_d", "noise": 2})
    assert outcome.exit_code() == ExitCode.GATE_FAILED
    assert outcome.checks[0].difference.gain < 0


def test_a_loss_within_the_tolerance_passes(reference: Results) -> None:
    worse = make(seed=2, shift={("mouth-warp", "sync_c"): -0.5})
    outcome = judge(worse, reference, {**SYNC, "tolerance": 1.0})
    assert outcome.checks[0].verdict == "pass"


def test_undecided_is_inconclusive_and_only_strict_stops(reference: Results) -> None:
    floor = measure_noise(reference).floor(
        next(c for c in measure_noise(reference).seed if c.column == "sync_c"), "seed", (2, 2)
    )
    new = make(seed=5, shift={("mouth-warp", "sync_c"): -1.1 * floor / 0.7})
    outcome = judge(new, reference, {**SYNC, "noise": 1})
    assert outcome.checks[0].verdict == "inconclusive"
    assert outcome.checks[0].needed is None or outcome.checks[0].needed > 24
    assert outcome.exit_code() == ExitCode.OK
    assert outcome.exit_code(strict=True) == ExitCode.INCONCLUSIVE


def test_few_identities_still_catch_a_uniform_regression() -> None:
    old = make(seed=1, identities=4, repeats=1)
    new = make(seed=2, identities=4, repeats=1, shift={("mouth-warp", "sync_c"): -2.0})
    check = judge(new, old, {**SYNC, "tolerance": 0.1}).checks[0]
    assert check.verdict == "fail"
    assert "only 4 identities" in check.message


def test_few_identities_are_judged_by_their_noise_floor_when_there_is_one() -> None:
    old = make(seed=1, identities=2, clips_per_identity=2)
    noise = measure_noise(old, old)  # exact reruns: a determinism floor of zero, and a seed floor
    uneven = make(seed=1, identities=2, clips_per_identity=2)

    def worsen(rows: Any) -> Any:
        loss = rows["identity"].map({"id000": 0.5, "id001": 3.0})
        touched = (rows["column"] == "sync_c") & (rows["method"] == "mouth-warp")
        return rows.assign(value=rows["value"] - loss.where(touched, 0.0), clip_sha256=rows["digest"])

    worse = edited(uneven, worsen)
    rules = parse_rules({"rule": [{**SYNC, "tolerance": 0.2}]})
    # Two identities that lost unevenly decide nothing by themselves, but the floor of these clips does.
    assert gate(worse, old, rules).checks[0].verdict == "inconclusive"
    check = gate(worse, old, rules, noise).checks[0]
    assert check.verdict == "fail"
    assert check.basis == "only 2 identities, judged by their noise floor"
    assert gate(make(seed=1, identities=2, clips_per_identity=2), old, rules, noise).checks[0].verdict == "pass"


def test_the_largest_losses_in_tolerances_come_first() -> None:
    methods = {f"m{i}": ("model", ("audio",), 0.5) for i in range(4)}
    shift = {("m0", "sync_c"): -3.0, ("m1", "sync_c"): -6.0, ("m2", "sync_c"): -4.5}
    old = make(seed=1, methods=methods)
    new = without(make(seed=2, methods=methods, shift=shift), method="m3")
    outcome = judge(new, old, {**SYNC, "tolerance": 0.2})
    assert [c.difference.cell.method for c in outcome.checks] == ["m3", "m1", "m2", "m0"]
    assert outcome.checks[0].why.startswith("coverage")


def test_a_new_method_is_neutral(reference: Results) -> None:
    outcome = judge(make(seed=1, methods=fakes.METHODS), reference, {**SYNC, "tolerance": 0.5})
    assert outcome.count("no reference") == 5
    assert outcome.exit_code(strict=True) == ExitCode.OK


def test_a_number_the_reference_never_had_is_missing(reference: Results) -> None:
    partial = without(reference, column="sync_d")
    outcome = judge(reference, partial, {"protocol": "sync/*", "tolerance": 0.5})
    assert outcome.count("missing") == 1
    assert outcome.exit_code() == ExitCode.MISSING


def test_a_changed_protocol_is_missing_not_compared(reference: Results) -> None:
    other = make(seed=1)
    other.provenance["protocols"]["sync/synthetic_v1"]["weights"] = {"syncnet_v2": "0" * 64}
    outcome = judge(other, reference, {**SYNC, "tolerance": 0.5})
    assert outcome.checks[0].verdict == "missing"
    assert "other weights" in outcome.checks[0].why


def test_a_rule_that_matches_nothing_is_missing(reference: Results) -> None:
    outcome = judge(reference, reference, {"protocol": "snyc/synthetic_v1", "tolerance": 0.5})
    assert outcome.exit_code() == ExitCode.MISSING
    assert "matches no number" in outcome.checks[0].why
    assert "Did you mean 'sync/synthetic_v1'?" in outcome.checks[0].why


def test_failure_outranks_missing(reference: Results) -> None:
    new = make(seed=2, shift={("mouth-warp", "sync_c"): -3})
    outcome = judge(new, reference, {"protocol": "none/*", "tolerance": 1}, {**SYNC, "noise": 2})
    assert outcome.exit_code() == ExitCode.GATE_FAILED
    assert [c.verdict for c in outcome.checks] == ["fail", "missing"]


@pytest.mark.parametrize("which", ["lost", "not run", "found", "gone"])
def test_other_coverage_fails_whatever_the_values(reference: Results, which: str) -> None:
    old, new = {
        "lost": (reference, unscored(reference, "clip003_0")),
        "not run": (reference, without(reference, sample="clip003_0")),
        "found": (unscored(reference, "clip003_0"), reference),
        "gone": (reference, without(reference, method="mouth-warp")),
    }[which]
    outcome = judge(new, old, {**SYNC, "tolerance": 5.0})
    assert outcome.exit_code() == ExitCode.GATE_FAILED
    assert outcome.checks[0].why.startswith("coverage")
    if which == "lost":
        assert "1 sample no longer scored (clip003_0: no_face)" in outcome.checks[0].why


def test_intersection_judges_the_common_samples(reference: Results) -> None:
    outcome = judge(unscored(reference, "clip003_0"), reference, {**SYNC, "tolerance": 1.0}, intersection=True)
    assert outcome.checks[0].verdict == "pass"
    assert outcome.checks[0].difference.n == 23


def test_samples_that_fail_on_both_sides_are_equal_coverage(reference: Results) -> None:
    both = unscored(reference, "clip003_0")
    assert judge(both, both, {**SYNC, "tolerance": 1.0}).checks[0].verdict == "pass"


def test_a_lost_repeat_is_lost_coverage(reference: Results) -> None:
    def blank(rows: Any) -> Any:
        where = (rows["sample"] == "clip003_0") & (rows["repeat"] == 1) & (rows["method"] == "mouth-warp")
        rows.loc[where, ["status", "value"]] = ["error", float("nan")]
        return rows

    outcome = judge(edited(reference, blank), reference, {**SYNC, "tolerance": 5.0})
    assert outcome.checks[0].why.startswith("coverage")


def test_nothing_scored_on_either_side_is_missing(reference: Results) -> None:
    def blank(rows: Any) -> Any:
        return rows.assign(status="unscored", reason="missing_weights", value=float("nan"))

    nothing = edited(reference, blank)
    assert judge(nothing, nothing, {**SYNC, "tolerance": 1.0}).checks[0].verdict == "missing"
    assert judge(nothing, reference, {**SYNC, "tolerance": 1.0}).exit_code() == ExitCode.GATE_FAILED


def test_set_metrics_are_judged_by_their_spread() -> None:
    old = fakes.make(seed=1, methods=TWO, protocols=["fid"])
    rule = {"protocol": "fid/*", "tolerance": 3.0}
    worse = fakes.make(seed=2, methods=TWO, protocols=["fid"], shift={("mouth-warp", "fid"): 6})
    alike = fakes.make(seed=3, methods=TWO, protocols=["fid"])
    assert judge(worse, old, rule).checks[0].verdict == "fail"
    assert judge(alike, old, rule).checks[0].verdict == "pass"


def test_controls_are_left_alone_unless_asked_for(reference: Results) -> None:
    rule = {**SYNC, "tolerance": 1.0}
    assert {c.difference.cell.method for c in judge(reference, reference, rule).checks} == {"mouth-warp"}
    both = judge(reference, reference, {**rule, "controls": True})
    assert {c.difference.cell.method for c in both.checks} == {"mouth-warp", "ground-truth"}


def test_a_rule_tighter_than_the_noise_is_refused(reference: Results) -> None:
    with pytest.raises(UsageError, match="tighter than the noise"):
        judge(make(seed=2), reference, {**SYNC, "tolerance": 0.001})


def test_a_noise_rule_needs_a_floor() -> None:
    single = make(seed=1, repeats=1)
    with pytest.raises(MissingError, match="noise floor"):
        judge(single, single, {**SYNC, "noise": 2})


def test_a_determinism_floor_comes_from_a_rerun() -> None:
    first, again = make(seed=1, repeats=1), make(seed=2, repeats=1)
    noise = measure_noise(first, again)
    assert noise.determinism
    assert not noise.seed
    exact = measure_noise(first, first)
    assert set(exact.determinism.values()) == {0.0}
    rules = parse_rules({"rule": [{**SYNC, "noise": 3, "floor": "determinism"}]})
    assert gate(again, first, rules, noise).checks[0].tolerance == pytest.approx(
        3 * next(v for k, v in noise.determinism.items() if k.column == "sync_c" and k.method == "mouth-warp")
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "no rules"),
        ({"rules": []}, "Did you mean 'rule'"),
        ({"rule": [{"protocol": "sync/*"}]}, "one of tolerance"),
        ({"rule": [{"protocol": "sync/*", "tolerance": 1, "noise": 2}]}, "tolerance and noise"),
        ({"rule": [{"tolerance": 1}]}, "names no protocol"),
        ({"rule": [{"protocol": "sync/*", "tolerence": 1}]}, "Did you mean 'tolerance'"),
        ({"rule": [{"protocol": "sync/*", "noise": 0.5}]}, "at least 1"),
        ({"rule": [{"protocol": "sync/*", "tolerance": -1}]}, "at least 0"),
        ({"rule": [{"protocol": "sync/*", "tolerance": True}]}, "at least 0"),
        ({"rule": [{"protocol": 3, "tolerance": 1}]}, "string or a list"),
        ({"rule": [{"protocol": "a", "tolerance": 1, "floor": "sed"}]}, "Did you mean 'seed'"),
        ({"rule": [{"protocol": "a", "tolerance": 1, "controls": "yes"}]}, "controls must be"),
        ({"alpha": 2, "rule": [{"protocol": "a", "tolerance": 1}]}, "alpha"),
        ({"rule": ["sync"]}, "must be a table"),
    ],
)
def test_broken_rules_say_what_is_wrong(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_rules(data)


def test_rules_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no rules file"):
        load_rules(tmp_path / "gate.toml")
    (tmp_path / "gate.toml").write_text("[[rule")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_rules(tmp_path / "gate.toml")


def test_rules_saved_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text('[[rule]]\nprotocol = "sync/*"\ntolerance = 0.1\n', encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert load_rules(path).rule[0].tolerance == 0.1
