"""Somebody else's program: what it gets of the user's environment, files and network, and what of it counts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.cli import invoke
from bench.core.spec import GATES, Sample
from bench.media.encode import write_clip, write_image, write_wav
from bench.methods.base import GenerationFailed
from bench.store.home import Home
from bench.systems import host, sandbox
from bench.systems.contract import load
from bench.systems.environment import State, mark, place, read_state, require_state, setup_digest

CONTRACT = """name = "nosy"
title = "t"
status = "runnable"
[gates.audio]
command = "python {checkout}/run.py {output_path} {reference_image}"
[output]
glob = ["{output_path}"]
[run]
gpus = 0.0
pass_env = ["NOSY_LICENCE"]
[environment]
python = "3.11"
"""

PROGRAM = """import json, os, shutil, socket, sys
from pathlib import Path
asked = json.loads((Path(__file__).parent / "asked.json").read_text())
def can(what):
    try:
        what()
        return True
    except OSError:
        return False
def others():
    found = []
    for p in Path("/proc").glob("[0-9]*/environ"):
        can(lambda: found.append(p) if b"AWS_SECRET_ACCESS_KEY" in p.read_bytes() else None)
    return found
if asked.get("link"):
    Path(sys.argv[1]).symlink_to(asked["link"])
else:
    shutil.copyfile(Path(__file__).parent / "made.mp4", sys.argv[1])
