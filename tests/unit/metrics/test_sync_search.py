import numpy as np
import pytest

from bench.metrics.sync_search import search


def embeddings(n: int, d: int = 1024, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def reference_distances(video, audio, vshift):
    """The published search, written with torch's own pairwise distance."""
    torch = pytest.importorskip("torch")
    video, audio = torch.as_tensor(video), torch.as_tensor(audio)
    padded = torch.nn.functional.pad(audio, (0, 0, vshift, vshift))
    rows = [
        torch.nn.functional.pairwise_distance(video[[i]], padded[i : i + 2 * vshift + 1])
        for i in range(len(video))
    ]
    return torch.stack(rows).mean(0).numpy()


@pytest.mark.parametrize(("roll", "offset"), [(3, -3), (-5, 5), (0, 0)])
def test_sign_of_the_offset(roll, offset):
    """Audio delayed by 3 windows gives -3; audio advanced by 5 gives +5."""
    video = embeddings(100)
    result = search(video, np.roll(video, roll, axis=0) + 0.1 * embeddings(100, seed=1))
    assert result.offset == offset
    assert result.confidence > 10
    assert not result.unreliable
    assert (result.distance_at_zero == result.distance) == (offset == 0)


@pytest.mark.parametrize("n", [1, 7, 31, 300])
def test_equals_the_published_arithmetic(n):
    video, audio = embeddings(n, 64), embeddings(n, 64, seed=1)
    result = search(video, audio)
    assert np.abs(result.distances - reference_distances(video, audio, 15)).max() < 1e-12
    assert result.confidence == pytest.approx(float(np.median(result.distances) - result.distances.min()))


def test_the_small_constant_inside_the_norm():
    """Equal embeddings are 1e-6 * sqrt(d) apart, not 0, as in the published code."""
    video = embeddings(60)
    assert search(video, video).distance == pytest.approx(1e-6 * 32, rel=1e-6)


def test_unrelated_embeddings_are_drawn_to_the_border_by_the_zero_rows():
    result = search(embeddings(60), embeddings(60, seed=1))
    assert abs(result.offset) == 15
    assert result.unreliable
    assert result.distances[0] < 0.96 * result.distances[15]
    valid = search(embeddings(60), embeddings(60, seed=1), valid_only=True)
    assert valid.distances[0] == pytest.approx(valid.distances[15], rel=0.01)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_very_short_clips_are_flagged_without_confidence(n):
    result = search(embeddings(n), embeddings(n, seed=1))
    assert result.confidence == pytest.approx(0, abs=1e-12)
    assert result.unreliable


def test_valid_only_finds_the_lag_and_leaves_out_small_overlaps():
    video = embeddings(20)
    result = search(video, np.roll(video, 4, axis=0), valid_only=True)
    assert result.offset == -4
    assert np.isnan(result.distances[:5]).all()
    assert np.isfinite(result.distances[5:26]).all()


def test_reversing_roles_reverses_the_offset():
    video = embeddings(80)
    audio = np.roll(video, 6, axis=0)
    assert search(video, audio).offset == -search(audio, video).offset == -6


def test_input_is_checked():
    with pytest.raises(ValueError, match="equal shapes"):
        search(embeddings(5), embeddings(6))
    with pytest.raises(ValueError, match="equal shapes"):
        search(embeddings(0), embeddings(0))
    broken = embeddings(5)
    broken[2, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        search(broken, embeddings(5))
