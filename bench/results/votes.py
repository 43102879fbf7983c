"""From votes to scores: win rates, Bradley-Terry with ties and side bias, agreement, and metrics against votes.

Bradley & Terry 1952; ties after Davidson 1970, "On extending the Bradley-Terry model to accommodate ties", with
one more parameter for the side a clip was shown on (Davidson & Beaver 1977); Krippendorff 2004, "Content
Analysis", chapter 11.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DRAWS = 1000
FLAGGED_BELOW = 0.75  # share of attention checks answered rightly
MIN_CHECKS = 8
MAJORITY = 0.6
ELO = 400 / math.log(10)


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer.

    Attributes:
        rater: random id.
        sample: which clip.
        question: e.g. `realism`.
        left, right: methods as shown.
        answer: `left`, `right` or `same`.
        check: `left` or `right` when only that answer is right; empty for a real comparison.
    """

    rater: str
    sample: str
    question: str
    left: str
    right: str
    answer: str
    check: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted Bradley-Terry model.

    Attributes:
        methods: in the order of `theta`.
        theta: log strengths, mean 0.
        tie: Davidson's nu; 0 without ties.
        side: log advantage of the left side.
        smoothed: half a win was added to each direction of every compared pair, because the wins alone do not
            connect all methods.
    """

    methods: tuple[str, ...]
    theta: Array
    tie: float
    side: float
    smoothed: bool

    def beats(self, first: str, second: str) -> float:
        """Return the probability that `first` is preferred to `second`, ties aside and without a side."""
        at = {m: i for i, m in enumerate(self.methods)}
        return float(1 / (1 + math.exp(self.theta[at[second]] - self.theta[at[first]])))


def fit(votes: Sequence[Vote]) -> Fit:
    """Fit strengths, ties and side by maximum likelihood.

    Args:
        votes: without attention checks.
    """
    cells = _Cells.of(votes)
    return cells.fit(np.bincount(cells.of_vote, minlength=len(cells.left)).astype(np.float64))


@dataclass(frozen=True, slots=True)
class _Cells:
    """Every (left, right) pair that was shown, and what each vote said about it.

    Cell c stands for pair `left[c]`, `right[c]` and the answer number c % 3: left, right, same.
    """

    methods: tuple[str, ...]
    left: npt.NDArray[np.intp]
    right: npt.NDArray[np.intp]
    of_vote: npt.NDArray[np.intp]

    @classmethod
    def of(cls, votes: Sequence[Vote]) -> _Cells:
        methods = tuple(sorted({m for v in votes for m in (v.left, v.right)}))
        at = {m: i for i, m in enumerate(methods)}
        shown = {(v.left, v.right) for v in votes}
        pairs = sorted(shown | {(b, a) for a, b in shown})
        place = {pair: i for i, pair in enumerate(pairs)}
        answers = {"left": 0, "right": 1, "same": 2}
        of_vote = np.array([3 * place[v.left, v.right] + answers[v.answer] for v in votes], np.intp)
        left, right = (np.repeat([at[pair[side]] for pair in pairs], 3) for side in (0, 1))
        return cls(methods, left, right, of_vote)

    def fit(self, counts: Array, start: Array | None = None) -> Fit:
        """Fit the model to counts per cell, from the parameters of another fit where there is one."""
        n = len(self.methods)
        smoothed = not self._connected(counts)
        if smoothed:
            counts = counts + np.where(np.arange(len(counts)) % 3 < 2, 0.25, 0.0)
        left, right = self.left[::3], self.right[::3]
        won, lost, tied = counts.reshape(-1, 3).T
        total = won + lost + tied
        ties, sides = (
            bool(tied.any()),
            len({(a, b) for a, b in zip(left[total > 0], right[total > 0], strict=True)}),
        )
        both_sides = sides > len({frozenset(p) for p in zip(left[total > 0], right[total > 0], strict=True)})

        # A multinomial logit: the log weight of each option is linear in strengths, side and tie.
        pairs, options = len(left), np.zeros((len(left), 3, n + 2))
        at = np.arange(pairs)
        options[at, 0, left], options[at, 1, right] = 1, 1
        options[:, 0, n] = both_sides
        options[:, 2] = (options[:, 0] + options[:, 1]) / 2
        options[:, 2, n + 1] = 1
        possible = np.array([0.0, 0.0, 0.0 if ties else -np.inf])
        centre = np.append(np.full(n, 1 / n), (0, 0))
        x = np.zeros(n + 2) if start is None else start.copy()
        for _ in range(100):
            utility = options @ x + possible
            p = np.exp(utility - utility.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            mean = np.einsum("ko,koj->kj", p, options)
            slope = total @ mean - np.einsum("ko,koj->j", np.stack([won, lost, tied], axis=1), options)
            bend = np.einsum("k,ko,koi,koj->ij", total, p, options, options) - (mean * total[:, None]).T @ mean
            # The free constant of the strengths is held at zero; parameters nobody can tell are left alone.
            slope = slope + (centre @ x) * centre
            bend = bend + np.outer(centre, centre) + 1e-9 * np.eye(n + 2)
            step = np.linalg.solve(bend, slope)
            x = x - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
            if np.abs(step).max() < 1e-9:
                break
        theta = x[:n] - x[:n].mean()
        return Fit(self.methods, theta, math.exp(x[n + 1]) if ties else 0.0, float(x[n]) * both_sides, smoothed)

    def _connected(self, counts: Array) -> bool:
        """Tell whether every method leads to every other by wins and ties; only then is there a finite maximum."""
        n = len(self.methods)
        beats = np.eye(n, dtype=bool)
        won, lost, tied = counts.reshape(-1, 3).T
        left, right = self.left[::3], self.right[::3]
        for chosen, a, b in ((won + tied > 0, left, right), (lost + tied > 0, right, left)):
            beats[a[chosen], b[chosen]] = True
        for _ in range(max(1, n.bit_length())):
            beats = (beats.astype(np.int64) @ beats) > 0
        return bool(beats.all())


def wilson(wins: float, count: float, level: float = 1.959963984540054) -> tuple[float, float]:
    """Return Wilson's interval of a share."""
    if not count:
        return 0.0, 1.0
    share, z = wins / count, level**2 / count
    middle = (share + z / 2) / (1 + z)
    half = level / (1 + z) * math.sqrt(share * (1 - share) / count + z / (4 * count))
    return middle - half, middle + half


