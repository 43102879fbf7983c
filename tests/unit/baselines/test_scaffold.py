"""`bench new method` writes something that works as it stands."""

import os
import runpy
import subprocess
import sys

import pytest

from bench.cli import invoke
from bench.core.errors import ExitCode


@pytest.mark.parametrize("kind", ["python", "contract"])
def test_the_skeleton_passes_its_own_test(kind, tmp_path, capfd):
    assert invoke(["new", "method", "my-thing", "--kind", kind, "--dir", str(tmp_path)]) == ExitCode.OK
    out = capfd.readouterr().out
    assert "pytest" in out and "my_thing.py" in out
    (path,) = tmp_path.rglob("test_*.py")
    # As pytest would call it, without a process of its own: the file uses no fixture but the temporary folder.
    (test,) = (value for name, value in runpy.run_path(str(path)).items() if name.startswith("test_"))
    (tmp_path / "work").mkdir()
    test(tmp_path=tmp_path / "work")


def test_a_new_contract_is_listed_and_planned(tmp_path, monkeypatch, capfd):
    invoke(["new", "method", "my-thing", "--kind", "contract", "--dir", str(tmp_path)])
    monkeypatch.setenv("BENCH_BASELINES", str(tmp_path))
    capfd.readouterr()
    assert invoke(["plan", "--split", "ravdess", "--methods", "my-thing"]) == ExitCode.OK
    assert "bench prepare --methods my-thing" in " ".join(capfd.readouterr().out.split())


def test_a_contract_is_used_by_its_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    invoke(["new", "method", "my-thing", "--kind", "contract"])
    assert "--methods my-thing" in capfd.readouterr().out
    assert invoke(["plan", "--split", "ravdess", "--methods", "./my-thing"]) == ExitCode.OK
    out = capfd.readouterr().out
    assert f"cannot run here: my-thing: not prepared. Run: bench prepare --methods {tmp_path / 'my-thing'}" in out
    assert invoke(["run", "--split", "synthetic-ci", "--methods", "./my-thing"]) == ExitCode.MISSING
    assert invoke(["prepare", "--methods", "./my-thing", "--dry-run"]) == ExitCode.OK
    assert "none is named: pass --checkout DIR" in capfd.readouterr().out


def test_methods_are_listed_with_gates_licence_and_what_they_lack():
    # A process of its own: the width of a terminal is read once.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "110"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "list", "methods"], env=env, capture_output=True, text=True
    )
    assert done.returncode == ExitCode.OK, done.stderr
    lines = done.stdout.splitlines()
    line = {words[0]: " ".join(words) for words in map(str.split, lines) if words}
    assert line["sadtalker"] == "sadtalker audio, audio+visual* Apache-2.0 not prepared"
    assert line["vasa-1"].startswith("vasa-1 - videos only: No official")
    assert "bench prepare --methods NAME" in line["not"] and "only approximated" in line["*"]


def test_a_file_without_a_class_says_how_to_name_it(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    invoke(["new", "method", "nod"])
    assert invoke(["run", "--split", "synthetic-ci", "--methods", "nod.py"]) == ExitCode.USAGE
    assert "nod.py:MyMethod" in capfd.readouterr().err


def test_nothing_is_overwritten_and_names_are_checked(tmp_path, capfd):
    assert invoke(["new", "method", "nod", "--dir", str(tmp_path)]) == ExitCode.OK
    text = (tmp_path / "nod.py").read_text()
    assert invoke(["new", "method", "nod", "--dir", str(tmp_path)]) == ExitCode.USAGE
    assert (tmp_path / "nod.py").read_text() == text
    assert invoke(["new", "method", "../evil", "--dir", str(tmp_path)]) == ExitCode.USAGE
    assert "cannot be a method's name" in capfd.readouterr().err
