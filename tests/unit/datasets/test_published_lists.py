"""Preparing CelebV-HQ, HDTF and VFHQ from what their owners publish, with and without downloads."""

import dataclasses
import json
import os
import shutil
import sys
import time

import pytest

from bench.core.keys import file_digest
from bench.data import datasets, declared
from bench.data.folder import safe_id
from bench.media.decode import chunks
from bench.run import drawing
from bench.store.home import Home

from .conftest import ledger, prepare

pytestmark = pytest.mark.usefixtures("small")


# CelebV-HQ


def test_celebv_hq_draws_by_hash_and_freezes(home, celebv_folder, no_models, monkeypatch, media, wav_frames):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    account = prepare("celebv-hq", celebv_folder, home)
    assert account.kept == 1 and account.wanted == 100
    # One video shows a cut, two are not there, and one clip per video is enough.
    assert account.reasons == {"shot cut": 1, "unavailable": 2}
    entries = ledger(home, "celebv-hq")
    assert entries["-DDDDDDDDDD_0"]["reason"] == "shot cut"
    assert entries["BAD_TIME_00_0"]["state"] == "bad-annotation"
    assert entries["SINGING____ _0"]["reason"] == "labelled sing"
    frozen = declared.read_list(home.data / "celebv-hq" / "splits" / "test.jsonl")
    assert [e["clip_id"] for e in frozen.entries] == ["AAAAAAAAAAA_1"], "by hash, _1 comes before _0"
    assert frozen.header["complete"] is False
    assert next(k for k in datasets.known(home) if k.name == "celebv-hq").state == "1 of 100 clips"
    sample = datasets.load("celebv-hq", home).samples[0]
    assert sample.frames == 125 and wav_frames(sample.audio) == 125 * 640 and sample.identity == "AAAAAAAAAAA"
    split = datasets.load("celebv-hq", home)
    assert any("Not checked" in note for note in split.notes)
    # More videos: the list is drawn on, and what was there keeps its place.
    shutil.copy(media / "long.mp4", celebv_folder / "CCCCCCCCCCC.mp4")
    assert prepare("celebv-hq", celebv_folder, home).kept == 2
    frozen = declared.read_list(home.data / "celebv-hq" / "splits" / "test.jsonl")
    assert [e["clip_id"] for e in frozen.entries] == ["AAAAAAAAAAA_1", "CCCCCCCCCCC_2_0"]


def test_a_complete_list_is_frozen(home, celebv_folder, no_models, monkeypatch, media, tmp_path):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    small = declared.declared

    def of_two(name):
        dataset = small(name)
        return dataclasses.replace(
            dataset, subsets={"test": dataclasses.replace(dataset.subsets["test"], count=2)}
        )

    monkeypatch.setattr(declared, "declared", of_two)
    for name in ("CCCCCCCCCCC", "b_-dEfGhIjK"):
        shutil.copy(media / "long.mp4", celebv_folder / f"{name}.mp4")
    account = prepare("celebv-hq", celebv_folder, home)
    assert (account.kept, account.wanted) == (2, 2)
    states = {k.name: k for k in datasets.known(home)}
    assert states["celebv-hq"].state == "ready" and account.digest[:16] in states["celebv-hq"].detail
    other = prepare("celebv-hq", celebv_folder, Home(tmp_path / "other").ready())
    assert other.digest == account.digest, "two users with the same media draw the same list"
    # A clip of it is lost with its source: the list stays, and nothing takes its place.
    lost = declared.read_list(home.data / "celebv-hq" / "splits" / "test.jsonl").entries[0]
    (celebv_folder / f"{lost['identity']}.mp4").unlink()
    shutil.rmtree(home.data / "celebv-hq" / "clips" / safe_id(lost["clip_id"]))
    gone = prepare("celebv-hq", celebv_folder, home)
    assert (gone.kept, gone.wanted, gone.digest) == (1, 2, account.digest)
    assert any("1 of 2" in note for note in datasets.load("celebv-hq", home).notes)


def test_celebv_hq_from_clips_that_others_cut(home, celebv_folder, no_models, monkeypatch, media):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    for path in celebv_folder.glob("*.mp4"):
        path.unlink()
    shutil.copy(media / "long.mp4", celebv_folder / "AAAAAAAAAAA_0.mp4")
    assert prepare("celebv-hq", celebv_folder, home).kept == 1
    split = datasets.load("celebv-hq", home)
    assert split.samples[0].id.startswith("AAAAAAAAAAA_0")
    assert any("mirror" in note for note in split.notes)


