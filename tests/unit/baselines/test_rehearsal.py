"""`bench rehearse` on a small repository: what agrees is verified, what differs is named with its line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import invoke
from bench.core.errors import ExitCode
from bench.systems.contract import load
from bench.systems.host import ExternalMethod
from bench.systems.patching import INSIDE, with_patches
from bench.systems.record import load_record, sentence

PROGRAM = """
import argparse, socket, sys
from fractions import Fraction
import av
import numpy as np
parser = argparse.ArgumentParser()
for flag in ("--image", "--audio", "--out"):
    parser.add_argument(flag, required=True)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=50)
args = parser.parse_args()
shade = int(open("weights/net.txt").read()) + args.seed % 7 * {seeded}
if {curious}:
    try:
        socket.getaddrinfo("models.invalid", 443)
    except OSError:
        pass
assert args.steps == 1, "a rehearsal spares steps"
with av.open(args.out, "w") as file:
    picture = file.add_stream("libx264", rate=Fraction({fps}))
    picture.width = picture.height = 64
    picture.pix_fmt = "yuv420p"
    for index in range({frames}):
        shown = np.full((64, 64, 3), 40 + shade, np.uint8)
        file.mux(picture.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
    file.mux(picture.encode(None))
"""
CONTRACT = """
name = "small"
title = "A small system"
status = "runnable"

[[weights]]
name = "the network"
path = "weights/net.txt"
source = "nowhere"

[gates.audio]
command = "python run.py --image {reference_image} --audio {driving_audio} --out {output_path} --seed {seed} --steps 50 WORDS"

[output]
glob = ["{output_path}"]
fps = 25.0
audio = "none"
size = "64x64"

[seed]
kind = "settable"

[run]
gpus = 0.0

[rehearsal]
seconds = 0.2
size = 64
replace = { "--steps 50" = "--steps 1" }
"""  # noqa: E501
RECIPE = """
def make(root):
    (root / "weights").mkdir()
    (root / "weights" / "net.txt").write_text("60")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One for all: the samples are drawn once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def rehearse(tmp_path, home, capfd):
    """Rehearse the small system with changes; see `_rehearse`."""
    return lambda **changes: _rehearse(tmp_path, home, capfd, **changes)


def _rehearse(tmp_path, home, capfd, words="", recipe=RECIPE, status='"runnable"', **program):
    """Make a checkout and a contract, rehearse, and return the exit code, what was printed and the contract."""
    checkout, folder = tmp_path / "checkout", tmp_path / "contracts" / "small"
    checkout.mkdir()
    folder.mkdir(parents=True)
    settings = {"seeded": 9, "curious": False, "fps": 25, "frames": 5} | program
    text = PROGRAM
    for name, value in settings.items():
        text = text.replace(f"{{{name}}}", str(value))
    (checkout / "run.py").write_text(text)
    contract = CONTRACT.replace("WORDS", words).replace('"runnable"', status)
    (folder / "baseline.toml").write_text(contract)
    (folder / "standins.py").write_text(recipe)
    options = ["--checkout", str(checkout), "--python", sys.executable, "--home", str(home)]
    code = invoke(["rehearse", str(folder), *options])
    return code, capfd.readouterr().out, load(folder)


def test_a_system_that_does_what_its_contract_says_is_verified(tmp_path, rehearse, home):
    code, out, contract = rehearse()
    assert code == ExitCode.OK, out
    record = load_record(contract)
    assert record.verified and record.seed == "settable"
    assert record.gates["audio"].size == "64x64" and record.gates["audio"].frames == 5
    assert record.gates["audio"].sound == "none" and record.gates["audio"].memory_mb > 10
    assert record.weights == ("weights/net.txt",) and record.unseen == ()
    assert record.spared == ("--steps 50 -> --steps 1",)
    assert sentence(contract).startswith("verified by rehearsal at ")
    assert not (tmp_path / "checkout" / "weights").exists()

    # Its clips may be made, and are known for what they are.
    from bench.store.home import Home

    spec = ExternalMethod(contract, Home(home / "rehearsal")).spec
    assert spec.kind == "stand-in" and "mean nothing" in spec.note
    assert ExternalMethod(contract, Home(home)).spec.kind == "external"

    # A contract that is changed afterwards is no longer the one that was tried.
    file = Path(contract.folder) / "baseline.toml"
    file.write_text(file.read_text().replace("--steps 50 ", "--steps 50 --seed 3"))
    assert "the contract was changed since" in sentence(load(file))


@pytest.mark.parametrize(
    ("program", "line", "what"),
    [
        ({"fps": 20}, "output.fps", "the file runs at 20, not at 25"),
        ({"seeded": 0}, "seed.kind", "two seeds gave the same result"),
        ({"curious": True}, "run.network", "models.invalid"),
        ({"frames": 1}, "gates.audio.command", "truncated"),
        ({"words": "--magic"}, "gates.audio.command", "unrecognized arguments: --magic"),
    ],
)
def test_a_difference_names_the_line_to_mend(rehearse, program, line, what):
    code, out, contract = rehearse(**program)
    assert code == ExitCode.FAILURES
    record = load_record(contract)
    assert not record.verified
    (difference,) = record.differences
    assert line in difference and what in difference and difference in out
    number = int(difference.partition("baseline.toml:")[2].partition(" ")[0])
    written = (Path(contract.folder) / "baseline.toml").read_text().splitlines()[number - 1]
    # Where a field is not written, the line of its table stands in.
    assert written.startswith((line.rpartition(".")[2], f"[{line.rpartition('.')[0]}]"))


def test_a_system_whose_weights_cannot_be_had_runs_with_stand_ins_alone(tmp_path, rehearse, home):
    from bench.store.home import Home

    code, _, contract = rehearse(status='"pregenerated"\nreason = "The weights were withdrawn."')
    assert code == ExitCode.OK
    assert ExternalMethod(contract, Home(home / "rehearsal")).spec.gates == ("audio",)
    assert ExternalMethod(contract, Home(home)).spec.gates == ()


def test_an_environment_given_earlier_is_not_taken_for_one_it_made(tmp_path, rehearse, home, monkeypatch):
    from bench.core.errors import BenchError
    from bench.systems.environment import read_state
    from bench.systems.prepare import Builder

    rehearse()
    seen = []

    def environment(self, checkout, python, manager):
        seen.append(read_state(self.where))
        raise BenchError("nothing is built in this test")
        yield

    monkeypatch.setattr(Builder, "environment", environment)
    folder = tmp_path / "contracts" / "small"
    options = ["--checkout", str(tmp_path / "checkout"), "--home", str(home)]
    assert invoke(["rehearse", str(folder), *options]) == ExitCode.FAILURES
    assert seen == [None]


def test_weights_that_no_contract_names_are_a_difference(rehearse):
    recipe = RECIPE + '    (root / "detector.bin").write_text("1")\n    (root / "library.py").touch()\n'
    recipe += '    assert __name__ == "recipe", "TorchScript names classes after the module"\n'
    code, out, _ = rehearse(recipe=recipe)
    assert code == ExitCode.FAILURES
    assert "nothing names detector.bin" in out and "library.py" not in out


def test_without_a_recipe_it_says_where_one_belongs(tmp_path, capfd):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "baseline.toml").write_text(CONTRACT.replace("WORDS", ""))
    assert invoke(["rehearse", str(folder), "--checkout", str(tmp_path)]) == ExitCode.MISSING
    assert str(folder / "standins.py") in capfd.readouterr().err


def test_patches_repair_what_old_code_asks_for():
    code = """
import json, numpy, yaml
from PIL import Image
print(json.dumps([numpy.float is float, yaml.load("a: 1"), Image.ANTIALIAS == Image.LANCZOS]))
"""
    env = with_patches(dict(os.environ), ["numpy-aliases", "yaml-loader", "pillow-antialias"])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert json.loads(done.stdout) == [True, {"a": 1}, True], done.stderr


def test_an_unknown_patch_is_refused(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "baseline.toml").write_text(CONTRACT.replace("WORDS", "") + '\n[patches]\nnumpy-alias = "typo"\n')
    from bench.core.errors import UsageError

    with pytest.raises(UsageError, match="numpy-aliases"):
        load(folder)


def test_a_contract_keeps_its_own_python_path():
    assert with_patches({"PYTHONPATH": "theirs"}, ["yaml-loader"])["PYTHONPATH"] == f"{INSIDE}{os.pathsep}theirs"
    assert with_patches({"A": "b"}, []) == {"A": "b"}