def krippendorff(units: Iterable[Sequence[float]], interval: bool = False) -> float:
    """Return Krippendorff's alpha; NaN when nothing was answered twice or nothing varies.

    Args:
        units: the answers to each unit, as numbers; units with one answer do not count.
        interval: distances are squared differences instead of equal or not.
    """
    pairs: Counter[tuple[float, float]] = Counter()
    for answers in units:
        m = len(answers)
        if m < 2:
            continue
        for i, a in enumerate(answers):
            for j, b in enumerate(answers):
                if i != j:
                    pairs[float(a), float(b)] += 1 / (m - 1)  # type: ignore[assignment]
    marginal: Counter[float] = Counter()
    for (a, _), n in pairs.items():
        marginal[a] += n
    total = sum(marginal.values())

    def apart(a: float, b: float) -> float:
        return (a - b) ** 2 if interval else float(a != b)

    observed = sum(n * apart(a, b) for (a, b), n in pairs.items()) / total if total else math.nan
    expected = sum(n * m * apart(a, b) for a, n in marginal.items() for b, m in marginal.items())
    expected = expected / (total * (total - 1)) if total > 1 else 0.0
    return 1 - observed / expected if expected else math.nan


def agreement(votes: Sequence[Vote]) -> float:
    """Return alpha over units (sample, question, pair), the answers taken as names; sides do not matter."""
    units: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for v in votes:
        first, second = sorted((v.left, v.right))
        code = {"left": 1.0, "right": -1.0, "same": 0.0}[v.answer]
        units[v.sample, v.question, first, second].append(code if v.left == first else -code)
    return krippendorff(units.values())


def flagged(votes: Sequence[Vote]) -> dict[str, float]:
    """Return the raters who failed more than a quarter of at least eight attention checks, with their share."""
    checks: dict[str, list[bool]] = defaultdict(list)
    for vote in votes:
        if vote.check:
            checks[vote.rater].append(vote.answer == vote.check)
    shares = {rater: sum(right) / len(right) for rater, right in checks.items() if len(right) >= MIN_CHECKS}
    return {rater: share for rater, share in sorted(shares.items()) if share < FLAGGED_BELOW}


