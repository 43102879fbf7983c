"""Four outside systems, played by stand-ins, from `bench prepare` through `bench run` to the table."""

import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import invoke
from bench.core.errors import ExitCode
from bench.systems import contract as contracts

STUB = Path(__file__).with_name("stub_system.py")
PYTHON = Path(sys.executable).absolute()
SYSTEMS = {
    "sadtalker": {
        "scripts": ["inference.py"],
        "image": "--source_image",
        "audio": "--driven_audio",
        "video": "",
        "out": "--result_dir",
        "name": "2026_01_01_00.00.00.mp4",
    },
    "hallo": {
        "scripts": ["scripts/inference.py"],
        "image": "--source_image",
        "audio": "--driving_audio",
        "video": "",
        "out": "--output",
        "exit": 1,  # a good video with a bad exit status
    },
    "liveportrait": {
        "scripts": ["inference.py"],
        "image": "-s",
        "audio": "",
        "video": "-d",
        "out": "-o",
        "name": "portrait--driver.mp4",
    },
    "edtalk": {
        "scripts": ["demo_lip_pose.py", "demo_EDTalk_V.py", "demo_EDTalk_A.py"],
        "image": "--source_path",
        "audio": "--audio_driving_path",
        "video": "--pose_driving_path",
        "out": "--save_path",
    },
}


def make_checkout(name, root):
    contract = contracts.find(name)
    stub = {"exit": 0, **SYSTEMS[name], "flags": list(contract.verified_flags)}
    for script in SYSTEMS[name]["scripts"]:
        (root / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(STUB, root / script)
        (root / script).with_name("stub.json").write_text(json.dumps(stub))
    for weight in contract.weights:
        target = root / weight.path
        if not target.suffix:
            target /= "model.bin"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"weights")
    for commands in contract.gates.values():
        if commands.config and commands.config.base:
            base = root / commands.config.base
            base.parent.mkdir(parents=True, exist_ok=True)
            base.write_text("data: 1\n")
    return root


@pytest.fixture
def home(monkeypatch):
    return Path(os.environ["BENCH_HOME"])


@pytest.mark.slow
def test_from_preparation_to_table(home, tmp_path, capfd):
    names = ",".join(SYSTEMS)
    plan = ["plan", "--split", "synthetic-ci", "--subset", "1", "--methods", names, "--gates", "all"]
    assert invoke([*plan, "--json"]) == ExitCode.OK
    before = json.loads(capfd.readouterr().out)
    assert set(before["blocked"]) == set(SYSTEMS)
    assert "bench prepare --methods hallo" in before["blocked"]["hallo"]
    run = ["run", "--split", "synthetic-ci", "--subset", "1", "--executor", "inline", "--metrics", "flicker/mae"]
    assert invoke([*run, "--methods", names]) == ExitCode.MISSING
    assert "bench prepare --methods sadtalker" in capfd.readouterr().err

    for name in SYSTEMS:
        root = make_checkout(name, tmp_path / name)
        prepare = ["prepare", "--methods", name, "--checkout", str(root), "--python", str(PYTHON)]
        assert invoke(prepare) == ExitCode.OK
        assert f"{name} is ready" in capfd.readouterr().out
    assert invoke([*plan, "--json"]) == ExitCode.OK
    assert json.loads(capfd.readouterr().out)["blocked"] == {}

    assert invoke([*run, "--methods", f"ground-truth,{names}", "--name", "four"]) == ExitCode.OK
    out = capfd.readouterr().out
    for name in SYSTEMS:
        assert name in out
    rows = pd.read_parquet(home / "runs" / "four" / "rows.parquet")
    made = rows[rows["method"].isin(SYSTEMS)]
    assert set(made["status"]) == {"ok"}
    gates = {m: set(g["gate"]) for m, g in made.groupby("method")}
    assert gates == {
        "sadtalker": {"audio", "audio+visual"},
        "hallo": {"audio"},
        "liveportrait": {"visual"},
        "edtalk": {"audio", "visual", "audio+visual"},
    }
    # The same again does nothing and prints the same table.
    assert invoke([*run, "--methods", f"ground-truth,{names}", "--name", "four"]) == ExitCode.OK
    assert capfd.readouterr().out == out


FAKE_LIVEPORTRAIT = """
import argparse, pathlib, subprocess, sys

class LivePortraitPipeline:
    def __init__(self, **options):
        with open(pathlib.Path(__file__).parent / "built", "a") as file:
            file.write("once ")

    def execute(self, arguments):
        print("junk on standard output")
        stub = pathlib.Path(__file__).with_name("stub_system.py")
        subprocess.run([sys.executable, str(stub), *sys.argv[1:]], check=True)

def main():
    LivePortraitPipeline(inference_cfg=None, crop_cfg=None).execute(None)
"""


def test_the_runner_of_liveportrait_builds_its_networks_once(home, tmp_path, capfd):
    root = make_checkout("liveportrait", tmp_path / "repo")
    shutil.copy(STUB, root / STUB.name)
    (root / "inference.py").write_text(FAKE_LIVEPORTRAIT)
    prepare = ["prepare", "--methods", "liveportrait", "--checkout", str(root), "--python", str(PYTHON)]
    assert invoke(prepare) == ExitCode.OK
    run = ["run", "--split", "synthetic-ci", "--subset", "3", "--executor", "inline", "--metrics", "flicker/mae"]
    assert invoke([*run, "--methods", "liveportrait"]) == ExitCode.OK
    assert (root / "built").read_text() == "once "
    assert len(list((home / "logs" / "liveportrait").glob("*.log"))) == 3


def test_a_changed_weight_is_another_method(home, tmp_path, capfd):
    from bench.catalogue import find_method

    root = make_checkout("liveportrait", tmp_path / "repo")
    prepare = ["prepare", "--methods", "liveportrait", "--checkout", str(root), "--python", str(PYTHON)]
    assert invoke(prepare) == ExitCode.OK
    first = find_method("liveportrait").spec
    (root / "pretrained_weights" / "model.bin").write_bytes(b"other weights")
    assert invoke(prepare) == ExitCode.OK
    second = find_method("liveportrait").spec
    assert first.weights != second.weights and first.settings == second.settings


def test_missing_weights_are_listed_with_what_to_do(home, tmp_path, capfd):
    root = tmp_path / "repo"
    root.mkdir()
    prepare = ["prepare", "--methods", "x-portrait", "--checkout", str(root), "--python", str(PYTHON)]
    assert invoke(prepare) == ExitCode.MISSING
    text = " ".join(capfd.readouterr().err.split())
    assert "checkpoint/model_state-415001.th" in text and "Download by hand" in text
    assert invoke(["list", "methods", "--json"]) == ExitCode.OK
    listed = {m["method"]: m for m in json.loads(capfd.readouterr().out)}
    assert "lacks weights" in listed["x-portrait"]["state"]
    assert listed["vasa-1"]["state"].startswith("videos only")
    assert len(listed) > 60 and next(iter(listed)) == "ground-truth"


def test_systems_without_code_are_not_run_but_scored(home, capfd):
    assert invoke(["run", "--methods", "omnitalker", "--split", "synthetic-ci"]) == ExitCode.MISSING
    assert "bench score DIR" in capfd.readouterr().err
    assert invoke(["prepare", "--methods", "vasa-1"]) == ExitCode.MISSING
    assert "bench score" in capfd.readouterr().err
