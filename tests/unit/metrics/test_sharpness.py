"""Sharpness, background and drift: published vectors, an independent implementation, and known damage."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace, median_filter
from skimage.color import rgb2lab
from skimage.transform import resize

from bench.core.spec import Reason, Unscored
from bench.metrics import cpbd, sharpness
from bench.metrics.background import BackgroundFlicker, background
from bench.metrics.drift import ColourDrift, Colours, colour_change, identity_drift
from bench.metrics.kid import Kid, mmd


def test_cpbd_agrees_with_an_independent_implementation():
    """Values of python-cpbd 11e2553 on the same arrays."""
    y, x = np.mgrid[:192, :200]
    drawn = 128.0 + 70 * np.sign(np.sin(x / 11 + y / 40) * np.cos(y / 17.0)) + 30 * np.sin(x / 3.0)
    expected = {0.5: 0.09397163120567376, 0.8: 0.057528089887640445, 1.2: 0.011549925484351714, 2: 0.0}
    for sigma, value in expected.items():
        assert cpbd.cpbd(np.rint(np.clip(gaussian_filter(drawn, sigma), 0, 255))) == pytest.approx(
            value, abs=1e-12
        )


def test_cpbd_of_the_published_picture():
    """The arrays come with python-cpbd and stay there: $BENCH_CPBD names its folder `tests/data`."""
    folder = os.environ.get("BENCH_CPBD")
    if not folder:
        pytest.skip("needs $BENCH_CPBD")
    data = {
        name: np.loadtxt(Path(folder) / f"reference_img1_{name}.txt", delimiter=",")
        for name in ("input", "canny", "sobel", "marziliano")
    }
    widths = cpbd.edge_widths(data["input"], data["sobel"].astype(bool))
    assert np.array_equal(widths, data["marziliano"])
    assert round(cpbd.pooled(data["input"], data["canny"].astype(bool), widths), 4) == 0.1349


def test_cpbd_of_a_flat_picture_is_no_number():
    assert np.isnan(cpbd.cpbd(np.full((128, 128), 7.0)))


def test_grey_is_pils():
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(cpbd.grey(picture), np.asarray(Image.fromarray(picture).convert("L")))


def test_laplacian_of_one_pixel():
    picture = np.zeros((32, 32))
    picture[10, 12] = 7
    assert sharpness.laplacian_variance(picture) == pytest.approx(20 * 49 / picture.size)
    noise = np.random.default_rng(0).random((40, 60))
    assert sharpness.laplacian_variance(noise) == pytest.approx(laplace(noise, mode="nearest").var())
    assert sharpness.laplacian_variance(np.full((8, 8), 3.0)) == 0


def test_median_is_scipys():
    picture = np.random.default_rng(2).random((33, 50)).astype(np.float32)
    assert np.array_equal(sharpness.median_of_nine(picture), median_filter(picture, 3))


def test_cut_is_an_antialiased_resize():
    picture = gaussian_filter(np.random.default_rng(1).random((200, 300)) * 255, 3)
    part = sharpness.cut(picture, np.array([40.0, 20.0, 168.0, 148.0]), 64)
    assert np.abs(part - resize(picture[20:148, 40:168], (64, 64), order=1, anti_aliasing=True)).max() < 1.5
    grown = sharpness.cut(picture, np.array([40.0, 20.0, 104.0, 84.0]), 128)
    assert np.abs(grown - resize(picture[20:84, 40:104], (128, 128), order=1))[4:-4, 4:-4].max() < 0.05


class Textured:
    """A clip of a textured face, its landmarks in the middle."""

    def __init__(self, make_face, array_clip, sigma=0.8, noise=0.0, n=30, seed=0):
        rng = np.random.default_rng(9)
        base = np.repeat(gaussian_filter(rng.random((256, 256)) * 600, sigma)[..., None], 3, axis=2)
        moving = np.random.default_rng(seed)
        self.frames = np.clip(base[None] - 150 + noise * moving.standard_normal((n, 256, 256, 3)), 0, 255).astype(
            np.uint8
        )
        face = make_face(n)
        self.clip = array_clip(frames=self.frames, features=face.clip()._features)
        self.clip._features["sharpness"] = sharpness.Sharpness().extract(self.clip)
        self.clip._features["colours"] = Colours().extract(self.clip)


def test_blur_lowers_and_noise_raises_the_laplacian(make_face, array_clip):
    plain, soft, noisy = (Textured(make_face, array_clip, **k).clip for k in ({}, {"sigma": 2.0}, {"noise": 25.0}))
    values = [sharpness.Laplacian().score(c, None) for c in (plain, soft, noisy)]
    assert all(values[1][k] < values[0][k] < values[2][k] for k in ("vl_frame", "vl_face", "vl_mouth"))
    ratio = sharpness.Relative().score(noisy, plain)
    assert sharpness.Relative().score(plain, plain) == pytest.approx(
        {"face": 1, "mouth": 1, "mouth_median": 1, "n_frames": 6, "coverage": 1}
    )
    assert abs(ratio["mouth_median"] - 1) < abs(ratio["mouth"] - 1)  # the guard
    assert sharpness.Relative().score(soft, plain)["face"] < 0.5


def test_face_without_a_frame_does_not_count(make_face, array_clip):
    clip = Textured(make_face, array_clip).clip
    face = make_face(30)
    face.lose(4, 10)
    other = array_clip(frames=np.concatenate(list(clip.chunks())), features=face.clip()._features)
    found = sharpness.Sharpness().extract(other)
    assert np.flatnonzero(np.isnan(found["face"])).tolist() == [2]  # of frames 0, 5, 10, ...
    assert np.isfinite(found["frame"]).all()
    edges = sharpness.Edges().extract(other)
    assert edges["seen"].tolist() == [True, False, True] and np.isfinite(edges["frame"]).all()
    other._features["sharpness_cpbd"] = edges
    values = sharpness.Cpbd().score(other, None)
    assert values["n_frames"] == 2 and values["coverage"] == pytest.approx(2 / 3)
    whole = np.concatenate(list(other.chunks(7)))
    assert edges["frame"][1] == cpbd.cpbd(cpbd.grey(whole[10]).astype(float))


@pytest.mark.parametrize("length", [30, 33, 64, 70])
def test_every_fifth_frame_of_a_clip_is_looked_at(array_clip, length):
    frames = np.zeros((length, 16, 16, 3), np.uint8)
    frames[:, 5, 5] = np.arange(length)[:, None]
    nowhere = np.full((length, 4), np.nan)
    found = sharpness.measure(array_clip(frames=frames), sharpness.Boxes(nowhere, nowhere))
    assert found["frame"] == pytest.approx(20 * np.arange(0, length, 5.0) ** 2 / 256)


def test_background_is_beside_and_above_the_face():
    mask = background(np.array([[100.0, 90, 160, 170], [np.nan] * 4]), 256, 256)
    assert mask[10, 10] and mask[10, 245]
    assert not mask[130, 130] and not mask[250, 130] and not mask[60, 130]


def test_background_flicker_of_noise_has_the_known_mean(make_face, array_clip):
    still = Textured(make_face, array_clip).clip
    noisy = Textured(make_face, array_clip, noise=10.0).clip
    for clip in (still, noisy):  # a small face leaves room
        clip._features["faces"] = {**clip._features["faces"]}
        clip._features["faces"]["landmarks"] = clip._features["faces"]["landmarks"] * 0.3 + 60
    metric = BackgroundFlicker()
    assert metric.score(still, still)["bg_error"] == 0
    values = metric.score(noisy, still)
    expected = 10 * 2 / np.sqrt(np.pi) / 255  # E|a - b| of two normals; clipping takes a little
    assert values["bg_error"] == pytest.approx(expected, rel=0.12)
    assert values["bg_smooth"] < 0.7 * values["bg_error"]
    assert np.isnan(values["bg_ratio"])
    assert metric.score(noisy, noisy)["bg_ratio"] == 1


def test_face_that_fills_the_frame_has_no_background(make_face, array_clip):
    clip = Textured(make_face, array_clip).clip
    faces = clip._features["faces"]
    clip._features["faces"] = {**faces, "landmarks": faces["landmarks"] * 1.6 - 77}
    with pytest.raises(Unscored) as caught:
        BackgroundFlicker().score(clip, clip)
    assert caught.value.reason == Reason.NO_BACKGROUND


def test_identity_that_fades_linearly_has_that_slope():
    cosines = 0.9 - 0.02 * np.arange(250) / 25
    cosines[40:45] = np.nan
    cosines[100] = -1.0  # one bad frame
    values = identity_drift(cosines)
    assert values["slope"] == pytest.approx(-0.2, abs=1e-6)
    assert values["loss"] == pytest.approx(0.02 * 8, abs=0.01)
    with pytest.raises(Unscored):
        identity_drift(cosines[:99])


def test_gain_ramp_gives_the_known_colour_difference(make_face, array_clip):
    n = 150
    frames = np.full((n, 64, 64, 3), 120, np.uint8)
    gain = 1 + 0.2 * np.linspace(0, 1, n)
    frames[..., 0] = np.rint(120 * gain)[:, None, None]
    face = make_face(n, size=(64, 64))
    face.landmarks = face.landmarks / 4
    clip = array_clip(frames=frames, features=face.clip()._features)
    clip._features["colours"] = Colours().extract(clip)
    lab = rgb2lab(frames[:, :1, :1].astype(np.uint8))[:, 0, 0]
    expected = np.linalg.norm(lab[-25:].mean(0) - lab[:25].mean(0))
    values = ColourDrift().score(clip, None)
    assert values["face_end"] == pytest.approx(expected, rel=1e-6)
    assert values["back_end"] == pytest.approx(expected, rel=1e-6)
    assert values["face_slope"] > 0
    assert colour_change(np.tile(lab[:1], (n, 1)))["end"] == 0


def test_kid_is_unbiased_and_sees_a_shift():
    rng = np.random.default_rng(0)
    same = [mmd(rng.standard_normal((40, 16)), rng.standard_normal((40, 16))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert min(same) < 0
    assert mmd(rng.standard_normal((40, 16)) + 1, rng.standard_normal((40, 16))) > max(same)


def test_kid_equals_sums_over_pairs_and_takes_a_frame_per_second(array_clip):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((6, 4))
    k = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    own = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    other = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    assert mmd(x, y) == pytest.approx(own + other - 2 * np.mean([k(a, b) for a in x for b in y]))
    features = {"inception2048": {"features": np.arange(80.0)[:, None] * np.ones(3)}}
    assert Kid().state(array_clip(features=features, n=80))["rows"][:, 0].tolist() == [12, 37, 62]