@dataclass(frozen=True, slots=True)
class Standing:
    """One method's place.

    Attributes:
        method: its name.
        theta, low, high: log strength with its 95 % interval; mean 0 over methods.
        elo: 1500 + 400 log10 of the strength.
        rank, rank_low, rank_high: 1 is best.
        wins, count: votes won (a tie is half) and seen.
    """

    method: str
    theta: float
    low: float
    high: float
    elo: float
    rank: int
    rank_low: int
    rank_high: int
    wins: float
    count: int


@dataclass(frozen=True, slots=True)
class Scored:
    """What the votes on one question say."""

    question: str
    standings: tuple[Standing, ...]
    fit: Fit
    alpha: float
    raters: int
    votes: int
    ties: int
    side: tuple[float, float]
    flagged: Mapping[str, float]
    pairs: Mapping[tuple[str, str], tuple[float, int]]
    metrics: tuple[Agreement, ...] = field(default=())


def score(votes: Sequence[Vote], question: str, seed: int = 0, draws: int = DRAWS) -> Scored:
    """Rank methods by the votes on one question.

    Intervals are percentiles over `draws` resamples of raters and of samples at once: a vote weighs the product of
    how often its rater and its sample were drawn. So they hold for other raters and for other clips.

    Args:
        votes: all of them, attention checks included.
        question: which ones to look at.
        seed: of the resamples.
        draws: number of resamples.
    """
    asked = [v for v in votes if v.question == question]
    real = [v for v in asked if not v.check]
    cells = _Cells.of(real)
    size = len(cells.left)
    model = cells.fit(np.bincount(cells.of_vote, minlength=size).astype(np.float64))
    start = np.array([*model.theta, model.side, math.log(model.tie) if model.tie else 0.0])
    raters, rater_of = np.unique([v.rater for v in real], return_inverse=True)
    samples, sample_of = np.unique([v.sample for v in real], return_inverse=True)
    rng = np.random.default_rng(seed)
    thetas, sides = [], []
    for _ in range(draws):
        a = rng.multinomial(len(raters), np.full(len(raters), 1 / len(raters)))
        b = rng.multinomial(len(samples), np.full(len(samples), 1 / len(samples)))
        weights = (a[rater_of] * b[sample_of]).astype(np.float64)
        if weights.any():
            drawn = cells.fit(np.asarray(np.bincount(cells.of_vote, weights, size), np.float64), start)
            thetas.append(drawn.theta)
            sides.append(drawn.side)
    table = np.array(thetas)
    ranks = (-table).argsort(axis=1).argsort(axis=1) + 1
    own = (-model.theta).argsort().argsort() + 1
    wins, seen, pairs = _tally(real)
    standings = [
        Standing(
            method=m,
            theta=float(model.theta[i]),
            low=float(np.percentile(table[:, i], 2.5)),
            high=float(np.percentile(table[:, i], 97.5)),
            elo=1500 + ELO * float(model.theta[i]),
            rank=int(own[i]),
            rank_low=int(np.percentile(ranks[:, i], 2.5, method="nearest")),
            rank_high=int(np.percentile(ranks[:, i], 97.5, method="nearest")),
            wins=wins[m],
            count=seen[m],
        )
        for i, m in enumerate(model.methods)
    ]
    low, high = np.percentile(sides, [2.5, 97.5])
    return Scored(
        question,
        tuple(sorted(standings, key=lambda s: s.rank)),
        model,
        agreement(real),
        len(raters),
        len(real),
        sum(v.answer == "same" for v in real),
        (float(low), float(high)),
        flagged(asked),
        pairs,
    )


def _tally(votes: Sequence[Vote]) -> tuple[Counter[str], Counter[str], dict[tuple[str, str], tuple[float, int]]]:
    wins: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    pairs: dict[tuple[str, str], tuple[float, int]] = {}
    for v in votes:
        part = {"left": 1.0, "right": 0.0, "same": 0.5}[v.answer]
        for method, share, other in ((v.left, part, v.right), (v.right, 1 - part, v.left)):
            wins[method] += share  # type: ignore[assignment]
            seen[method] += 1
            won, count = pairs.get((method, other), (0.0, 0))
            pairs[method, other] = won + share, count + 1
    return wins, seen, pairs


