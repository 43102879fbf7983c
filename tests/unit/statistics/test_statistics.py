"""Intervals cover, tests keep their level, seeds decide everything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.results import statistics as st


def simulated(generator: np.random.Generator, groups: int, mean: float = 0.0) -> st.Clusters:
    """Clustered normal data: one to three values per identity, correlated within the identity."""
    owners = np.repeat(np.arange(groups), generator.integers(1, 4, groups))
    values = mean + generator.normal(0, 1, groups)[owners] + generator.normal(0, 0.5, len(owners))
    return st.clusters(values, owners)


@pytest.mark.parametrize("groups", [10, 24, 60])
def test_intervals_cover_the_truth_as_often_as_they_say(groups: int) -> None:
    generator = np.random.default_rng(groups)
    batch = [(simulated(generator, groups), n) for n in range(1200)]
    bootstrap = np.mean([i.low <= 0 <= i.high for i in st.bootstrap(batch)])
    closed = np.mean([i.low <= 0 <= i.high for i in (st.clustered_t(d) for d, _ in batch)])
    # Three standard errors of a share of 0.95 over 1200 draws are 0.019.
    assert 0.928 <= bootstrap <= 0.972
    assert 0.928 <= closed <= 0.972


def test_bootstrap_agrees_with_the_closed_form_for_many_identities() -> None:
    data = simulated(np.random.default_rng(3), 200, mean=5.0)
    a, b = st.interval(data, seed=1), st.clustered_t(data)
    assert a.method == "bootstrap"
    assert a.low == pytest.approx(b.low, abs=0.08 * b.half)
    assert a.high == pytest.approx(b.high, abs=0.08 * b.half)


def test_one_value_per_identity_gives_the_textbook_t_interval() -> None:
    values = np.random.default_rng(0).normal(2, 3, 15)
    expected = stats.t.interval(0.95, 14, loc=values.mean(), scale=stats.sem(values))
    found = st.clustered_t(st.clusters(values, range(15)))
    assert (found.low, found.high) == pytest.approx(expected)


def test_clusters_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0, 1, 30), 4)
    clustered = st.interval(st.clusters(values, np.repeat(np.arange(30), 4)), 0)
    naive = st.interval(st.clusters(values, np.arange(120)), 0)
    assert clustered.half > 1.6 * naive.half


def test_the_seed_decides_and_the_batch_does_not() -> None:
    generator = np.random.default_rng(5)
    batch = [(simulated(generator, 20), n) for n in range(7)]
    together = st.bootstrap(batch)
    alone = [st.interval(d, s) for d, s in batch]
    assert [i.low for i in together] == pytest.approx([i.low for i in alone], rel=1e-12)
    assert [i.high for i in together] == pytest.approx([i.high for i in alone], rel=1e-12)
    assert st.interval(batch[0][0], 1).low != st.interval(batch[0][0], 2).low


@pytest.mark.parametrize("same", [True, False], ids=["as-many-clips", "other-numbers-of-clips"])
def test_intervals_are_the_same_when_resamples_are_worked_on_in_parts(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(9)
    values = generator.normal(0, 1, (12, 20))
    even = [(st.clusters(row, range(20)), n) for n, row in enumerate(values)]
    batch = even if same else [*even, (simulated(generator, 20), 3), (simulated(generator, 20), 4)]
    whole, tested = st.bootstrap(batch), [st.sign_flip(data, seed) for data, seed in batch]
    st._multiplicities.cache_clear()
    monkeypatch.setattr(st, "BLOCK", 5 * st.RESAMPLES + 7)
    parts = st.bootstrap(batch)
    assert [i.low for i in parts] == pytest.approx([i.low for i in whole], rel=1e-12)
    assert [i.high for i in parts] == pytest.approx([i.high for i in whole], rel=1e-12)
    assert [st.sign_flip(data, seed) for data, seed in batch] == tested


def test_too_few_identities_are_said_and_get_the_t_interval() -> None:
    found = st.interval(st.clusters([1.0, 2.0, 4.0], ["a", "b", "c"]), 0)
    assert found.too_few
    assert found.method == "clustered-t"
    alone = st.interval(st.clusters([1.0, 2.0], ["a", "a"]), 0)
    assert alone.method == "none"
    assert math.isnan(alone.half)


def test_seed_does_not_depend_on_order() -> None:
    assert st.seed_from(["b", "a"]) == st.seed_from(["a", "b"]) != st.seed_from(["a", "c"])


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_sign_flip_matches_scipy_exactly(alternative: str) -> None:
    values = np.random.default_rng(2).normal(0.4, 1, 9)

    def statistic(x: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(np.sum(x, axis=axis)) if alternative == "two-sided" else np.sum(x, axis=axis)

    oracle = stats.permutation_test(
        (values,), statistic, permutation_type="samples", n_resamples=np.inf, alternative="greater"
    )
    assert st.sign_flip(st.clusters(values, range(9)), 0, alternative) == pytest.approx(oracle.pvalue)


def test_drawn_sign_flips_approach_the_t_test() -> None:
    values = np.random.default_rng(8).normal(0.3, 1, 60)
    expected = stats.ttest_1samp(values, 0).pvalue
    assert st.sign_flip(st.clusters(values, range(60)), 0) == pytest.approx(expected, abs=0.012)


def test_tests_keep_their_level() -> None:
    generator = np.random.default_rng(11)
    p = [st.p_value(simulated(generator, 16), n, "greater") for n in range(600)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_few_identities_use_the_t_test(alternative: str) -> None:
    values = [0.2, 0.9, 0.4, 0.7]
    expected = stats.ttest_1samp(values, 0, alternative=alternative).pvalue
    assert st.p_value(st.clusters(values, range(4)), 0, alternative) == pytest.approx(expected)
    assert st.p_value(st.clusters([1.0], ["a"]), 0) == 1.0


def test_constant_differences_are_certain_and_zero_ones_are_not() -> None:
    assert st.t_test(st.clusters([1.0, 1.0, 1.0], "abc")) == 0.0
    assert st.t_test(st.clusters([0.0, 0.0, 0.0], "abc")) == 1.0
    assert st.t_test(st.clusters([-1.0, -1.0], "ab"), "greater") == 1.0


def test_holm_against_a_worked_example() -> None:
    # Holm (1979) steps: 4 x .005, 3 x .01, 2 x .03, then the running maximum.
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([0.9, 0.8]) == [1.0, 1.0]
    assert st.holm([]) == []


def test_holm_keeps_the_family_error() -> None:
    p = np.random.default_rng(0).uniform(size=(2000, 8))
    wrong = np.mean([min(st.holm(list(row))) <= 0.05 for row in p])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_normal_p_reads_the_interval() -> None:
    assert st.normal_p(1.96, 1.96) == pytest.approx(2 * stats.norm.sf(1.96), rel=1e-3)
    assert st.normal_p(-1.0, 1.0, alternative="greater") > 0.97
    assert st.normal_p(1.0, math.nan) == 1.0
    assert st.normal_p(1.0, 0.0) == 0.0
    assert st.normal_p(0.0, 0.0) == 1.0


def test_seed_noise_is_the_spread_of_a_difference_of_two_runs() -> None:
    generator = np.random.default_rng(4)
    level = generator.normal(0, 5, 40)
    means = [np.mean(level + generator.normal(0, 0.8, 40)) for _ in range(4000)]
    observed = np.std(np.diff(means)[::2])
    estimate = np.mean([st.seed_noise(level[:, None] + generator.normal(0, 0.8, (40, 3))) for _ in range(50)])
    assert estimate == pytest.approx(observed, rel=0.06)
    assert math.isnan(st.seed_noise([[1.0], [2.0]]))


def test_rerun_noise_is_zero_only_for_an_exact_rerun() -> None:
    assert st.rerun_noise([0.0, 0.0]) == 0.0
    assert st.rerun_noise([0.1, 0.1, 0.1]) == pytest.approx(0.1)
    assert st.rerun_noise([0.1, -0.1, 0.1, -0.1]) == pytest.approx(0.05)
    assert math.isnan(st.rerun_noise([]))


def test_clusters_needed_follows_the_square_root_law() -> None:
    assert st.clusters_needed(24, half_width=0.2, margin=0.1) == 96
    assert st.clusters_needed(24, half_width=0.2, margin=0.0) is None
    assert st.clusters_needed(24, half_width=math.nan, margin=0.1) is None


def test_empty_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        st.clusters([], [])
