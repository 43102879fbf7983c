import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.spec import Reason, Unscored
from bench.metrics import frechet, references


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def fd(x, y, **options) -> float:
    return frechet.distance(frechet.state(x), frechet.state(y), **options)


def with_covariance(variances, seed: int = 0, n: int = 50) -> np.ndarray:
    """Rows whose sample mean is 0 and whose unbiased covariance is exactly diag(variances)."""
    x = normal(n, len(variances), seed)
    x -= x.mean(axis=0)
    q, _ = np.linalg.qr(x)
    return q * np.sqrt((n - 1) * np.asarray(variances))


def textbook(x, y) -> float:
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * root.real))


def test_diagonal_covariances():
    assert fd(with_covariance([1, 4, 9]), with_covariance([4, 1, 16], seed=1)) == pytest.approx(3.0, abs=1e-10)


@pytest.mark.parametrize("n", [20, 200])
def test_scaling_rotation_and_shift(n):
    x, y = normal(n, 30), normal(n, 30, 1) * 1.5 + 0.2
    q, _ = np.linalg.qr(normal(30, 30, 2))
    assert fd(3 * x, 3 * y) == pytest.approx(9 * fd(x, y), rel=1e-10)
    assert fd(x @ q, y @ q) == pytest.approx(fd(x, y), rel=1e-10)
    assert fd(x, x + 0.5) == pytest.approx(7.5, abs=1e-9)
    mean, trace = x.mean(0), np.trace(np.cov(x, rowvar=False))
    assert fd(x, 2 * x) == pytest.approx(trace + mean @ mean, rel=1e-10)


@pytest.mark.parametrize("n", [8, 500])
def test_constant_sets(n):
    assert fd(np.zeros((n, 400)), np.full((n, 400), 0.5)) == pytest.approx(100.0, abs=1e-6)


@pytest.mark.parametrize("n", [100, 600])
def test_identical_sets(n):
    x = normal(n, 400)
    assert abs(fd(x, x)) < 1e-9
    assert abs(fd(x, x[::-1])) < 1e-9


@pytest.mark.parametrize(("n", "expected"), [(50, 584), (100, 475), (200, 352), (500, 162), (1000, 81)])
def test_small_sample_bias_of_equal_distributions(n, expected):
    assert fd(normal(n, 400), normal(n, 400, 1)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("n1", "n2"), [(40, 40), (300, 280), (10, 300)])
def test_equals_the_textbook_square_root(n1, n2):
    x, y = normal(n1, 20), 1.3 * normal(n2, 20, 1) + 0.1
    assert fd(x, y) == pytest.approx(textbook(x, y), rel=1e-5)


def test_equals_pytorch_fid():
    try:
        reference = references.module("pytorch_fid.fid_score")
    except Unscored as missing:
        pytest.skip(str(missing))
    x, y = normal(300, 64), 1.2 * normal(200, 64, 1) + 0.3
    theirs = reference.calculate_frechet_distance(
        x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)
    )
    assert fd(x, y) == pytest.approx(float(theirs), rel=1e-9)


def test_biased_covariance_scales_the_trace_term():
    x = with_covariance([1, 4, 9], n=5)
    y = with_covariance([4, 1, 16], n=5, seed=1)
    assert fd(x, y, biased=True) == pytest.approx(3.0 * 4 / 5, abs=1e-10)


def test_rank_deficient_sums():
    """More rows than dimensions but a flat covariance: the eigenvector factor takes over."""
    basis = normal(3, 20, 5)
    x, y = normal(100, 3) @ basis, normal(120, 3, 1) @ basis
    rows = frechet.distance({"rows": x}, {"rows": y})
    assert "n" in frechet.state(x)
    assert fd(x, y) == pytest.approx(rows, rel=1e-6)
    assert abs(fd(x, x)) < 1e-6


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), max_size=6), seed=st.integers(0, 5), dims=st.sampled_from([3, 16, 100]))
def test_any_sharding_and_order_gives_the_same_distance(cuts, seed, dims):
    x, y = normal(60, dims), 1.5 * normal(40, dims, 1) + 0.1
    parts = [frechet.state(part) for part in np.split(x, sorted(set(cuts)))]
    np.random.default_rng(seed).shuffle(parts)
    nested = frechet.merge([frechet.merge(parts[:2]), *parts[2:]])
    assert frechet.count(nested) == 60
    assert frechet.distance(nested, frechet.state(y)) == pytest.approx(fd(x, y), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_have_no_distance(n):
    with pytest.raises(Unscored) as caught:
        fd(normal(n, 4), normal(9, 4))
    assert caught.value.reason == Reason.INSUFFICIENT_SAMPLES
    with pytest.raises(Unscored):
        frechet.merge([])


def test_not_a_number_is_named():
    x = normal(9, 4)
    x[3, 2] = np.nan
    with pytest.raises(Unscored) as caught:
        frechet.state(x)
    assert caught.value.reason == Reason.NOT_FINITE


@pytest.mark.parametrize("clips", [4, 5, 12])
def test_halves_are_disjoint_and_repeatable(clips):
    halves = frechet.half_subsets(clips, draws=7, seed=3)
    assert halves == frechet.half_subsets(clips, draws=7, seed=3) != frechet.half_subsets(clips, 7, seed=4)
    for first, second in halves:
        assert len(first) == len(second) == clips // 2
        assert len({*first, *second}) == 2 * (clips // 2)
        assert {*first, *second} <= set(range(clips))


def test_three_clips_have_no_halves():
    assert frechet.half_subsets(3, draws=7, seed=0) == []
