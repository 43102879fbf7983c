"""Odd media in the owners' layouts, and lists and files that are not what they seem."""

import json

import numpy as np
import pytest

from bench.core.errors import MissingError, UsageError
from bench.data import datasets
from bench.media.decode import chunks
from bench.run import drawing

from .conftest import ledger, prepare

pytestmark = pytest.mark.usefixtures("small")


# Odd media


def test_sound_that_starts_late_is_out_of_sync(home, tmp_path, no_models, tree):
    folder = tmp_path / "Actor_07"
    folder.mkdir()
    tree.write_video(folder / "01-01-02-01-02-01-07.mp4", 80, 25, delay=0.2)
    tree.write_video(folder / "01-01-06-01-01-01-07.mp4", 80, 25, delay=0.03)
    account = prepare("ravdess", tmp_path, home, subset="ci")
    assert account.kept == 1 and account.reasons == {"audio out of sync": 1, "unavailable": 6}


def test_odd_media_in_the_layout_of_ravdess(home, tmp_path, no_models, tree):
    folder = tmp_path / "ünï 你好" / "Actor_07"
    folder.mkdir(parents=True)
    tree.write_video(folder / "01-01-02-01-02-01-07.MP4", 150, 60)
    tree.write_video(folder / "01-01-06-01-01-01-07.mp4", 40, 15)
    tree.write_video(folder / "01-01-01-01-02-01-07.mp4", 100, 25, rate=8000)
    tree.write_video(folder / "01-01-08-01-01-01-07.mp4", 100, 25, width=322, height=180, vary=True)
    account = prepare("ravdess", tmp_path, home, subset="ci")
    entries = ledger(home, "ravdess")
    assert entries["01-01-06-01-01-01-07"]["reason"] == "frame rate too low"
    assert entries["01-01-01-01-02-01-07"]["reason"] == "no audio", "8 kHz is no speech recording"
    assert account.kept == 2
    for sample in datasets.load("ravdess", home, "ci").samples:
        shown = [tree.read_code(f) for chunk in chunks(sample.video) for f in chunk]
        assert len(shown) == sample.frames and shown == sorted(shown)


def test_a_rotated_clip_is_cut_as_it_is_shown(home, tmp_path, no_models, tree):
    from bench.media.probe import probe

    folder = tmp_path / "Actor_07"
    folder.mkdir()
    path = tree.write_video(folder / "01-01-02-01-02-01-07.mp4", 60, 25)
    data = bytearray(path.read_bytes())
    # The track header's display matrix: a quarter turn, as a phone held upright writes it.
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    assert probe(path).rotation in (90, 270) and probe(path).height == 320
    assert prepare("ravdess", tmp_path, home, subset="ci").kept == 1
    record = json.loads((home.data / "ravdess" / "candidates" / "01-01-02-01-02-01-07.json").read_text())
    assert record["clip"]["crop"]["box"] == [0, 70, 180, 180]


# Lists and files that are not what they seem


def test_clips_cropped_in_two_ways_are_never_one_list(home, ravdess_zips, no_models):
    prepare("ravdess", ravdess_zips, home, subset="ci")
    manifest = home.data / "ravdess" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"rule": "center"', '"rule": "face"', 1))
    with pytest.raises(MissingError, match=r"different rules \(center, face\)") as caught:
        datasets.load("ravdess", home, "ci")
    assert "bench prepare --split ravdess --subset ci" in caught.value.hint


def test_a_clip_whose_files_are_gone_is_not_ready(home, ravdess_zips, no_models):
    prepare("ravdess", ravdess_zips, home, subset="ci")
    (home.data / "ravdess" / "clips" / "01-01-02-01-02-01-07" / "audio.wav").write_bytes(b"RIFF")
    assert len(datasets.load("ravdess", home, "ci").samples) == 2


@pytest.mark.parametrize("name", ["01-01-02-01-02-01-07", "Video_Speech_Actor_07.zip"])
def test_a_withdrawn_clip_is_removed_for_good(name, home, ravdess_zips, no_models):
    prepare("ravdess", ravdess_zips, home, subset="ci")
    (home.data / "ravdess" / "withdrawn.txt").write_text(f"\n{name} \n")
    account = prepare("ravdess", ravdess_zips, home, subset="ci")
    assert account.kept == 2 and account.reasons["withdrawn"] >= 1
    assert not (home.data / "ravdess" / "clips" / "01-01-02-01-02-01-07").exists()
    split = datasets.load("ravdess", home, "ci")
    assert {r.item: r.reason for r in split.rejected}["01-01-02-01-02-01-07"] == "withdrawn"


def test_damaged_files_of_ours_say_what_to_do(home, ravdess_zips, no_models):
    prepare("ravdess", ravdess_zips, home, subset="ci")
    (home.data / "ravdess" / "manifest.jsonl").write_text('{"clip_id": 1\n')
    with pytest.raises(UsageError, match="is damaged") as caught:
        datasets.load("ravdess", home, "ci")
    assert "bench prepare --split ravdess" in caught.value.hint
    assert prepare("ravdess", ravdess_zips, home, subset="ci").kept == 3


def test_a_list_from_elsewhere_cannot_leave_the_store(home, celebv_folder, no_models, monkeypatch, media, tree):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    file = celebv_folder / "celebvhq_info.json"
    data = json.loads(file.read_text())
    evil = "../../../evil_0"
    data["clips"] = {evil: tree.celebv_clip("AAAAAAAAAAA", 0.5, 6.5)}
    file.write_text(json.dumps(data))
    assert prepare("celebv-hq", celebv_folder, home).kept == 1
    sample = datasets.load("celebv-hq", home).samples[0]
    assert (home.data / "celebv-hq" / "clips") in sample.video.resolve().parents
    assert not [p for p in home.path.parent.rglob("*evil*") if home.data not in p.parents]