@dataclass(frozen=True, slots=True)
class Agreement:
    """One metric against the votes.

    Attributes:
        protocol, column, label: which number.
        spearman, kendall: over methods, signed so that 1 is full agreement; NaN below three methods.
        accuracy, low, high: share of decided pairs of clips in which the metric prefers what the majority does,
            with its interval over samples; `pairs` of them.
        beyond, beyond_pairs: the same among pairs whose values differ by more than the noise floor; NaN without.
    """

    protocol: str
    column: str
    label: str
    spearman: float
    kendall: float
    accuracy: float
    low: float
    high: float
    pairs: int
    beyond: float
    beyond_pairs: int


def compare(
    votes: Sequence[Vote],
    scored: Scored,
    values: Mapping[tuple[str, str], Mapping[tuple[str, str], float]],
    about: Mapping[tuple[str, str], Mapping[str, Any]],
    floors: Mapping[str, Mapping[str, float]],
    exclude: Sequence[str] = (),
    seed: int = 0,
) -> tuple[Agreement, ...]:
    """Hold metrics against votes.

    Args:
        votes: of the question.
        scored: what they say, see `score`.
        values: for (protocol, column) the value of (method, sample).
        about: label and direction of each column; those without a direction are left out.
        floors: by `protocol|column`, see `bench.results.floors.floors`.
        exclude: methods that do not count over methods, such as the ground truth.
        seed: of the intervals.
    """
    from scipy.stats import kendalltau, spearmanr

    decided = _decided(votes)
    strength = {s.method: s.theta for s in scored.standings if s.method not in exclude}
    found = []
    for key, table in values.items():
        sign = {"higher": 1.0, "lower": -1.0}.get(str(about[key].get("direction")))
        if sign is None:
            continue
        means = {m: np.mean([v for (who, _), v in table.items() if who == m]) for m in {who for who, _ in table}}
        common = [m for m in strength if m in means]
        rho = tau = math.nan
        if len(common) > 2:
            x, y = [sign * means[m] for m in common], [strength[m] for m in common]
            if np.ptp(x) > 0 and np.ptp(y) > 0:
                rho, tau = float(spearmanr(x, y).statistic), float(kendalltau(x, y).statistic)
        floor = float(floors.get("|".join(key), {}).get("same", math.nan))
        hits: dict[str, list[float]] = defaultdict(list)
        beyond: list[float] = []
        for (sample, better, worse), _ in decided.items():
            gap = sign * (table.get((better, sample), math.nan) - table.get((worse, sample), math.nan))
            if math.isnan(gap):
                continue
            hit = 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0
            hits[sample].append(hit)
            if abs(gap) > floor:
                beyond.append(hit)
        every = [h for group in hits.values() for h in group]
        low, high = _clustered(hits, seed)
        found.append(
            Agreement(
                *key,
                str(about[key].get("label", key[1])),
                rho,
                tau,
                float(np.mean(every)) if every else math.nan,
                low,
                high,
                len(every),
                float(np.mean(beyond)) if beyond else math.nan,
                len(beyond),
            )
        )
    return tuple(sorted(found, key=lambda a: (math.isnan(a.accuracy), -a.accuracy)))


def _decided(votes: Sequence[Vote]) -> dict[tuple[str, str, str], float]:
    """Return (sample, preferred, other) of pairs with a majority of 60 %, and the share."""
    share: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for v in votes:
        if v.check:
            continue
        first, second = sorted((v.left, v.right))
        part = {"left": 1.0, "right": 0.0, "same": 0.5}[v.answer]
        share[v.sample, first, second].append(part if v.left == first else 1 - part)
    found = {}
    for (sample, first, second), parts in share.items():
        mean = float(np.mean(parts))
        if mean >= MAJORITY:
            found[sample, first, second] = mean
        elif mean <= 1 - MAJORITY:
            found[sample, second, first] = 1 - mean
    return found


def _clustered(groups: Mapping[str, Sequence[float]], seed: int) -> tuple[float, float]:
    """Return the interval of a mean by resampling samples."""
    if len(groups) < 2:
        return math.nan, math.nan
    sums, counts = (np.array([f(g) for g in groups.values()], float) for f in (sum, len))
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), DRAWS)
    low, high = np.percentile((draws @ sums) / (draws @ counts), [2.5, 97.5])
    return float(low), float(high)