said = {
    "env": dict(os.environ),
    "reads": can(lambda: Path(asked["secret"]).read_text()),
    "writes": can(lambda: Path(asked["secret"]).with_name("planted").write_text("x")),
    "connects": can(lambda: socket.create_connection(("127.0.0.1", asked["port"]), 2).close()),
    "processes": len(others()),
}
(Path(__file__).parent / "said.json").write_text(json.dumps(said))
"""


@pytest.fixture
def nosy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "RAY_AUTH_TOKEN", "NOSY_LICENCE"):
        monkeypatch.setenv(name, f"secret {name}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key").write_text("PRIVATE KEY")
    (tmp_path / "nosy").mkdir()
    (tmp_path / "nosy" / "baseline.toml").write_text(CONTRACT)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "run.py").write_text(PROGRAM)
    write_clip(tmp_path / "code" / "made.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 20)
    write_image(tmp_path / "face.png", np.full((64, 64, 3), 90, np.uint8))
    write_wav(tmp_path / "talk.wav", np.zeros(12800, np.int16))
    sample = Sample("d", "s", "a", "i", tmp_path / "face.png", tmp_path / "talk.wav", None, None, 20)
    home = Home(tmp_path / "home").ready()
    contract = load(tmp_path / "nosy")
    state = State(setup_digest(contract), str(tmp_path / "code"), "", "given", sys.prefix)
    state.write(place("nosy", home))
    method = host.ExternalMethod(contract, home)

    def ask(**more: str):
        with socket.create_server(("127.0.0.1", 0)) as server:
            asked = {"secret": str(tmp_path / "mine" / "key"), "port": server.getsockname()[1], **more}
            (tmp_path / "code" / "asked.json").write_text(json.dumps(asked))
            frames = sum(1 for _ in method.generate(sample, GATES["audio"], 1).frames)
        assert frames == 20
        return json.loads((tmp_path / "code" / "said.json").read_text())

    ask.method = method
    yield ask
    method.close()


@pytest.fixture
def bubblewrap():
    if shutil.which("bwrap") is None or sandbox._trial(
        [*sandbox._BWRAP, "--dev-bind", "/", "/", "true"], {}, Path("/")
    ):
        pytest.skip("bubblewrap does not work here")


def test_few_variables_and_no_token_reach_it(nosy, monkeypatch) -> None:
    monkeypatch.setenv("BENCH_SANDBOX", "off")
    env = nosy()["env"]
    assert [k for k, v in env.items() if v.startswith("secret")] == ["NOSY_LICENCE"]  # its contract asks for it
    assert not [k for k in env if k.startswith(("BENCH", "RAY", "SSH"))]
    assert env["HOME"] != os.environ.get("HOME")
    assert Path(env["HOME"]).stat().st_mode & 0o077 == 0
    assert nosy.method.sandbox.startswith("none: switched off")


def test_a_closed_system_reads_writes_and_reaches_nothing_of_the_users(nosy, bubblewrap, monkeypatch) -> None:
    monkeypatch.setenv("BENCH_SANDBOX", "require")
    said = nosy()
    assert (said["reads"], said["writes"], said["connects"], said["processes"]) == (False, False, False, 0)
    assert nosy.method.sandbox == "bubblewrap"


def test_by_default_network_and_processes_are_closed_and_the_rest_is_stated(nosy, bubblewrap, monkeypatch) -> None:
    monkeypatch.delenv("BENCH_SANDBOX", raising=False)
    said = nosy()
    assert (said["connects"], said["processes"]) == (False, 0)
    assert nosy.method.sandbox == "bubblewrap, files open: the interpreter is one the user pointed to"


def test_without_bubblewrap_it_runs_and_says_so_or_is_refused(nosy, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "_BWRAP", (str(tmp_path / "no-bwrap"),))
    monkeypatch.setattr(sandbox, "_known", {})
    nosy()
    assert nosy.method.sandbox.startswith("none: ")
    assert "not installed" in nosy.method.sandbox
    monkeypatch.setenv("BENCH_SANDBOX", "require")
    with pytest.raises(GenerationFailed, match="does not close this system in: not installed"):
        nosy()
    monkeypatch.setenv("BENCH_SANDBOX", "maybe")
    with pytest.raises(Exception, match="BENCH_SANDBOX is 'maybe'"):
        nosy()


def test_the_sandbox_is_chosen_on_the_command_line(monkeypatch, capsys) -> None:
    monkeypatch.setenv("BENCH_SANDBOX", "auto")
    split = "folder:/nonexistent"
    for command in (
        f"run --split {split}",
        "score /nonexistent",
        "prepare --methods none",
        "rehearse none --checkout .",
    ):
        assert invoke([*command.split(), "--sandbox", "require"]) in (2, 4)
        assert sandbox.chosen() == "require"
        monkeypatch.setenv("BENCH_SANDBOX", "auto")
        capsys.readouterr()
        assert invoke([*command.split(), "--sandbox", "maybe"]) == 2
        assert "'maybe'" in capsys.readouterr().err


def test_a_video_from_elsewhere_is_no_result(nosy, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BENCH_SANDBOX", "off")
    write_clip(tmp_path / "truth.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 20)
    with pytest.raises(GenerationFailed, match="outside the run's private folder"):
        nosy(link=str(tmp_path / "truth.mp4"))


def test_job_folders_are_ours_alone_and_only_marked_ones_are_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(host.tempfile, "tempdir", str(tmp_path))
    root = tmp_path / f"bench-{os.getuid()}"
    job = host.new_job_folder("x")
    assert job.parent == root
    assert root.stat().st_mode & 0o777 == job.stat().st_mode & 0o777 == 0o700
    (root / "x-999999999-aa").mkdir()  # of a dead process, but without our mark
    (root / "x-999999998-bb").mkdir()
    (root / "x-999999998-bb" / ".bench-job").touch()
    (root / "x-999999997-cc").symlink_to(tmp_path)
    host.new_job_folder("y")
    assert (root / "x-999999999-aa").is_dir()
    assert not (root / "x-999999998-bb").exists()
    assert (root / "x-999999997-cc").is_symlink()
    root.chmod(0o777)
    assert host.new_job_folder("z").parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(root)
    (tmp_path / "elsewhere").mkdir()
    root.symlink_to(tmp_path / "elsewhere")
    assert host.new_job_folder("z").parent != root
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_home_that_came_with_a_folder_is_not_run(nosy, tmp_path, monkeypatch, capsys) -> None:
    folder = tmp_path / "sent"
    (folder / ".bench").mkdir(parents=True)
    monkeypatch.delenv("BENCH_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("BENCH_BASELINES", str(tmp_path))
    monkeypatch.chdir(folder)
    contract = load(tmp_path / "nosy")
    state = State(setup_digest(contract), str(tmp_path / "code"), "", "given", sys.prefix)
    state.write(place("nosy", Home(Path(".bench"))))
    assert read_state(place("nosy", Home())) is None
    for command in ("run --split synthetic-ci -m nosy", "prepare --methods nosy --offline"):
        assert invoke(command.split()) == 4
        assert "no program in it is run" in capsys.readouterr().err
    assert require_state(contract, Home(Path(".bench"))) == state, "the user named it"
    mark(Home(Path(".bench")))
    assert require_state(contract, Home()) == state, "the user prepared it"
    shutil.copytree(folder / ".bench", tmp_path / "copy" / ".bench")
    monkeypatch.chdir(tmp_path / "copy")
    assert read_state(place("nosy", Home())) is None, "a copy carries no mark"
