"""Filters that need networks: each decides, and an absent one is said, never passed."""

import json
import shutil

import numpy as np
import pytest

from bench.data import datasets, declared, normalise
from bench.run import drawing

from .conftest import ledger, prepare

pytestmark = pytest.mark.usefixtures("small")


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
    for name in ("AAAAAAAAAAA", "CCCCCCCCCCC"):
        (three_videos / f"{name}.mp4").unlink()
    account = prepare("celebv-hq", three_videos, home)
    assert account.kept == 0 and account.reasons == {reason: 1, "unavailable": 4}


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
        absent = [f["name"] for f in line["filters"] if f["passed"] is None]
        assert absent == ["C4 no music", "C2 one person", "C5 synchronisation"]
    header = declared.read_list(home.data / "celebv-hq" / "splits" / "test.jsonl").header
    assert header["list_kind"] == "unfiltered" and "C2 one person" in header["not_applied"]
    split = datasets.load("celebv-hq", home)
    assert any("Not checked" in note and "C6" in note for note in split.notes)
    # With the networks the clips are made again: one list never mixes the two.
    networks(sync=(2.0, 6.0))
    assert prepare("celebv-hq", three_videos, home).reasons["audio out of sync"] == 4


def test_a_clip_that_could_not_be_measured_is_not_passed(home, three_videos, networks):
    networks(sync=None)
    account = prepare("celebv-hq", three_videos, home)
    assert "no face track" in account.not_applied["C5 synchronisation"]


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


def test_what_the_networks_are_asked(monkeypatch, media):
    from bench import catalogue
    from bench.core.spec import Reason, Unscored
    from bench.data import checks
    from bench.metrics.networks import arcface

    asked = catalogue.metrics()["sync/short"]
    assert {"offset", "sync_c"} <= {column.key for column in asked.spec.columns}

    class Sync:
        answer: object = {"offset": -2.0, "sync_c": 6.5, "sync_d": 8.0}

        def score(self, clip, reference):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    sync = Sync()
    monkeypatch.setattr(catalogue, "metrics", lambda: {"sync/short": sync})
    assert checks._SyncNet().measure(media / "good.mp4") == (-2.0, 6.5)
    sync.answer = Unscored(Reason.NO_FACE, "no track")
    assert checks._SyncNet().measure(media / "good.mp4") is None
    assert [f.passed for f in checks.check_sync(None)] == [None]

    class Embedder:
        def find(self, picture):
            return (
                None if picture.max() == 0 else (picture, arcface.Face(np.zeros(4), np.zeros((5, 2)), 1.0), False)
            )

        def embed(self, pictures, landmarks):
            return np.full((1, 512), 512**-0.5, np.float32)

    monkeypatch.setattr(arcface, "Embedder", Embedder)
    blank, grey = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 90, np.uint8)
    found = checks._ArcFace().embeddings([grey, blank, grey])
    assert found.shape == (2, 512)
    finding, mean = checks.check_person(found)
    assert finding.passed and mean.shape == (512,)
    assert checks.check_person(checks._ArcFace().embeddings([blank]))[0].reason == "no face"
