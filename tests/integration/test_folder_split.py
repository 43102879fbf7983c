"""Directories as splits: what becomes a sample, what is refused and why, and that nothing is done twice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.errors import UsageError
from bench.core.keys import file_digest
from bench.data.folder import load_folder, safe_id, unique_ids
from bench.data.splits import load_split
from bench.media.decode import chunks, read_audio, read_image
from bench.media.encode import write_clip, write_image, write_wav
from bench.media.probe import probe
from bench.store.home import Home

TONE = (5000 * np.sin(np.arange(64000) * 0.15)).astype(np.int16)


def video(path: Path, frames: int = 10, fps: float = 25.0, size: tuple[int, int] = (48, 64), audio=TONE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = np.random.default_rng(seed).integers(60, 200, (size[0] // 8 + 1, size[1] // 8 + 1, 3))
    base = texture.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]].astype(np.uint8)
    write_clip(path, (np.roll(base, k, 1) for k in range(frames)), fps=fps, audio=audio)
    return path


def only(split):
    (sample,) = split.samples
    return sample


def test_talking_video_is_self_reenactment(tmp_path):
    source = video(tmp_path / "in" / "ann.mp4")
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    sample = only(split)
    assert (split.domain, split.name, split.rejected) == ("real", f"folder:{tmp_path / 'in'}", ())
    assert (sample.id, sample.identity, sample.frames, sample.fps) == ("ann", "ann", 10, 25.0)
    assert sample.reference.read_bytes() == source.read_bytes()
    assert sample.video.read_bytes() != source.read_bytes()
    assert np.array_equal(read_image(sample.image), next(chunks(source))[0])
    for role in ("image", "audio", "video", "reference"):
        assert sample.digests[role] == file_digest(getattr(sample, role))


def test_samples_of_sound_per_frame_are_exactly_640(tmp_path):
    video(tmp_path / "in" / "short_sound.mp4", frames=10, audio=TONE[: 7 * 640 + 300])
    video(tmp_path / "in" / "long_sound.mp4", frames=10)
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    assert {s.id: s.frames for s in split.samples} == {"long_sound": 10, "short_sound": 7}
    for sample in split.samples:
        audio = read_audio(sample.audio)
        assert len(audio) == sample.frames * 640
        assert probe(sample.video).frames == sample.frames
    assert any("short_sound (3 frames)" in note for note in split.notes)


def test_frame_rates_are_normalised_and_counted(tmp_path):
    video(tmp_path / "in" / "film.mp4", frames=24, fps=24)
    video(tmp_path / "in" / "phone.mp4", frames=30, fps=30)
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    assert [s.frames for s in split.samples] == [25, 25]
    assert any("film (1 repeated, 0 dropped), phone (0 repeated, 5 dropped)" in note for note in split.notes)


def test_large_and_odd_pictures_become_even_with_a_short_side_of_512(tmp_path):
    video(tmp_path / "in" / "large.mp4", frames=2, size=(1080, 608))
    video(tmp_path / "in" / "small.mp4", frames=2, size=(50, 70))
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    sizes = {s.id: read_image(s.image).shape[:2] for s in split.samples}
    assert sizes == {"large": (910, 512), "small": (50, 70)}
    for sample in split.samples:
        found = probe(sample.video)
        assert (found.height, found.width) == sizes[sample.id]


def test_video_without_sound_serves_the_visual_gate_and_the_report_says_so(tmp_path):
    video(tmp_path / "in" / "mute.mp4", audio=None)
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    assert only(split).audio is None
    assert only(split).reference is not None
    assert any("gate visual only: mute" in note for note in split.notes)


class TestTriplets:
    def picture(self, path, seed=9):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.random.default_rng(seed).integers(0, 256, (33, 47, 3)).astype(np.uint8))

    def test_image_and_sound(self, tmp_path):
        self.picture(tmp_path / "in" / "bob.jpg.png")
        write_wav(tmp_path / "in" / "bob.jpg.wav", TONE[: 640 * 12 + 5])
        sample = only(load_folder(tmp_path / "in", tmp_path / "cache"))
        assert (sample.frames, sample.video, sample.reference) == (12, None, None)
        assert read_image(sample.image).shape == (32, 46, 3)

    def test_driving_video_of_someone_else_is_no_ground_truth(self, tmp_path):
        self.picture(tmp_path / "in" / "bob.png")
        write_wav(tmp_path / "in" / "bob.wav", TONE[: 640 * 8])
        video(tmp_path / "in" / "bob.mp4")
        split = load_folder(tmp_path / "in", tmp_path / "cache")
        sample = only(split)
        assert sample.frames == 8
        assert sample.video is not None
        assert sample.reference is None
        assert "reference" not in sample.digests
        assert any("without ground truth: bob" in note for note in split.notes)

    def test_video_that_begins_with_the_image_is_ground_truth(self, tmp_path):
        source = video(tmp_path / "in" / "bob.mp4")
        write_image(tmp_path / "in" / "bob.png", next(chunks(source))[0])
        write_wav(tmp_path / "in" / "bob.wav", TONE[:6400])
        sample = only(load_folder(tmp_path / "in", tmp_path / "cache"))
        assert sample.reference.read_bytes() == source.read_bytes()

    def test_sound_beside_a_mute_video_is_its_sound(self, tmp_path):
        video(tmp_path / "in" / "bob.mp4", audio=None)
        write_wav(tmp_path / "in" / "bob.wav", TONE[:6400])
        sample = only(load_folder(tmp_path / "in", tmp_path / "cache"))
        assert np.array_equal(read_audio(sample.audio), TONE[:6400])

    def test_files_without_a_partner_are_explained(self, tmp_path):
        self.picture(tmp_path / "in" / "lonely.png")
        write_wav(tmp_path / "in" / "voice.wav", TONE)
        (tmp_path / "in" / "notes.txt").write_text("hello")
        (tmp_path / "in" / ".DS_Store").write_text("ignored")
        split = load_folder(tmp_path / "in", tmp_path / "cache")
        assert split.samples == ()
        assert {r.item: r.reason.split(" named")[0] for r in split.rejected} == {
            "lonely.png": "a picture without a sound",
            "voice.wav": "a sound without a picture",
            "notes.txt": "not a video, picture or sound (.txt)",
        }

    def test_second_file_of_a_kind_is_explained(self, tmp_path):
        self.picture(tmp_path / "in" / "bob.png")
        self.picture(tmp_path / "in" / "bob.bmp.png")
        (tmp_path / "in" / "bob.bmp.png").rename(tmp_path / "in" / "bob.webp")
        write_wav(tmp_path / "in" / "bob.wav", TONE)
        split = load_folder(tmp_path / "in", tmp_path / "cache")
        assert only(split).id == "bob"
        assert [(r.item, r.reason) for r in split.rejected] == [
            ("bob.webp", "bob.png of the same stem is used instead")
        ]


def test_every_bad_file_is_listed_with_its_reason_and_the_rest_is_used(tmp_path):
    root = tmp_path / "in"
    good = video(root / "good.mp4", frames=5)
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("once upon a time")
    (root / "cut.mp4").write_bytes(good.read_bytes()[:900])
    write_image(root / "picture.png", np.zeros((20, 20, 3), np.uint8))
    (root / "blip.png").write_bytes((root / "picture.png").read_bytes())
    write_wav(root / "blip.wav", TONE[:100])
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    split = load_folder(root, tmp_path / "cache")
    assert [s.id for s in split.samples] == ["good"]
    reasons = {r.item: r.reason for r in split.rejected}
    assert sorted(reasons) == sorted(
        ["blip.png + blip.wav", "cut.mp4", "empty.mp4", "gone.mp4", "picture.png", "text.mp4"]
    )
    assert "0 bytes" in reasons["empty.mp4"]
    assert "less sound than one frame" in reasons["blip.png + blip.wav"]
    assert "no such file" in reasons["gone.mp4"]
    assert all("\n" not in reason for reason in reasons.values())
    left = {p.name for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")}
    assert left == set(), "no half-made folder stays behind"


def test_a_partner_in_other_case_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    write_wav(tmp_path / "in" / "Ann.wav", TONE)
    write_image(tmp_path / "in" / "ann.png", np.zeros((20, 20, 3), np.uint8))
    reasons = {r.item: r.reason for r in load_folder(tmp_path / "in", tmp_path / "cache").rejected}
    assert "Ann.wav differs in upper and lower case" in reasons["ann.png"]
    assert "ann.png differs in upper and lower case" in reasons["Ann.wav"]


def test_notes_name_a_few_and_count_the_rest(tmp_path):
    video(tmp_path / "in" / "good.mp4", frames=2)
    for index in range(12):
        (tmp_path / "in" / f"note{index:02d}.txt").write_text("hello")
    note = load_folder(tmp_path / "in", tmp_path / "cache").notes[-1]
    assert note.startswith("12 not used: note00.txt, ") and " and 4 more. Reasons: bench show split" in note


@pytest.mark.parametrize(("files", "words"), [([], "no files were found"), (["a.png", "b.txt"], "2 files were")])
def test_a_folder_without_samples_says_what_a_sample_is(tmp_path, files, words):
    (tmp_path / "in").mkdir()
    for name in files:
        (tmp_path / "in" / name).write_text("x")
    with pytest.raises(UsageError, match=words) as caught:
        load_split(f"folder:{tmp_path / 'in'}", Home(tmp_path / "home"))
    assert "a picture and a sound of the same name" in caught.value.hint
    assert all(name in caught.value.message for name in files)


def test_no_folder_named_is_not_the_current_one(tmp_path):
    with pytest.raises(UsageError, match="names no folder"):
        load_split("folder:", Home(tmp_path / "home"))


def test_second_load_decodes_nothing_and_is_identical(tmp_path, monkeypatch):
    video(tmp_path / "in" / "a.mp4")
    video(tmp_path / "in" / "b.mp4", seed=3)
    calls = []
    first = load_folder(tmp_path / "in", tmp_path / "cache", lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    monkeypatch.setattr("bench.data.folder._normalise", lambda *a: pytest.fail("made again"))
    assert load_folder(tmp_path / "in", tmp_path / "cache") == first


def test_cache_goes_by_content_and_repairs_itself(tmp_path):
    source = video(tmp_path / "in" / "a.mp4")
    sample = only(load_folder(tmp_path / "in", tmp_path / "cache"))
    before = dict(sample.digests)
    (tmp_path / "elsewhere").mkdir()
    source.rename(tmp_path / "elsewhere" / "renamed.mp4")
    moved = only(load_folder(tmp_path / "elsewhere", tmp_path / "cache"))
    assert moved.video == sample.video
    assert moved.id == "renamed"
    moved.video.write_bytes(b"damaged")
    again = only(load_folder(tmp_path / "elsewhere", tmp_path / "cache"))
    assert again.digests == before
    assert file_digest(again.video) == before["video"]
    video(tmp_path / "elsewhere" / "renamed.mp4", seed=7)
    assert only(load_folder(tmp_path / "elsewhere", tmp_path / "cache")).digests != before


def test_normalised_bytes_are_the_same_in_another_cache(tmp_path):
    video(tmp_path / "in" / "a.mp4", frames=30, fps=30)
    one, two = (only(load_folder(tmp_path / "in", tmp_path / name)).digests for name in ("one", "two"))
    assert one == two


def test_missing_folder_and_file_instead_of_folder(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        load_folder(tmp_path / "nope", tmp_path / "cache")
    (tmp_path / "f.mp4").touch()
    with pytest.raises(UsageError, match="is a file"):
        load_folder(tmp_path / "f.mp4", tmp_path / "cache")


def test_awkward_names_and_sub_folders_become_safe_ids(tmp_path):
    names = [
        "with space.mp4",
        "quo'te\".mp4",
        "ünï 你好.mp4",
        "sub/ann.mp4",
        "sub.ann.mp4",
        "ANN.mp4",
        "ann.mp4",
        "-dash.mp4",
    ]
    for index, name in enumerate(names):
        video(tmp_path / "in" / name, frames=2, seed=index)
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    ids = [s.id for s in split.samples]
    assert len({i.lower() for i in ids}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", i) for i in ids)
    assert ids == sorted(ids)


@given(st.text(min_size=1, max_size=300))
def test_ids_never_escape_the_store(text):
    made = safe_id(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", made)
    assert made == safe_id(text)
    assert Path("store", made).resolve().parent == Path("store").resolve()


@given(st.lists(st.text(alphabet="aA./_- ü", min_size=1, max_size=6), max_size=30))
def test_ids_are_unique_even_without_case(names):
    ids = unique_ids(names)
    assert len({i.lower() for i in ids}) == len(names)


def test_real_clips(shared, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("talking/hunyuan_driving_512_30fps.mp4", "talking/megactor_entf2_512_25fps_mp3audio.mp4"):
        (tmp_path / "in" / Path(name).name).symlink_to(shared / "media" / name)
    split = load_folder(tmp_path / "in", tmp_path / "cache")
    assert [s.frames for s in split.samples] == [100, 95]
    assert split.rejected == ()
