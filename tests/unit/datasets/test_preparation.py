"""Preparing data sets from fake trees: what is kept, what is refused and why, and doing it again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bench.data import datasets, declared, drawing
from bench.errors import ExitCode, MissingError, UsageError
from bench.keys import file_digest
from bench.media.decode import chunks, read_audio, read_image
from bench.registry import UnknownName
from bench.store.home import Home

pytestmark = pytest.mark.usefixtures("small")

ONE_FACE = (150.0, 120.0, 350.0, 390.0)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home").ready()


def prepare(name, source, home, **options):
    return datasets.prepare(name, source, home, accept_terms=True, **options)


def ledger(home, name):
    lines = (home.data / name / "ledger.jsonl").read_text().splitlines()
    return {line["clip_id"]: line for line in map(json.loads, lines)}


def stamps(home, name):
    return {p: p.stat().st_mtime_ns for p in (home.data / name / "clips").rglob("*") if p.is_file()}


# RAVDESS


def test_ravdess_ci(home, ravdess_zips, no_models, wav_frames):
    account = prepare("ravdess", ravdess_zips, home, subset="ci")
    assert (account.kept, account.wanted) == (3, 8)
    assert account.reasons == {
        "no audio": 1, "too short": 1, "does not decode": 1, "silent": 1, "unavailable": 1,
    }  # fmt: skip
    assert "3 of 8 clips ready" in account.text() and "C1 one face" in account.text()
    split = datasets.load("ravdess", home, "ci")
    assert [s.id for s in split.samples] == [
        "01-01-02-01-02-01-07",
        "01-01-04-02-02-02-22",
        "01-01-05-02-01-02-22",
    ]
    assert {r.item: r.reason.split(" (")[0] for r in split.rejected} == {
        "01-01-06-01-01-01-07": "no audio",
        "01-01-01-01-02-01-07": "too short",
        "01-01-08-01-01-01-07": "does not decode",
        "01-01-07-02-02-02-22": "silent",
        "01-01-03-01-01-02-22": "unavailable",
    }
    sample = split.samples[0]
    assert (sample.dataset, sample.split, sample.identity, sample.fps) == ("ravdess", "ci", "07", 25.0)
    frames = np.concatenate(list(chunks(sample.video)))
    assert frames.shape == (sample.frames, 128, 128, 3)
    assert wav_frames(sample.audio) == 640 * sample.frames
    assert read_audio(sample.video) is None, "the video itself is mute, so that a closed gate stays closed"
    picture = read_image(sample.image)
    assert np.abs(picture.astype(int) - frames[0]).mean() < 4
    assert sample.reference == sample.video
    assert sample.digests == {
        "image": file_digest(sample.image),
        "audio": file_digest(sample.audio),
        "video": file_digest(sample.video),
        "reference": file_digest(sample.video),
    }
    assert any("own draw" in note for note in split.notes) and any("3 of 8" in note for note in split.notes)
    record = json.loads((home.data / "ravdess" / "candidates" / "01-01-02-01-02-01-07.json").read_text())
    assert record["clip"]["crop"] == {"box": [70, 0, 180, 180], "rule": "center"}
    assert record["clip"]["native"]["fps"] == pytest.approx(29.97, abs=0.01)
    assert not list((home.data / "ravdess").glob(".scratch*"))


def test_ravdess_crops_around_the_face(home, ravdess_zips, with_faces):
    with_faces(ONE_FACE)
    assert prepare("ravdess", ravdess_zips, home, subset="ci").kept == 3
    record = json.loads((home.data / "ravdess" / "candidates" / "01-01-02-01-02-01-07.json").read_text())
    assert record["clip"]["crop"]["rule"] == "face"
    assert {f["name"] for f in record["clip"]["filters"]} >= {"C1 face", "C1 second face", "C3 face size"}


@pytest.mark.parametrize(
    ("boxes", "reason", "count"),
    [
        ((), "no face", 5),  # also the short and the silent one: nothing to centre on
        ((ONE_FACE, (10.0, 10.0, 160.0, 200.0)), "several faces", 3),
        (((200.0, 200.0, 220.0, 230.0),), "face too small", 3),
    ],
)
def test_faces_decide(boxes, reason, count, home, ravdess_zips, with_faces):
    with_faces(*boxes)
    account = prepare("ravdess", ravdess_zips, home, subset="ci")
    assert account.kept == 0 and account.reasons[reason] == count
    with pytest.raises(MissingError):
        datasets.load("ravdess", home, "ci")


def test_a_second_run_does_nothing(home, ravdess_zips, no_models):
    first = prepare("ravdess", ravdess_zips, home, subset="ci")
    before = stamps(home, "ravdess")
    manifest = (home.data / "ravdess" / "manifest.jsonl").read_bytes()
    assert prepare("ravdess", ravdess_zips, home, subset="ci") == first
    assert stamps(home, "ravdess") == before
    assert (home.data / "ravdess" / "manifest.jsonl").read_bytes() == manifest


def test_a_lost_file_is_made_again_alone(home, ravdess_zips, no_models):
    prepare("ravdess", ravdess_zips, home, subset="ci")
    before = stamps(home, "ravdess")
    manifest = (home.data / "ravdess" / "manifest.jsonl").read_bytes()
    lost = home.data / "ravdess" / "clips" / "01-01-02-01-02-01-07" / "video.mp4"
    lost.unlink()
    assert prepare("ravdess", ravdess_zips, home, subset="ci").kept == 3
    changed = {p.parent.name for p, t in stamps(home, "ravdess").items() if before.get(p) != t}
    assert changed == {"01-01-02-01-02-01-07"}
    assert (home.data / "ravdess" / "manifest.jsonl").read_bytes() == manifest, "the same bytes again"


def test_unpacked_folders_and_several_processes_give_the_same(home, ravdess_zips, no_models, tmp_path):
    import zipfile

    prepare("ravdess", ravdess_zips, home, subset="ci")
    unpacked = tmp_path / "unpacked"
    for path in ravdess_zips.glob("*.zip"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(unpacked / path.stem, [m for m in zipped.namelist() if not m.startswith("..")])
    other = Home(tmp_path / "other").ready()
    prepare("ravdess", unpacked, other, subset="ci", workers=2)
    manifests = [(h.data / "ravdess" / "manifest.jsonl").read_bytes() for h in (home, other)]
    assert manifests[0] == manifests[1]


def test_a_killed_preparation_goes_on(home, ravdess_zips, no_models, tmp_path):
    code = (
        "import dataclasses, sys; from pathlib import Path; from bench.data import datasets, declared, drawing;"
        "full = declared.declared; declared.declared = lambda n: dataclasses.replace(full(n), size=128);"
        "from bench.data.normalise import Tools; from bench.store.home import Home;"
        "drawing.available_tools = lambda d: Tools();"
        "datasets.prepare('ravdess', Path(sys.argv[1]), Home(Path(sys.argv[2])), True, subset='ci')"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code, str(ravdess_zips), str(home.path)], env=env)
    done = home.data / "ravdess" / "candidates"
    while child.poll() is None and not (done.is_dir() and list(done.glob("*.json"))):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = home.data / "ravdess" / "clips" / ".half.1.part"
    left.mkdir(parents=True, exist_ok=True)
    assert not (home.data / "ravdess" / "manifest.jsonl").exists()
    assert prepare("ravdess", ravdess_zips, home, subset="ci").kept == 3
    assert not left.exists()


def test_one_preparation_at_a_time(home, ravdess_zips, no_models):
    import fcntl

    (home.data / "ravdess").mkdir(parents=True)
    with (home.data / "ravdess" / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="Another process"):
            prepare("ravdess", ravdess_zips, home, subset="ci")


def test_terms_are_asked_for_once(home, ravdess_zips, no_models):
    with pytest.raises(UsageError, match="CC BY-NC-SA") as caught:
        datasets.prepare("ravdess", ravdess_zips, home, subset="ci")
    assert "--accept-licences" in caught.value.hint
    assert not (home.data / "ravdess" / "clips").exists()
    prepare("ravdess", ravdess_zips, home, subset="ci")
    datasets.prepare("ravdess", ravdess_zips, home, subset="ci")


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
    sample = datasets.load("celebv-hq", home).samples[0]
    assert sample.frames == 125 and wav_frames(sample.audio) == 125 * 640 and sample.identity == "AAAAAAAAAAA"
    split = datasets.load("celebv-hq", home)
    assert any("Not checked" in note for note in split.notes)
    # More videos: the list is drawn on, and what was there keeps its place.
    shutil.copy(media / "long.mp4", celebv_folder / "CCCCCCCCCCC.mp4")
    assert prepare("celebv-hq", celebv_folder, home).kept == 2
    frozen = declared.read_list(home.data / "celebv-hq" / "splits" / "test.jsonl")
    assert [e["clip_id"] for e in frozen.entries] == ["AAAAAAAAAAA_1", "CCCCCCCCCCC_2_0"]


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
    # Another day: the video that was refused for the moment is asked for again, the dead one is not... but it
    # costs nothing to ask once more, because nothing is remembered as dead across folders.
    answers["b_-dEfGhIjK"] = str(media / "long.mp4")
    table.write_text(json.dumps(answers))
    assert prepare("celebv-hq", celebv_folder, home).kept == 2


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
    assert all(s.audio is None and s.reference == s.video for s in split.samples)
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


# What a user sees before anything is prepared


@pytest.mark.parametrize("name", ["ravdess", "celebv-hq", "vfhq", "hdtf"])
def test_missing_data_says_the_command(name, home):
    with pytest.raises(MissingError) as caught:
        datasets.load(name, home)
    assert caught.value.exit_code == ExitCode.MISSING
    place = "" if name == "ravdess" else " --from DIR"
    assert f"bench prepare --split {name}{place} --accept-licences" in caught.value.hint


@pytest.mark.parametrize(("name", "count"), [("ravdess", 100), ("celebv-hq", 100), ("vfhq", 50), ("hdtf", 100)])
def test_planning_needs_no_media(name, count, home):
    split = datasets.load(name, home, media=False)
    assert len(split.samples) == count
    assert all((s.audio is not None) == (name != "vfhq") for s in split.samples)
    assert "not prepared" in split.notes[0] and "bench prepare" in split.notes[0]


def test_readiness(home, ravdess_zips, no_models):
    states = {k.name: k for k in datasets.known(home)}
    assert set(states) == {"ravdess", "celebv-hq", "vfhq", "hdtf"}
    assert states["vfhq"].state == "not prepared" and "bench prepare --split vfhq" in states["vfhq"].detail
    prepare("ravdess", ravdess_zips, home, subset="ci")
    assert next(k for k in datasets.known(home) if k.name == "ravdess").state == "3 of 100 clips"


def test_wrong_names(home, tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'ravdess'"):
        datasets.load("ravdes", home)
    with pytest.raises(UsageError, match=r"no subset 'tset'.*'test'"):
        datasets.load("ravdess", home, "tset")
    with pytest.raises(UsageError, match="no folder"):
        prepare("ravdess", tmp_path / "nowhere", home)
    with pytest.raises(MissingError, match=r"celebvhq_info\.json"):
        prepare("celebv-hq", tmp_path, home)
    with pytest.raises(MissingError, match="needs files from you"):
        prepare("vfhq", None, home)
    with pytest.raises(UsageError, match="no VFHQ test clip"):
        prepare("vfhq", tmp_path, home)


def test_declarations_are_complete():
    for name in declared.names():
        dataset = declared.declared(name)
        assert dataset.homepage.startswith("https://") and dataset.citation and dataset.licence
        assert (declared.data_folder("datasets") / name / "README.md").is_file()
        for subset, rule in dataset.subsets.items():
            if rule.protocol == "self":
                header = declared.shipped_list(name, subset).header
                assert header["count"] == rule.count and header["rule"] == rule.rule


# Real clips, where there are some


def test_real_clips_in_the_layout_of_ravdess(home, tmp_path, no_models, shared):
    clip = sorted((shared / "media" / "talking").glob("*1280x720_30fps.mp4"))[0]
    folder = tmp_path / "real" / "Actor_07"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / "01-01-02-01-02-01-07.mp4")
    assert prepare("ravdess", folder.parent, home, subset="ci").kept == 1
    sample = datasets.load("ravdess", home, "ci").samples[0]
    assert next(iter(chunks(sample.video))).shape[1:] == (128, 128, 3)


def test_real_faces_are_found_and_centred(home, tmp_path, shared, monkeypatch):
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("BENCH_WEIGHTS", str(shared / "weights"))
    folder = tmp_path / "real" / "Actor_07"
    folder.mkdir(parents=True)
    talking = shared / "media" / "talking"
    shutil.copy(talking / "lp_s18_1280x720_30fps.mp4", folder / "01-01-02-01-02-01-07.mp4")
    shutil.copy(talking / "latentsync_demo1_1080x1920_25fps.mp4", folder / "01-01-06-01-01-01-07.mp4")
    account = prepare("ravdess", folder.parent, home, subset="ci")
    results = json.loads((home.data / "ravdess" / "candidates" / "01-01-02-01-02-01-07.json").read_text())
    assert account.kept == 2, account.text()
    assert results["clip"]["crop"]["rule"] == "face"
    found = {f["name"]: f for f in results["clip"]["filters"]}
    assert found["C1 face"]["value"] == 1.0 and found["C3 face size"]["passed"]
