"""Intervals, tests and noise floors for scores that are clustered by identity.

Several clips of one person are not independent, so every interval and test here works on clusters: one
cluster is one identity, reduced to the sum of its values and their number. Everything random is seeded by
the caller from the digests of the rows it describes, so the same rows always give the same interval.

Sources: Cameron & Miller (2015), "A Practitioner's Guide to Cluster-Robust Inference" (clustered t);
Hesterberg (2015), "What Teachers Should Know About the Bootstrap", §4.4 (expanded percentile interval);
Phipson & Smyth (2010) (Monte Carlo p-values are never zero); Holm (1979).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, ndtr, ndtri, stdtr, stdtrit

RESAMPLES = 10_000
MIN_CLUSTERS = 10
EXACT_CLUSTERS = 14  # 2^14 sign patterns; above it the sign-flip test draws RESAMPLES of them
BLOCK = 2_000_000  # numbers of a table of resamples that are worked on at a time: 16 MB

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Values reduced per identity.

    Attributes:
        sums: sum of the values of each identity, float64 (G,).
        counts: number of values of each identity, float64 (G,), all >= 1.
    """

    sums: Array
    counts: Array

    def __len__(self) -> int:
        return len(self.sums)

    @cached_property
    def mean(self) -> float:
        """The mean over values (not over identities): what a table prints."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def residuals(self) -> Array:
        """Per-identity sums of deviations from the mean (G,)."""
        return self.sums - self.mean * self.counts


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval and where it came from.

    Attributes:
        low, high: the ends, in the unit of the values; NaN when there is none (a single identity).
        method: `bootstrap`, `clustered-t` (fewer than 10 identities: indicative only) or `none`.
        clusters: number of identities behind it.
    """

    low: float
    high: float
    method: str
    clusters: int

    @property
    def half(self) -> float:
        """Half the width, NaN when there is no interval."""
        return (self.high - self.low) / 2

    @property
    def too_few(self) -> bool:
        """Fewer than ten identities: no resampling interval is worth printing."""
        return self.clusters < MIN_CLUSTERS


def clusters(values: Iterable[float], identities: Iterable[object]) -> Clusters:
    """Group finite `values` (n,) by `identities` (n,); clusters come in sorted order of identity."""
    return grouped(np.asarray(list(values), dtype=np.float64), codes_of(identities))


def codes_of(identities: Iterable[object]) -> npt.NDArray[np.int64]:
    """Return the number of each of `identities` (n,) among the sorted distinct ones."""
    return np.unique(np.asarray([str(i) for i in identities]), return_inverse=True)[1].astype(np.int64)


def grouped(values: Array, codes: npt.NDArray[np.int64]) -> Clusters:
    """Group finite `values` (n,) by `codes` (n,), what `codes_of` returns of their identities."""
    if len(values) == 0:
        raise ValueError("clusters need at least one value")
    sums = np.asarray(np.bincount(codes, weights=values), dtype=np.float64)
    return Clusters(sums, np.bincount(codes).astype(np.float64))


def seed_from(digests: Iterable[str]) -> int:
    """Return a 64-bit seed that depends on the set of row digests and not on their order."""
    joined = "\n".join(sorted(digests))
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:8], "big")


def standard_error(data: Clusters) -> float:
    """Return the cluster-robust standard error of the mean with the G/(G-1) factor; NaN for G < 2."""
    groups = len(data)
    if groups < 2:
        return math.nan
    variance = groups / (groups - 1) * float((data.residuals**2).sum())
    return math.sqrt(variance) / float(data.counts.sum())


def clustered_t(data: Clusters, level: float = 0.95) -> Interval:
    """Return the closed-form interval: mean ± t(G-1) x clustered standard error."""
    groups = len(data)
    if groups < 2:
        return Interval(math.nan, math.nan, "none", groups)
    half = float(stdtrit(groups - 1, (1 + level) / 2)) * standard_error(data)
    return Interval(data.mean - half, data.mean + half, "clustered-t", groups)


