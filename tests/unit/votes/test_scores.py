"""Votes: published vectors, planted orders that come back, and intervals that cover."""

import itertools
import math

import numpy as np
import pytest

from bench.results.votes import Vote, agreement, compare, fit, flagged, krippendorff, score, wilson


def pairs(wins):
    """Votes from `{(winner, loser): count}`, each side half of the time."""
    made = []
    for (a, b), count in wins.items():
        for i in range(count):
            for left, right in ((a, b), (b, a)):
                made.append(Vote(f"r{i}", f"s{i}", "q", left, right, "left" if left == a else "right"))
    return made


def simulated(strength, raters, samples, seed, side=0.0, tie=0.0, careless=0):
    """Votes of raters who follow Bradley-Terry; the last `careless` of them do not look."""
    rng = np.random.default_rng(seed)
    methods = sorted(strength)
    votes = []
    for rater in range(raters):
        for sample in range(samples):
            a, b = rng.permutation(methods)[:2]
            x, y = strength[a] + side, strength[b]
            mass = np.exp([x, y, math.log(tie) + (x + y) / 2 if tie else -np.inf])
            answer = rng.choice(["left", "right", "same"], p=mass / mass.sum())
            blind = rater >= raters - careless
            if blind:
                answer = rng.choice(["left", "right"])
            votes.append(Vote(f"r{rater}", f"s{sample}", "q", str(a), str(b), str(answer)))
            if sample % 2:
                right = rng.choice(["left", "right"])
                given = rng.choice(["left", "right"]) if blind else right
                votes.append(Vote(f"r{rater}", f"s{sample}", "q", "x", "y", str(given), str(right)))
    return votes


def test_bradley_terry_of_three():
    wins = {("A", "B"): 8, ("B", "A"): 2, ("A", "C"): 9, ("C", "A"): 1, ("B", "C"): 7, ("C", "B"): 3}
    found = fit(pairs(wins))
    assert found.theta == pytest.approx([1.197219, -0.178859, -1.018360], abs=1e-4)
    assert found.beats("A", "B") == pytest.approx(0.798360, abs=1e-5)
    assert not found.smoothed


def test_unanimous_votes_have_a_finite_answer():
    found = fit(pairs({("A", "B"): 10, ("B", "C"): 10}))
    assert found.smoothed and np.isfinite(found.theta).all()
    assert found.theta[0] > found.theta[1] > found.theta[2]


def test_side_and_ties_are_recovered():
    strength = {"a": 1.0, "b": 0.0, "c": -1.0}
    votes = [v for v in simulated(strength, 60, 60, seed=1, side=0.5, tie=0.8) if not v.check]
    found = fit(votes)
    assert found.theta == pytest.approx([1, 0, -1], abs=0.15)
    assert found.side == pytest.approx(0.5, abs=0.12)
    assert found.tie == pytest.approx(0.8, abs=0.12)


def test_wilson_of_small_counts():
    assert wilson(15, 23) == pytest.approx((0.449, 0.812), abs=1e-3)
    assert wilson(23, 23) == pytest.approx((0.857, 1), abs=1e-3)


def test_alpha_of_the_textbook():
    nan = math.nan
    raters = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    units = [[v for v in column if not math.isnan(v)] for column in zip(*raters, strict=True)]
    assert krippendorff(units) == pytest.approx(0.743, abs=1e-3)
    assert krippendorff(units, interval=True) == pytest.approx(0.849, abs=1e-3)


def test_alpha_of_full_and_no_agreement():
    assert math.isnan(agreement([Vote("r", "s", "q", "A", "B", "left")]))  # nobody answered twice
    same = [Vote(f"r{i}", f"s{k}", "q", "A", "B", "left" if k else "right") for i in range(5) for k in range(2)]
    assert agreement(same) == 1
    rng = np.random.default_rng(0)
    noise = [
        Vote(f"r{i}", f"s{k}", "q", "A", "B", rng.choice(["left", "right"])) for i in range(20) for k in range(30)
    ]
    assert abs(agreement(noise)) < 0.05


def test_alpha_does_not_depend_on_the_side():
    one = [Vote("r1", "s", "q", "A", "B", "left"), Vote("r2", "s", "q", "B", "A", "right")]
    more = [Vote("r1", "t", "q", "A", "B", "right"), Vote("r2", "t", "q", "A", "B", "right")]
    assert agreement(one + more) == 1


def test_planted_order_comes_back_with_intervals_that_cover():
    strength = {"a": 0.9, "b": 0.3, "c": -0.3, "d": -0.9}
    covered = []
    for seed in range(8):
        found = score(simulated(strength, 12, 14, seed), "q", draws=100)
        covered += [s.low <= strength[s.method] <= s.high for s in found.standings]
    assert np.mean(covered) > 0.9  # 95 % intervals
    found = score(simulated(strength, 30, 30, 99), "q", draws=40)
    assert [s.method for s in found.standings] == ["a", "b", "c", "d"]
    assert all(s.rank_low <= s.rank <= s.rank_high for s in found.standings)
    assert found.side[0] < 0 < found.side[1]


def test_careless_raters_are_flagged_and_nobody_else():
    votes = simulated({"a": 1, "b": 0}, 10, 40, seed=3, careless=2)
    assert set(flagged(votes)) == {"r8", "r9"}


def test_a_metric_that_follows_the_votes_is_told_from_one_that_does_not():
    strength = {"a": 2.0, "b": 0.7, "c": -0.7, "d": -2.0}
    votes = simulated(strength, 40, 20, seed=5)
    found = score(votes, "q", draws=20)
    rng = np.random.default_rng(0)
    cells = list(itertools.product(strength, [f"s{i}" for i in range(20)]))
    values = {
        ("good", "x"): {c: strength[c[0]] + rng.normal(0, 0.2) for c in cells},
        ("bad", "x"): {c: rng.normal() for c in cells},
        ("turned", "x"): {c: -strength[c[0]] for c in cells},
        ("aimless", "x"): dict.fromkeys(cells, 0.0),
    }
    about = {k: {"label": k[0], "direction": "higher"} for k in values}
    about["turned", "x"]["direction"] = "lower"
    about["aimless", "x"]["direction"] = "none"
    result = {a.protocol: a for a in compare(votes, found, values, about, {"good|x": {"same": 3.0}})}
    assert set(result) == {"good", "bad", "turned"}
    assert result["good"].spearman == 1 and result["turned"].spearman == 1
    assert result["good"].accuracy > 0.9 > result["bad"].accuracy
    assert result["good"].low <= result["good"].accuracy <= result["good"].high
    assert result["good"].beyond == 1.0 and result["good"].beyond_pairs < result["good"].pairs
    assert (
        compare(votes, found, values, about, {}, exclude=["a", "b"])[0].spearman != 1
    )  # two methods are no order
