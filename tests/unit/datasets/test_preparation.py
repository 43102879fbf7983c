"""Preparing data sets from fake trees: what is kept, what is refused and why, and doing it again."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from bench.data import datasets, declared, drawing, normalise
from bench.data.folder import safe_id
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
    assert account.left_out["unsafe path"] == 2 and account.left_out["neutral is never strong"] == 2
    assert account.ledger.is_file() and str(account.ledger) in account.text()
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


@pytest.fixture
def unpacked(ravdess_zips, tmp_path):
    """What the zips hold, as folders."""
    folder = tmp_path / "unpacked"
    for path in ravdess_zips.glob("*.zip"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(folder / path.stem, [m for m in zipped.namelist() if not m.startswith("..")])
    return folder


def test_unpacked_folders_give_the_same(home, ravdess_zips, unpacked, no_models, tmp_path):
    other = Home(tmp_path / "other").ready()
    prepare("ravdess", ravdess_zips, home, subset="ci")
    prepare("ravdess", unpacked, other, subset="ci")
    manifests = [(h.data / "ravdess" / "manifest.jsonl").read_bytes() for h in (home, other)]
    assert manifests[0] == manifests[1]


@pytest.mark.ray
def test_several_workers_draw_the_same_list(home, celebv_folder, no_models, monkeypatch, media, tmp_path):
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    shutil.copy(media / "long.mp4", celebv_folder / "CCCCCCCCCCC.mp4")
    shutil.copy(media / "mute.mp4", celebv_folder / "b_-dEfGhIjK.mp4")
    one = prepare("celebv-hq", celebv_folder, home)
    other = Home(tmp_path / "other").ready()
    two = prepare("celebv-hq", celebv_folder, other, workers=2)
    assert one.kept == two.kept == 2 and one.digest == two.digest and one.reasons == two.reasons
    for name in ("manifest.jsonl", "ledger.jsonl", "splits/test.jsonl"):
        assert (home.data / "celebv-hq" / name).read_bytes() == (other.data / "celebv-hq" / name).read_bytes()


def test_stopped_by_the_user(home, ravdess_zips, no_models, monkeypatch):
    from bench.data import preparation

    made, real = [], preparation.make_clip

    def make_clip(job, work):
        made.append(job.candidate.clip_id)
        if len(made) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(job, work)

    monkeypatch.setattr(preparation, "make_clip", make_clip)
    with pytest.raises(KeyboardInterrupt):
        prepare("ravdess", ravdess_zips, home, subset="ci")
    assert len(made) == 1, "the running clip is finished, no other is begun"
    assert not list((home.data / "ravdess").glob(".scratch*"))
    assert prepare("ravdess", ravdess_zips, home, subset="ci").kept == 3
    assert made.count(made[0]) == 1, "what was finished stays"


def test_a_clip_whose_worker_fails_is_tried_again_another_day(home, ravdess_zips, no_models, monkeypatch):
    from bench.data import preparation

    real = preparation.make_clip

    def make_clip(job, work):
        if job.candidate.clip_id.endswith("-22"):
            raise RuntimeError("the codec fell over")
        return real(job, work)

    monkeypatch.setattr(preparation, "make_clip", make_clip)
    account = prepare("ravdess", ravdess_zips, home, subset="ci")
    assert account.kept == 1 and account.reasons["not finished"] == account.again == 3
    assert "the codec fell over" in ledger(home, "ravdess")["01-01-04-02-02-02-22"]["detail"]
    monkeypatch.setattr(preparation, "make_clip", real)
    assert prepare("ravdess", ravdess_zips, home, subset="ci").kept == 3


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


# Filters that need networks


@pytest.fixture
def three_videos(celebv_folder, media, monkeypatch):
    """CelebV-HQ with three good videos, in list order A, C, b."""
    monkeypatch.setattr(drawing, "find_program", lambda name: None)
    (celebv_folder / "-DDDDDDDDDD.mp4").unlink()
    for name in ("AAAAAAAAAAA", "CCCCCCCCCCC", "b_-dEfGhIjK"):
        shutil.copy(media / "long.mp4", celebv_folder / f"{name}.mp4")
    return celebv_folder


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"sync": (3.0, 6.0)}, "audio out of sync"),
        ({"sync": (0.0, 1.2)}, "lips do not follow the sound"),
        ({"speech": 0.4}, "too little speech"),
        ({"yaw": 60.0}, "face turned away"),
        ({"yaw": -60.0}, "face turned away"),
    ],
)
def test_networks_decide(answers, reason, home, three_videos, networks):
    networks(**answers)
    account = prepare("celebv-hq", three_videos, home)
    # The first video has two clips, and both are tried.
    assert account.kept == 0 and account.reasons == {reason: 4, "unavailable": 1}


def test_a_change_of_person_is_seen(home, three_videos, networks):
    people = iter([0.0] * 20 + [90.0] * 5)
    networks(person=lambda frame: next(people, 90.0))
    account = prepare("celebv-hq", three_videos, home)
    assert account.reasons["change of person"] == 1, "cosine to the mean of 20 and 5 frames: 0.24"


def test_one_person_under_two_names_stands_in_the_list_once(home, three_videos, networks):
    networks(person=lambda frame: 0.0)
    account = prepare("celebv-hq", three_videos, home)
    # The first in hash order stays; another video has two clips, and both are tried.
    assert account.kept == 1 and account.reasons == {"same person as another clip": 3, "unavailable": 1}
    entry = ledger(home, "celebv-hq")["AAAAAAAAAAA_0"]
    assert entry["state"] == "filtered" and entry["detail"].endswith("_0, cosine 1.00")
    assert account.not_applied.keys() == {"C4 no music"}, "everything else was looked at"
    sample = datasets.load("celebv-hq", home).samples[0]
    assert sample.digests.keys() == {"video", "audio", "image", "reference"}, "the embedding stays here"


def test_a_missing_network_is_said_everywhere(home, three_videos, networks):
    networks(missing=("identity", "sync"))
    account = prepare("celebv-hq", three_videos, home)
    assert account.kept == 3
    assert account.not_applied == {
        "C2 one person": "no identity network; run: bench prepare",
        "C4 no music": "bench has no music detector; only the owners' labels speak of music",
        "C5 synchronisation": "no sync network; run: bench prepare",
        "C6 another person than in every other clip": "no identity network; run: bench prepare",
    }
    assert "NOT CHECKED" in account.text() and "C5 synchronisation: no sync network" in account.text()
    manifest = (home.data / "celebv-hq" / "manifest.jsonl").read_text().splitlines()
    for line in map(json.loads, manifest):
        absent = {f["name"]: f["needs"] for f in line["filters"] if f["passed"] is None}
        assert absent["C5 synchronisation"] == "no sync network; run: bench prepare"
    header = declared.read_list(home.data / "celebv-hq" / "splits" / "test.jsonl").header
    assert header["list_kind"] == "unfiltered" and "C2 one person" in header["not_applied"]
    split = datasets.load("celebv-hq", home)
    assert any("Not checked" in note and "C6" in note for note in split.notes)
    # With the networks the clips are made again: one list never mixes the two.
    networks(sync=(2.0, 6.0))
    assert prepare("celebv-hq", three_videos, home).reasons["audio out of sync"] == 4


def test_ravdess_reports_sync_and_keeps_the_clip(home, ravdess_zips, networks):
    networks(sync=(4.0, 6.0))
    account = prepare("ravdess", ravdess_zips, home, subset="ci")
    assert account.kept == 3 and "audio out of sync" not in account.reasons
    assert "only reported for this set: C5 offset (3 clips)" in account.text()
    assert account.not_applied == {}


def test_what_is_here_is_found_out(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    tools = normalise.available_tools(declared.declared("celebv-hq"))
    assert not tools.sync and not tools.identity and not tools.faces
    assert "bench prepare --metrics sync" in tools.needs["sync"]
    assert tools.needs["identity"] and tools.needs["faces"]
    assert tools.speech or "actalker-bench[speech]" in tools.needs["speech"]
    assert normalise.available_tools(declared.declared("vfhq")) == normalise.Tools()


def test_speech_is_told_from_silence():
    pytest.importorskip("webrtcvad")
    from bench.data.checks import speech_share

    rng = np.random.default_rng(0)
    hum = rng.normal(0, 30, 16000).astype(np.int16)
    t = np.arange(16000) / 16000
    voiced = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 25)) * (1 + np.sin(2 * np.pi * 4 * t))
    voice = (4000 * voiced).astype(np.int16)
    assert speech_share(hum) < 0.2 and speech_share(voice) > 0.8
    assert 0.3 < speech_share(np.concatenate([voice, hum])) < 0.8
    assert speech_share(np.zeros(0, np.int16)) == 0.0


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
