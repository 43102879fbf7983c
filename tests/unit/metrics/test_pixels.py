import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.metrics.pixels import PSNR, SSIM, psnr, ssim


def noise(shape=(3, 40, 52, 3), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def perturbed(frames: np.ndarray, sigma: float, seed: int = 9) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (frames + generator.normal(0, sigma, frames.shape)).round().clip(0, 255).astype(np.uint8)


def photo_like(seed=0) -> np.ndarray:
    """Smooth gradients with flat areas, where variances nearly cancel."""
    y, x = np.mgrid[:97, :75]
    image = 190 + 60 * np.sin(x / 17 + seed) * np.cos(y / 23)
    image[30:60, 20:50] = 250
    return np.repeat(image.round().clip(0, 255).astype(np.uint8)[None, ..., None], 3, axis=3)


def test_black_against_white():
    black, white = np.zeros((1, 20, 30, 3), np.uint8), np.full((1, 20, 30, 3), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0)
    assert ssim(black, white) == pytest.approx(9.999000099990664e-05, abs=1e-12)


@pytest.mark.parametrize(("sigma", "expected"), [(5, 34.14), (10, 28.12), (20, 22.17), (40, 16.5)])
def test_psnr_does_not_wrap_around(sigma, expected):
    """Wrapping uint8 arithmetic would report 34.2, 30.3, 28.7 and 28.0 dB."""
    grey = np.full((1, 200, 200, 3), 128, np.uint8)
    mixed = grey if sigma < 40 else noise((1, 200, 200, 3))
    assert psnr(mixed, perturbed(mixed, sigma))[0] == pytest.approx(expected, abs=0.6)


def test_psnr_of_a_known_difference():
    frames = noise().clip(0, 250)
    assert psnr(frames, frames + 5) == pytest.approx(10 * np.log10(255**2 / 25))
    assert np.isinf(psnr(frames, frames)).all()


@pytest.mark.parametrize("make", [noise, lambda seed: photo_like(seed), lambda seed: noise((1, 11, 11, 3), seed)])
@pytest.mark.parametrize("sigma", [0, 1, 8, 60])
def test_equal_to_scikit_image(make, sigma):
    reference = pytest.importorskip("skimage.metrics")
    frames = make(seed=3)
    other = perturbed(frames, sigma)
    for i, value in enumerate(ssim(frames, other)):
        expected = reference.structural_similarity(
            frames[i],
            other[i],
            data_range=255,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert value == pytest.approx(expected, abs=1e-11)
    for i, value in enumerate(psnr(frames, other)):
        if np.isfinite(value):
            expected = reference.peak_signal_noise_ratio(frames[i], other[i], data_range=255)
            assert value == pytest.approx(expected, abs=1e-11)


def test_ssim_refuses_frames_smaller_than_its_window(array_clip):
    with pytest.raises(ValueError, match="11x11"):
        ssim(noise((1, 10, 40, 3)), noise((1, 10, 40, 3)))
    with pytest.raises(Unscored) as caught:
        SSIM().score(array_clip(noise((1, 10, 40, 3))), array_clip(noise((1, 10, 40, 3))))
    assert caught.value.reason == Reason.SHAPE_MISMATCH


def test_identical_frames_count_at_the_cap(array_clip):
    frames = noise((4, 16, 16, 3))
    changed = frames.copy()
    changed[2:] = frames[2:].clip(0, 245) + 10
    row = PSNR().score(array_clip(changed), array_clip(frames))
    kept = psnr(changed[2:], frames[2:])
    assert row["n_identical"] == 2
    assert row["psnr"] == pytest.approx((200 + kept.sum()) / 4)
    assert row["n_frames"] == 4
    assert row["coverage"] == 1.0
    assert PSNR().score(array_clip(frames), array_clip(frames))["psnr"] == 100
    assert SSIM().score(array_clip(frames), array_clip(frames))["ssim"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("metric", [PSNR, SSIM])
def test_pairing(metric, array_clip):
    frames = noise((20, 16, 16, 3))
    other = perturbed(frames, 20)
    row = metric().score(array_clip(frames[:18]), array_clip(other))
    assert row["n_frames"] == 18
    assert row["coverage"] == 0.9
    same = metric().score(array_clip(frames[:18]), array_clip(other[:18]))
    key = metric.spec.columns[0].key
    assert row[key] == same[key]

    def reason_of(clip, reference):
        with pytest.raises(Unscored) as caught:
            metric().score(clip, reference)
        return caught.value.reason

    assert reason_of(array_clip(frames[:17]), array_clip(other)) == Reason.LENGTH_MISMATCH
    assert reason_of(array_clip(frames), None) == Reason.NO_REFERENCE
    assert reason_of(array_clip(frames), array_clip(other[:, :15])) == Reason.SHAPE_MISMATCH
    assert reason_of(array_clip(frames[:0]), array_clip(other[:1])) == Reason.TOO_SHORT


@pytest.mark.parametrize("metric", [PSNR, SSIM])
def test_one_frame_is_enough(metric, array_clip):
    frames = noise((1, 16, 16, 3))
    row = metric().score(array_clip(frames), array_clip(perturbed(frames, 10)))
    assert row["n_frames"] == 1


def test_worse_pictures_get_worse_numbers():
    frames = photo_like()
    levels = [perturbed(frames, sigma) for sigma in (2, 5, 10, 20)]
    for metric in (psnr, ssim):
        values = [float(metric(frames, level)[0]) for level in levels]
        assert values == sorted(values, reverse=True)