def bootstrap(batch: Sequence[tuple[Clusters, int]], level: float = 0.95) -> list[Interval]:
    """Return a cluster-bootstrap interval for every (clusters, seed) of a batch.

    10 000 resamples of identities each. The percentile interval is expanded so that it has the width of
    the t interval when the bootstrap distribution is normal (the plain one is too short by
    sqrt((G-1)/G) and by z/t). With fewer than ten identities the clustered t interval is returned.

    Identities resampled with replacement have multinomial multiplicities, which are exchangeable, so one
    table of multiplicities per number of identities serves every cell: its own seed only decides which
    identity takes which column. That makes hundreds of intervals cost one matrix product. The table takes
    10 KB an identity, and what is made of it is as large as `BLOCK` however many rows there are.
    """
    result: dict[int, Interval] = {}
    by_size: dict[int, list[int]] = {}
    for index, (data, _) in enumerate(batch):
        if len(data) >= MIN_CLUSTERS:
            by_size.setdefault(len(data), []).append(index)
        else:
            result[index] = clustered_t(data, level)
    for groups, indices in sorted(by_size.items()):
        multiplicity = _multiplicities(groups)
        tail = float(ndtr(-math.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 + level) / 2)))
        width = BLOCK // RESAMPLES
        for start in range(0, len(indices), width):
            part = indices[start : start + width]
            low, high = _expanded_percentiles([batch[i] for i in part], multiplicity, tail)
            for row, i in enumerate(part):
                mean = batch[i][0].mean
                result[i] = Interval(mean + low[row], mean + high[row], "bootstrap", groups)
    return [result[index] for index in range(len(batch))]


def _expanded_percentiles(
    batch: Sequence[tuple[Clusters, int]], multiplicity: npt.NDArray[np.uint8], tail: float
) -> tuple[list[float], list[float]]:
    """Return the lower and upper percentiles of the resampled means, relative to each mean."""
    groups = len(multiplicity)
    # Where all identities have as many clips, so has every resample, and only sums are resampled.
    uneven = [row for row, (data, _) in enumerate(batch) if data.counts.min() < data.counts.max()]
    sizes = np.array([[data.counts.sum()] for data, _ in batch])
    # Deviations, not values, so that a large level does not eat the digits of a small spread.
    table = np.empty((len(batch) + len(uneven), groups), dtype=np.float64)
    orders = [np.random.default_rng(seed).permutation(groups) for _, seed in batch]
    for row, (data, _) in enumerate(batch):
        table[row] = data.residuals[orders[row]]
    for place, row in enumerate(uneven, start=len(batch)):
        table[place] = batch[row][0].counts[orders[row]]
    means = np.empty((len(batch), RESAMPLES), dtype=np.float64)
    for part in _blocks(groups):
        product = table @ multiplicity[:, part].astype(np.float64)
        np.divide(product[: len(batch)], sizes, out=means[:, part])
        means[uneven, part] = product[uneven] / product[len(batch) :]
    position = tail * (RESAMPLES - 1)
    lower, upper = math.floor(position), math.ceil(position)
    kth = sorted({lower, upper, RESAMPLES - 1 - lower, RESAMPLES - 1 - upper})
    means.partition(kth, axis=1)
    share = position - lower
    low = (1 - share) * means[:, lower] + share * means[:, upper]
    high = (1 - share) * means[:, RESAMPLES - 1 - lower] + share * means[:, RESAMPLES - 1 - upper]
    return [float(x) for x in low], [float(x) for x in high]


