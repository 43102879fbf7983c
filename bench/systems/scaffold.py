"""Skeletons for `bench new method`: the contract of an outside system, or a Python method, each with a test."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.resources import data_folder
from bench.store.files import write_bytes
from bench.systems.contract import FILE

_CONTRACT = """\
# `bench show doc baselines` describes every field. Fill in what is true; `verification` says what was tried.
name = "{name}"
title = "The title of its paper"
status = "runnable"
summary = "One line for `bench list methods`."
verification = "Not run."

[source]
repository = ""
licence = "not stated"

[environment]
python = "3.10"
setup = ["pip install -r requirements.txt"]

# One table per weight file or folder; the system is ready when all of them are in its checkout.
# [[weights]]
# name = "the model"
# path = "checkpoints/model.pth"
# source = "where it comes from"

# Close what a gate closes: an audio gate is never handed {{driving_video}}, a visual gate never {{driving_audio}}.
[gates.audio]
command = "python infer.py -i {{reference_image}} -a {{driving_audio}} -o {{output_path}} --seed {{seed}}"

[output]
glob = ["{{output_path}}"]
fps = 25.0

[seed]
kind = "settable"
note = "--seed"

[run]
timeout = 1800.0

[[traps]]
what = "Something that goes wrong without being noticed."
workaround = "what this contract does about it"
"""

_CONTRACT_TEST = '''\
"""The contract of {name} is valid, and its commands can be rendered."""

import dataclasses
from pathlib import Path

import numpy as np

from bench.core.spec import GATES, Sample
from bench.media.encode import write_clip, write_image, write_wav
from bench.systems.contract import load
from bench.systems.host import method_spec
from bench.systems.inputs import Inputs

CONTRACT = load(Path(__file__).parent)


def test_commands_can_be_rendered(tmp_path):
    picture = np.full((64, 64, 3), 128, np.uint8)
    write_image(tmp_path / "a.png", picture)
    write_wav(tmp_path / "a.wav", np.zeros(25 * 640, np.int16))
    write_clip(tmp_path / "a.mp4", [picture] * 25)
    image, audio, video = (tmp_path / f"a.{{s}}" for s in ("png", "wav", "mp4"))
    sample = Sample("test", "test", "a", "somebody", image, audio, video, None, 25)
    assert method_spec(CONTRACT).gates
    for name, commands in CONTRACT.gates.items():
        gate = GATES[name]
        shown = dataclasses.replace(
            sample, audio=sample.audio if gate.audio else None, video=sample.video if gate.visual else None
        )
        inputs = Inputs(CONTRACT, shown, gate, 1, tmp_path / name.replace("+", "-"), tmp_path / "checkout")
        for line in (commands.command, *commands.prepare):
            if "{{config}}" not in line:
                assert all(inputs.argv(line))
'''

_README = """\
# {name}

What it is, where its code and weights come from, and what a user has to do by hand.

    bench prepare --methods ./{name} --checkout DIR --python ENV/bin/python
    bench run --split synthetic-ci --methods ground-truth,./{name}

(from the folder above; in a project's own list of contracts, `{name}` alone does).
"""

_METHOD = '''\
"""{title}: what it does to the picture, in one line."""

from bench import MethodSpec, Video, read_audio, read_image


class {title}:
    """Shows the picture unchanged; replace `_frame` by something that talks."""

    spec = MethodSpec("{name}", "1", gates=("audio",), kind="classical", seeded=False, summary="One line.")

    def generate(self, sample, gate, seed):
        """Return `sample.frames` frames, uint8 RGB (height, width, 3). Inputs the gate closes are None."""
        picture, speech = read_image(sample.image), read_audio(sample.audio)
        return Video(self._frame(picture, speech[640 * t : 640 * (t + 1)]) for t in range(sample.frames))

    def _frame(self, picture, sound):
        return picture
'''

_METHOD_TEST = '''\
"""{title} makes a clip of the right length from a picture and speech."""

from pathlib import Path

import numpy as np

from bench.core.registry import resolve
from bench.core.spec import AUDIO, Sample
from bench.media.encode import write_image, write_wav

METHOD = resolve(f"{{Path(__file__).with_name('{module}.py')}}:{title}")


def test_a_clip_of_the_right_length(tmp_path):
    write_image(tmp_path / "a.png", np.full((64, 48, 3), 128, np.uint8))
    write_wav(tmp_path / "a.wav", np.zeros(25 * 640, np.int16))
    sample = Sample("test", "test", "a", "somebody", tmp_path / "a.png", tmp_path / "a.wav", None, None, 25)
    frames = list(METHOD().generate(sample, AUDIO, 1).frames)
    assert len(frames) == 25
    assert all(f.shape == (64, 48, 3) and f.dtype == np.uint8 for f in frames)
'''


def scaffold_contract(name: str, root: Path) -> list[Path]:
    """Write `<root>/<name>/` with a contract, a README and a test; return the files.

    Raises:
        UsageError: the name cannot be one, or something is already there.
    """
    _check(name)
    folder = root / name
    module = name.replace("-", "_")
    return _write(
        {
            folder / FILE: _CONTRACT.format(name=name),
            folder / "README.md": _README.format(name=name),
            folder / f"test_{module}.py": _CONTRACT_TEST.format(name=name),
        }
    )


def scaffold_python(name: str, root: Path) -> list[Path]:
    """Write `<root>/<name>.py` with a method and `test_<name>.py`; return the files.

    Raises:
        UsageError: the name cannot be one, or something is already there.
    """
    _check(name)
    module = name.replace("-", "_")
    words = {"name": name, "module": module, "title": class_name(name)}
    return _write(
        {root / f"{module}.py": _METHOD.format(**words), root / f"test_{module}.py": _METHOD_TEST.format(**words)}
    )


CI_RUN = "bench run --split synthetic-ci --methods ground-truth,frozen,{methods} --executor inline"


def scaffold_ci(methods: Sequence[str], root: Path) -> list[Path]:
    """Write a workflow that gates methods of a user's repository, and rules for it; return the files.

    Raises:
        UsageError: something is already there.
    """
    templates = data_folder("docs") / "ci"
    workflow = (templates / "your-method.yml").read_text(encoding="utf-8")
    run = CI_RUN.format(methods=shlex.quote(",".join(methods)))
    return _write(
        {
            root / ".github" / "workflows" / "bench.yml": workflow.replace(
                CI_RUN.format(methods="./my_method.py:Nod"), run
            ),
            root / "gate.toml": (templates / "gate.toml").read_text(encoding="utf-8"),
        }
    )


def class_name(name: str) -> str:
    """Return the class that a method of this name is given."""
    return "".join(part.capitalize() for part in name.split("-"))


def _check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"'{name}' cannot be a method's name.", "Use lower-case letters, digits and '-', e.g. my-method."
        )


def _write(files: dict[Path, str]) -> list[Path]:
    for path in files:
        if path.exists():
            raise UsageError(f"{path} is already there; nothing was written.", "Choose another name or folder.")
    for path, text in files.items():
        write_bytes(path, text.encode())
    return list(files)
