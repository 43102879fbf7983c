"""Variants change what they say by as much as they say, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from bench.catalogue import find_method
from bench.core.errors import UsageError
from bench.core.spec import NO_GATE
from bench.media import reencode
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip
from bench.media.probe import picture_digest
from bench.methods import variant_pictures as pictures
from bench.methods.variants import DAMAGE, FAMILIES, INVISIBLE, target
from bench.run.plan import plan_generation
from bench.run.sensitivity import choose_clips, choose_families, parse_levels, plan_variants
from bench.synthetic import geometry
from bench.synthetic.clip import make_clip
from bench.synthetic.split import make_split


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split("synthetic-ci", tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="module")
def frames():
    return make_clip("test", 910, 30).frames


def made(split, name, index=0):
    """Frames and sound of a variant of a sample, as the plan hands the sample to it."""
    job = plan_generation(split, [find_method(name)]).jobs[index]
    method = find_method(name)
    video = (
        __import__("bench.catalogue", fromlist=["x"]).load_method(method.target).generate(job.sample, NO_GATE, 0)
    )
    return np.stack(list(video.frames)), video.audio


def original(split, index=0):
    sample = split.samples[index]
    return np.concatenate(list(chunks(sample.reference))), read_audio(sample.audio)


@pytest.mark.parametrize("family", [f.id for f in (*INVISIBLE, *DAMAGE)])
def test_every_variant_can_be_made_and_keeps_the_other_stream(split, family):
    found = FAMILIES[family]
    if found.codec and not reencode.available(found.codec):
        pytest.skip(f"no {found.codec}")
    level = 1 if found.invisible else 3
    shown, heard = made(split, target(found, level))
    frames, sound = original(split)
    assert shown.shape == frames.shape and shown.dtype == np.uint8
    if found.touches == "sound":
        assert np.array_equal(shown, frames)
        assert heard.dtype == np.int16 and len(heard) == len(frames) * 640
        assert not np.array_equal(heard, sound[: len(heard)]) or family == "resample_48k"
    else:
        assert heard is None
        assert np.array_equal(shown, frames) is (family == "rerun")
    again, heard_again = made(split, target(found, level))
    assert np.array_equal(again, shown) and np.array_equal(heard_again, heard)


@pytest.mark.parametrize("family", [f.id for f in INVISIBLE if f.touches == "sound" and f.codec])
def test_encoded_sound_stays_aligned(split, family):
    found = FAMILIES[family]
    if not reencode.available(found.codec):
        pytest.skip(f"no {found.codec}")
    _, heard = made(split, target(found, 1))
    sound = original(split)[1][: len(heard)].astype(float)
    best = max(range(-40, 41), key=lambda k: float(np.roll(heard.astype(float), k)[100:-100] @ sound[100:-100]))
    assert abs(best) <= 2


def test_sound_late_and_early_move_by_milliseconds(split):
    sound = original(split)[1]
    _, late = made(split, "bench.methods.variants:audio_late@2")
    _, early = made(split, "bench.methods.variants:audio_early@1")
    assert not late[:1280].any() and np.array_equal(late[1280:], sound[: len(late) - 1280])
    assert np.array_equal(early[:-640], sound[640 : len(early)])


def test_swapped_sound_is_the_partners_at_the_end_only(split):
    _, heard = made(split, "bench.methods.variants:audio_swap@3")
    sound = original(split)[1]
    half = len(heard) // 2
    assert np.array_equal(heard[:half], sound[:half])
    own = np.corrcoef(heard[half:], sound[half : len(heard)])[0, 1]
    assert abs(own) < 0.5


def test_swapped_pictures_are_another_identity(split):
    shown, _ = made(split, "bench.methods.variants:identity_swap@5")
    assert not any(np.array_equal(shown[5], original(split, i)[0][5]) for i in (0, 1))  # identity 0
    assert any(np.abs(shown[5].astype(int) - original(split, i)[0][5]).mean() < 1 for i in (2, 3))


def test_damage_has_the_stated_size(frames):
    rng = np.random.default_rng(0)
    middle = np.full((4, 64, 64, 3), 128, np.uint8)
    assert pictures.noisy(middle, 8, rng).astype(float).std() == pytest.approx(8, rel=0.05)
    static = pictures.noisy(middle, 8, rng, static=True)
    assert np.array_equal(static[0], static[3])
    frozen = pictures.frozen(frames, 0.5)
    assert np.array_equal(frozen[20], frozen[29]) and np.array_equal(frozen[:14], frames[:14])
    shuffled = pictures.shuffled(frames, 4, rng)
    assert np.array_equal(np.sort(shuffled[:4].sum((1, 2, 3))), np.sort(frames[:4].sum((1, 2, 3))))
    gains = pictures.flickering(middle, 8, rng).mean((1, 2, 3)) / 128
    assert np.abs(gains - 1).max() <= 0.085 and np.ptp(gains) > 0.01
    red = pictures.reddened(middle, 16)
    assert red[-1, 0, 0].tolist() == [148, 128, 128] and red[0, 0, 0].tolist() == [128, 128, 128]
    assert np.array_equal(pictures.faster(frames, 1.2)[10], frames[12])
    wide = rng.integers(0, 256, (2, 400, 500, 3), dtype=np.uint8)
    assert np.array_equal(pictures.shifted(wide, 1)[:, 1:, 1:], wide[:, :-1, :-1])


def test_blur_is_the_same_on_a_larger_frame():
    edge = lambda n: np.where(np.mgrid[:n, :n][1] < n // 2, 0, 255).astype(np.uint8)[None, ..., None].repeat(3, 3)  # noqa: E731
    small, large = (pictures.blurred(edge(n), 16.0)[0, n // 2, :, 0] for n in (128, 512))
    assert np.abs(large[2::4].astype(int) - small).max() < 25


def marked(at, size):
    """Frames with a soft white dot at x, y (n, 2)."""
    y, x = np.mgrid[:size, :size]
    away = (x - at[:, 0, None, None]) ** 2 + (y - at[:, 1, None, None]) ** 2
    return np.rint(255 * np.exp(-away / 8))[..., None].repeat(3, 3).astype(np.uint8)


def centre(frames):
    """Where the dot is (n, 2)."""
    weight = frames[..., 0].astype(float)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.stack([(weight * a).sum((1, 2)) / weight.sum((1, 2)) for a in (x, y)], 1)


@pytest.mark.parametrize("share", [0.4, 0.8, 1.0])
def test_damping_pulls_a_landmark_towards_its_mean_by_its_share(share):
    from bench.methods.face_shape import SyntheticFaces

    # Every loose point moves alike: around a single one the field is a tent, of which a dot sees the flanks too.
    made, shape = make_clip("test", 911, 12), SyntheticFaces().shape
    points = geometry.landmarks(made.identity, made.expression, made.pose, 256).astype(float)
    points[:] = points[:1]
    loose = np.setdiff1d(np.arange(points.shape[1]), shape.rigid)
    points[:, loose, 1] += 8 * np.sin(np.arange(12))[:, None]
    lip = points[:, shape.lower_outer[2]]
    before = centre(marked(lip, 256))[:, 1]
    after = centre(pictures.damped(marked(lip, 256), share, points, shape))[:, 1]
    assert before.std() == pytest.approx(lip[:, 1].std(), rel=0.02)
    assert after.std() == pytest.approx((1 - share) * before.std(), abs=0.01 * before.std())


def test_damped_mouths_are_read_as_calmer(split):
    from bench.synthetic.reader import read_landmarks

    upper, lower = (geometry.LANDMARKS.index(f"lip_{side}_inner_1") for side in ("upper", "lower"))
    spread = []
    for level in (0, 3, 5):
        shown = original(split)[0] if not level else made(split, f"bench.methods.variants:mouth_damp@{level}")[0]
        points = read_landmarks(shown)
        spread.append(np.linalg.norm(points[:, upper] - points[:, lower], axis=-1).std())
    assert spread[2] < spread[1] < spread[0]


def test_steadied_head_stays_put(split):
    from bench.synthetic.reader import read_landmarks

    def roll_and_shift(shown):
        eyes = read_landmarks(shown)[:, [0, 5]]
        return eyes.mean(1).std(0).sum()

    shown, _ = made(split, "bench.methods.variants:head_damp@5")
    assert roll_and_shift(shown) < 0.5 * roll_and_shift(original(split)[0])


def test_unknown_variants_are_no_methods():
    for name in (
        "bench.methods.variants:blurr@1",
        "bench.methods.variants:blur@6",
        "bench.methods.variants:blur@x",
    ):
        with pytest.raises((UsageError, LookupError)):
            find_method(name)


def test_only_metrics_that_hear_are_computed_on_changed_sound(split):
    from bench.catalogue import choose_metrics

    families, _ = choose_families(["blur", "audio_late"], quick=True)
    parts = {p.name: p for p in plan_variants(split, choose_metrics("synthetic", None), families, (2,))}
    assert {m.spec.id.split("/")[0] for m in parts["sound"].metrics} == {"sync"}
    assert "blur@2" in parts["picture"].plan.methods and "audio_late@2" in parts["sound"].plan.methods
    assert "ground-truth" in parts["picture"].plan.methods and "ground-truth" in parts["sound"].plan.methods


def test_clips_are_taken_from_all_identities_first(split):
    chosen = choose_clips(split.samples, 2, 0)
    assert len({s.identity for s in chosen}) == 2
    assert choose_clips(split.samples, 2, 0) == choose_clips(split.samples[::-1], 2, 0)


def test_typing_errors_are_explained():
    with pytest.raises(UsageError, match="blur"):
        choose_families(["blurr"], quick=False)
    with pytest.raises(UsageError):
        parse_levels("0,9")
    assert parse_levels("4, 2") == (2, 4)


def test_clips_that_differ_in_sound_only_have_the_same_pictures(tmp_path: Path, frames):
    tone = (3000 * np.sin(np.arange(19200) / 9)).astype(np.int16)
    write_clip(tmp_path / "a.mp4", frames, 25.0, tone)
    write_clip(tmp_path / "b.mp4", frames, 25.0, tone[::-1].copy())
    write_clip(tmp_path / "c.mp4", frames[::-1], 25.0, tone)
    a, b, c = (picture_digest(tmp_path / f"{n}.mp4") for n in "abc")
    assert a == b != c
