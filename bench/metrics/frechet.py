"""Fréchet distance between Gaussians fitted to two sets of features, in float64, with mergeable states.

    d = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

No matrix square root is taken. The last trace is the sum of singular values of F1 F2^T for any factors with
S = F^T F: centred features when there are fewer rows than dimensions, a Cholesky or eigenvector factor
otherwise. It is exact for rank-deficient sets, never complex, and zero to rounding for identical sets.

Source: D. C. Dowson and B. V. Landau, "The Fréchet distance between multivariate normal distributions", 1982;
used on network features by M. Heusel et al., "GANs trained by a two time-scale update rule ...", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Reason, Unscored
from bench.core.views import Features

Array = npt.NDArray[np.float64]


def state(features: npt.NDArray[Any]) -> Features:
    """Return what one clip contributes.

    Args:
        features: shape (n, d), n >= 1, any floating type.

    Returns:
        `{"rows": (n, d)}` while n <= d (smaller, and the distance is cheaper from it), otherwise the sums
        `{"n": (), "sum": (d,), "outer": (d, d)}` in float64.

    Raises:
        Unscored: a feature is not finite.
    """
    rows = np.asarray(features)
    if rows.ndim != 2:
        raise ValueError(f"Fréchet features have shape (n, d), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise Unscored(Reason.NOT_FINITE, "features contain NaN or infinity")
    return {"rows": rows} if len(rows) <= rows.shape[1] else _sums({"rows": rows})


def merge(states: Sequence[Features]) -> Features:
    """Combine states; associative and independent of order and sharding to rounding.

    Rows stay rows until there are more of them than dimensions, then become sums.
    """
    if not states:
        raise Unscored(Reason.INSUFFICIENT_SAMPLES, "no clip to merge")
    total: dict[str, Array] = {}
    pending: list[npt.NDArray[Any]] = []
    for one in states:
        if "rows" in one:
            pending.append(one["rows"])
            if sum(len(rows) for rows in pending) <= one["rows"].shape[1]:
                continue
            one = {"rows": np.concatenate(pending)}
            pending = []
        total = _added(total, _sums(one))
    if not pending:
        return total
    rest: Features = {"rows": np.concatenate(pending)}
    return _added(total, _sums(rest)) if total else rest


def count(merged: Features) -> int:
    """Return the number of feature rows (frames or clips) in a state."""
    return len(merged["rows"]) if "rows" in merged else int(merged["n"])


def distance(first: Features, second: Features, *, biased: bool = False) -> float:
    """Return the raw Fréchet distance of two states; >= 0 up to rounding, lower is better.

    Args:
        first, second: states from `state` or `merge`, of equal dimension.
        biased: divide covariances by n instead of n - 1.

    Raises:
        Unscored: a side has fewer than two rows, or the value is not finite or clearly negative.
    """
    import scipy.linalg  # half a second, which listing metrics should not pay

    if (
        count(first) > 1
        and first.keys() == second.keys()
        and all(np.array_equal(first[k], second[k]) for k in first)
    ):
        return 0.0  # of a set with itself, where rounding would leave some 1e-5
    moments = []
    for one in (first, second):
        if count(one) < 2:
            raise Unscored(Reason.INSUFFICIENT_SAMPLES, f"{count(one)} feature row(s); a covariance needs 2")
        moments.append(_mean_and_factor(one, biased))
    (mean_1, factor_1), (mean_2, factor_2) = moments
    shift = float(((mean_1 - mean_2) ** 2).sum())
    spread = float((factor_1**2).sum() + (factor_2**2).sum())
    value = shift + spread - 2 * float(scipy.linalg.svdvals(factor_1 @ factor_2.T, check_finite=False).sum())
    if not np.isfinite(value) or value < -1e-6 * max(1.0, shift + spread):
        raise Unscored(Reason.NOT_FINITE, f"Fréchet distance came out as {value}")
    return value


def _added(total: dict[str, Array], more: dict[str, Array]) -> dict[str, Array]:
    return {key: total[key] + more[key] for key in more} if total else more


def _sums(one: Features) -> dict[str, Array]:
    if "n" in one:
        return dict(one)
    rows = np.asarray(one["rows"], np.float64)
    return {"n": np.asarray(float(len(rows))), "sum": rows.sum(axis=0), "outer": rows.T @ rows}


def _mean_and_factor(one: Features, biased: bool) -> tuple[Array, Array]:
    """Return the mean (d,) and a factor F with covariance F^T F, at most (d, d)."""
    import scipy.linalg

    n = count(one)
    scale = 1.0 / (n if biased else n - 1)
    if "rows" in one:
        rows = np.asarray(one["rows"], np.float64)
        mean = rows.mean(axis=0)
        return mean, (rows - mean) * np.sqrt(scale)
    mean = one["sum"] / n
    covariance = (one["outer"] - n * np.outer(mean, mean)) * scale
    try:
        return mean, scipy.linalg.cholesky(covariance, check_finite=False)
    except np.linalg.LinAlgError:  # singular: a dimension is constant or depends on others
        values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
        return mean, np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def half_subsets(clips: int, draws: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Return `draws` random pairs of disjoint index sets of floor(clips / 2); none below 4 clips.

    They serve the spread over half-size subsamples and the floor between two halves of the reference. The same
    arguments give the same sets, so two methods can be compared subset by subset.
    """
    if clips < 4:
        return []
    generator = np.random.default_rng(seed)
    half = clips // 2
    pairs = []
    for _ in range(draws):
        order = generator.permutation(clips)
        pairs.append((sorted(order[:half].tolist()), sorted(order[half : 2 * half].tolist())))
    return pairs
