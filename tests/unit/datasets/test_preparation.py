"""Preparing RAVDESS from fake trees: what is kept, what is refused and why, and doing it again."""

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

from bench.core.errors import ExitCode, MissingError, UsageError
from bench.core.keys import file_digest
from bench.core.registry import UnknownName
from bench.data import datasets, declared
from bench.media.decode import chunks, read_audio, read_image
from bench.run import drawing
from bench.store.home import Home

from .conftest import ledger, prepare

pytestmark = pytest.mark.usefixtures("small")


ONE_FACE = (150.0, 120.0, 350.0, 390.0)


def stamps(home, name):
    return {p: p.stat().st_mtime_ns for p in (home.data / name / "clips").rglob("*") if p.is_file()}


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
    truth = np.concatenate(list(chunks(sample.reference)))
    assert np.array_equal(truth[0], picture), "the ground truth never went through a lossy encoder"
    assert truth.shape == frames.shape and read_audio(sample.reference) is None
    assert sample.digests == {
        "image": file_digest(sample.image),
        "audio": file_digest(sample.audio),
        "video": file_digest(sample.video),
        "reference": file_digest(sample.reference),
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
    assert len(datasets.load("ravdess", home, "ci").samples) == 1, "it can be used"
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
        "import dataclasses, sys; from pathlib import Path; from bench.data import declared;"
        "from bench.run import drawing;"
        "full = declared.declared; declared.declared = lambda n: dataclasses.replace(full(n), size=128);"
        "from bench.data.normalise import Tools; from bench.store.home import Home;"
        "drawing.available_tools = lambda d: Tools();"
        "drawing.prepare('ravdess', Path(sys.argv[1]), Home(Path(sys.argv[2])), True, subset='ci')"
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
        drawing.prepare("ravdess", ravdess_zips, home, subset="ci")
    assert "--accept-licences" in caught.value.hint
    assert not (home.data / "ravdess" / "clips").exists()
    prepare("ravdess", ravdess_zips, home, subset="ci")
    drawing.prepare("ravdess", ravdess_zips, home, subset="ci")


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