def _blocks(groups: int) -> Iterator[slice]:
    """Yield the resamples in parts, so that a table over `groups` identities has at most `BLOCK` numbers."""
    step = max(1, BLOCK // groups)
    yield from (slice(start, min(start + step, RESAMPLES)) for start in range(0, RESAMPLES, step))


@lru_cache(maxsize=2)
def _multiplicities(groups: int) -> npt.NDArray[np.uint8]:
    """Return how often each of `groups` identities occurs in each resample, (G, RESAMPLES)."""
    generator = np.random.default_rng([groups, RESAMPLES])
    found = np.empty((groups, RESAMPLES), dtype=np.uint8)
    shares = np.full(groups, 1 / groups)
    for part in _blocks(groups):
        found[:, part] = generator.multinomial(groups, shares, size=part.stop - part.start).T
    return found


def interval(data: Clusters, seed: int, level: float = 0.95) -> Interval:
    """Return the interval of one mean; see `bootstrap`."""
    return bootstrap([(data, seed)], level)[0]


def sign_flip(data: Clusters, seed: int, alternative: str = "two-sided") -> float:
    """Return the p-value of the sign-flip test that the mean of paired differences is zero.

    Under the null every identity's summed difference is as likely with either sign. All 2^G patterns
    are enumerated up to 14 identities; above that 10 000 patterns are drawn and (b+1)/(m+1) returned.

    Args:
        data: paired differences per identity.
        seed: for the drawn patterns.
        alternative: `two-sided`, or `greater` (the mean is above zero).
    """
    sums = data.sums
    groups = len(sums)
    observed = float(sums.sum())
    if groups <= EXACT_CLUSTERS:
        bits = np.arange(2**groups)[:, None] >> np.arange(groups) & 1
        flipped = (1 - 2 * bits) @ sums
        extra = 0
    else:
        signs = np.random.default_rng(seed).integers(0, 2, size=(RESAMPLES, groups), dtype=np.int8)
        flipped = np.concatenate([(1 - 2 * signs[part]) @ sums for part in _blocks(groups)])
        extra = 1
    if alternative == "two-sided":
        observed, flipped = abs(observed), np.abs(flipped)
    # Equal sums reached in another order of addition must count as equal.
    slack = 1e-12 * float(np.abs(sums).sum())
    return float((np.count_nonzero(flipped >= observed - slack) + extra) / (len(flipped) + extra))


def t_test(data: Clusters, alternative: str = "two-sided") -> float:
    """Return the clustered-t p-value, for fewer identities than the sign-flip test can decide with.

    1.0 for a single identity. Assumes roughly normal identity means, which cannot be checked then.
    """
    error = standard_error(data)
    if math.isnan(error):
        return 1.0
    if error == 0:
        return 1.0 if data.mean == 0 or (alternative == "greater" and data.mean < 0) else 0.0
    freedom = len(data) - 1
    statistic = data.mean / error
    if alternative == "greater":
        return float(stdtr(freedom, -statistic))
    return float(betainc(freedom / 2, 0.5, freedom / (freedom + statistic**2)))


def p_value(data: Clusters, seed: int, alternative: str = "two-sided") -> float:
    """Return the sign-flip p-value, or the clustered-t one with fewer than ten identities."""
    return t_test(data, alternative) if len(data) < MIN_CLUSTERS else sign_flip(data, seed, alternative)


def normal_p(estimate: float, half_width: float, level: float = 0.95, alternative: str = "two-sided") -> float:
    """Return the p-value of an estimate known only with a symmetric interval (set metrics).

    A zero half-width means there was no spread at all: any non-zero estimate is then significant.
    """
    if math.isnan(half_width):
        return 1.0
    if half_width == 0:
        return 1.0 if estimate == 0 or (alternative == "greater" and estimate < 0) else 0.0
    z = estimate / half_width * normal_quantile(level)
    return float(ndtr(-z)) if alternative == "greater" else float(2 * ndtr(-abs(z)))


def normal_quantile(level: float) -> float:
    """Return the two-sided normal quantile: 1.96 for 0.95."""
    return float(ndtri((1 + level) / 2))


def t_quantile(level: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's t: 2.26 for 0.95 and 9 degrees of freedom."""
    return float(stdtrit(freedom, (1 + level) / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values, in the order given."""
    count = len(p_values)
    adjusted = [1.0] * count
    running = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def seed_noise(samples: Iterable[Sequence[float]]) -> float:
    """Return the A/A noise floor from repeats: the standard deviation of a difference of two runs.

    Args:
        samples: for every sample its values over repeats (different seeds, everything else equal).

    Each sample's variance over repeats estimates the variance of one of its draws, so a mean over n samples
    with one repeat has variance mean(s²)/n, and the difference of two such runs twice that. Samples with a
    single value say nothing; NaN when no sample has two.
    """
    variances = [float(np.var(v, ddof=1)) for v in samples if len(v) > 1]
    if not variances:
        return math.nan
    return math.sqrt(2 * float(np.mean(variances)) / len(variances))


def rerun_noise(differences: Sequence[float]) -> float:
    """Return the determinism floor from a rerun with equal seeds.

    The larger of the observed shift of the mean and the standard error that independent per-sample
    differences of that size would give it; 0.0 when the rerun was exact, NaN without samples.
    """
    if len(differences) == 0:
        return math.nan
    data = np.asarray(differences, dtype=np.float64)
    return max(abs(float(data.mean())), math.sqrt(float((data**2).mean()) / len(data)))


def clusters_needed(groups: int, half_width: float, margin: float) -> int | None:
    """Return how many identities shrink `half_width` below `margin`; None when nothing would."""
    if not (margin > 0 and half_width > 0 and math.isfinite(half_width)):
        return None
    return max(groups + 1, math.ceil(groups * (half_width / margin) ** 2))