FAKE_YT_DLP = """#!{python}
import json, shutil, sys
table = json.load(open({table!r}))
url = sys.argv[-1]
open({log!r}, "a").write(json.dumps(sys.argv[1:]) + "\\n")
answer = table.get(url.rpartition("=")[2], "unavailable")
texts = {{"unavailable": "ERROR: Video unavailable", "private": "ERROR: Private video",
          "rate": "ERROR: Video unavailable. This content isn't available, try again later",
          "age": "ERROR: Sign in to confirm your age"}}
if answer in texts:
    print(texts[answer], file=sys.stderr)
    sys.exit(1)
name = next(a for a in sys.argv if a.startswith("--output=")).partition("=")[2]
shutil.copy(answer, name.replace("%(ext)s", "mp4"))
"""


@pytest.fixture
def youtube(tmp_path, monkeypatch):
    """A fake yt-dlp on PATH; returns its table of answers and its log."""
    table, log = tmp_path / "fake_youtube.json", tmp_path / "argv.jsonl"
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "yt-dlp"
    program.write_text(FAKE_YT_DLP.format(python=sys.executable, table=str(table), log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return table, log


def test_celebv_hq_with_downloads(home, celebv_folder, no_models, youtube, media):
    table, log = youtube
    for path in celebv_folder.glob("*.mp4"):
        path.unlink()
    answers = {
        "AAAAAAAAAAA": str(media / "long.mp4"),
        "-DDDDDDDDDD": "private",
        "CCCCCCCCCCC": "age",
        "b_-dEfGhIjK": "rate",
    }
    table.write_text(json.dumps(answers))
    account = prepare("celebv-hq", celebv_folder, home)
    assert account.kept == 1 and account.reasons == {"unavailable": 3} and account.again == 2
    states = {k: v["state"] for k, v in ledger(home, "celebv-hq").items()}
    assert states["-DDDDDDDDDD_0"] == "dead" and states["CCCCCCCCCCC_2_0"] == "blocked"
    assert states["b_-dEfGhIjK_0"] == "retry", "a rate limit is not a dead video"
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(calls) == 4, "one download per video"
    assert all(call[-1].startswith("https://www.youtube.com/watch?v=") for call in calls), "never a bare id"
    assert all("+ba" in next(w for w in call if w.startswith("--format=")) for call in calls), "with sound"
    assert not list((home.data / "celebv-hq" / "source").rglob("*.mp4")), "sources are removed after cutting"
    # Another day: what was refused for the moment is asked for again, the dead video and the finished one are not.
    answers["b_-dEfGhIjK"] = str(media / "long.mp4")
    table.write_text(json.dumps(answers))
    log.unlink()
    assert prepare("celebv-hq", celebv_folder, home).kept == 2
    asked = {json.loads(line)[-1].partition("=")[2] for line in log.read_text().splitlines()}
    assert asked == {"CCCCCCCCCCC", "b_-dEfGhIjK"}


def test_a_video_with_several_clips_is_asked_for_once(home, celebv_folder, no_models, youtube, media):
    table, log = youtube
    for path in celebv_folder.glob("*.mp4"):
        path.unlink()
    table.write_text(json.dumps({"AAAAAAAAAAA": str(media / "cut.mp4")}))  # both clips of it show a cut
    account = prepare("celebv-hq", celebv_folder, home)
    assert account.kept == 0 and account.reasons == {"shot cut": 2, "unavailable": 3}
    urls = [json.loads(line)[-1] for line in log.read_text().splitlines()]
    assert len(urls) == len(set(urls)) == 4
    assert not list((home.data / "celebv-hq" / "source").rglob("*.mp4"))


def test_a_video_left_by_a_killed_run_is_used(home, celebv_folder, no_models, youtube, media):
    table, log = youtube
    for path in celebv_folder.glob("*.mp4"):
        path.unlink()
    table.write_text("{}")
    left = home.data / "celebv-hq" / "source" / "raw" / "AAAAAAAAAAA.mp4"
    left.parent.mkdir(parents=True)
    shutil.copy(media / "long.mp4", left)
    assert prepare("celebv-hq", celebv_folder, home).kept == 1
    assert "AAAAAAAAAAA" not in log.read_text() and not left.exists()


def test_a_huge_list_without_videos_ends_soon_and_says_what_is_missing(
    home, celebv_folder, no_models, monkeypatch, tree
):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    file = celebv_folder / "celebvhq_info.json"
    data = json.loads(file.read_text())
    data["clips"] = {f"{n:011d}_{m}": tree.celebv_clip(f"{n:011d}") for n in range(5000) for m in range(3)}
    file.write_text(json.dumps(data))
    began = time.process_time()
    account = prepare("celebv-hq", celebv_folder, home)
    assert time.process_time() - began < 15
    assert account.kept == 0 and account.reasons == {"unavailable": 15000}
    assert not (home.data / "celebv-hq" / "candidates").exists(), "what is just not there leaves no file each"
    assert "pip install -U yt-dlp" in account.text()


def test_downloads_stop_at_the_rate_limit(home, celebv_folder, no_models, youtube):
    table, log = youtube
    for path in celebv_folder.glob("*.mp4"):
        path.unlink()
    table.write_text(
        json.dumps(dict.fromkeys(["AAAAAAAAAAA", "-DDDDDDDDDD", "CCCCCCCCCCC", "b_-dEfGhIjK"], "rate"))
    )
    account = prepare("celebv-hq", celebv_folder, home)
    assert account.kept == 0 and account.again == len(ledger_tried(home)) >= 4
    assert len(log.read_text().splitlines()) == 3, "three refusals are enough"
    assert "run the same command again" in account.text()


def ledger_tried(home):
    return [v for v in ledger(home, "celebv-hq").values() if v["state"] == "retry"]


# HDTF and VFHQ


def test_hdtf(home, hdtf_folder, no_models, monkeypatch, tree):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    tree.write_video(hdtf_folder / "AAAAAAAAAAA.mp4", 60, 10, width=1280, height=720)
    tree.write_video(hdtf_folder / "-EEEEEEEEEE.mp4", 40, 25, width=640, height=360)
    account = prepare("hdtf", hdtf_folder.parent, home)
    assert account.kept == 0
    states = {k: (v["state"], v["reason"]) for k, v in ledger(home, "hdtf").items()}
    assert states["WDA_Carolyn2_000"] == ("filtered", "frame rate too low")
    assert states["WDA_Mary-Ann_000"][0] == "mismatch", "a crop is never applied at another height"
    assert states["WRA_JimClyburn1_000"] == ("dead", "unavailable")
    assert states["RD_Radio1_000"] == ("bad-annotation", "no identity label")
    tree.write_video(hdtf_folder / "AAAAAAAAAAA.mp4", 180, 25, width=1280, height=720)
    assert prepare("hdtf", hdtf_folder.parent, home).kept == 1
    sample = datasets.load("hdtf", home).samples[0]
    assert sample.frames == 125 and sample.identity == "Carolyn"


def test_vfhq_self_and_cross(home, vfhq_folder, no_models):
    account = prepare("vfhq", vfhq_folder, home)
    assert account.kept == 3
    split = datasets.load("vfhq", home)
    assert [s.frames for s in split.samples] == [100, 100, 100]
    assert all(s.audio is None and s.reference.parent == s.video.parent for s in split.samples)
    assert any("25 fps is assumed" in note for note in split.notes)
    cross = datasets.load("vfhq", home, "cross")
    assert len(cross.samples) == 3 and all(s.reference is None and s.audio is None for s in cross.samples)
    for sample in cross.samples:
        assert sample.image.parent != sample.video.parent
        assert all(c.isalnum() or c in "._-" for c in sample.id)
        assert sample.digests["image"] == file_digest(sample.image)
    assert len({s.id for s in cross.samples}) == 3
    assert prepare("vfhq", vfhq_folder, home, subset="cross").kept == 3, "the same clips serve both"
    assert prepare("vfhq", vfhq_folder, home, subset="ci").wanted == 4


def test_vfhq_train_is_frame_exact(home, tmp_path, no_models, tree, monkeypatch):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    folder = tmp_path / "train"
    folder.mkdir()
    name = "Clip+AbCdEfGhIjK+P2+C1+F29-140"
    text = "Video ID: AbCdEfGhIjK\nH: 180\nW: 320\nFPS: 25.0\n\nFRAME\n\n00000029 1 1 1 1 1\nCROP: 70 0 250 180\n"
    (folder / f"{name}.txt").write_text(text)
    (folder / "Clip+ZZZZZZZZZZZ+P2+C1+F29-140.txt").write_text(text.replace("25.0", "29.97"))
    tree.write_video(folder / "AbCdEfGhIjK.mp4", 200, 25, sound=False)
    shutil.copy(folder / "AbCdEfGhIjK.mp4", folder / "ZZZZZZZZZZZ.mp4")
    account = prepare("vfhq", folder, home, subset="train")
    assert account.kept == 1 and account.reasons == {"other size or rate than annotated": 1}
    sample = datasets.load("vfhq", home, "train").samples[0]
    shown = [tree.read_code(f) for chunk in chunks(sample.video) for f in chunk]
    assert shown == list(range(30, 130)), "used are F+1 onwards, 100 frames"
