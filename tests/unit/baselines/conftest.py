"""Samples for outside systems, and a stand-in for each of them that honours its contract."""

import dataclasses
import json
import re
import shlex
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bench.core.spec import GATES, Sample
from bench.media.encode import write_clip, write_image, write_wav
from bench.store.home import Home
from bench.systems import contract as contracts
from bench.systems import host
from bench.systems.process import Ended

FRAMES = 12


def ramp(index: int, count: int = 256, size: int = 64):
    """Frame whose grey level tells its time."""
    return np.full((size, size, 3), 40 + index, np.uint8)


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample with blanks. and dots")
    rng = np.random.default_rng(0)
    write_image(folder / "a.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    write_wav(folder / "a.wav", rng.integers(-9999, 9999, FRAMES * 640).astype(np.int16))
    write_clip(folder / "a.mp4", [ramp(3 * i) for i in range(FRAMES)], 25.0)
    return Sample(
        "fake", "test", "clip-1.a", "x", folder / "a.png", folder / "a.wav", folder / "a.mp4", None, FRAMES
    )


class Stub:
    """Does what a contract says a system does: takes exactly its command, writes exactly its kind of file.

    It knows nothing of the host: placeholder values are read back from the words it was called with.
    """

    def __init__(self, contract, gate):
        self.contract, self.gate = contract, gate
        self.commands = contract.gates[gate]
        self.calls = []
        self.duration = 0.0

    def run(self, argv, cwd, env, log, limit, stop=()):
        template = shlex.split(self.commands.command)
        if not host.has_gpu():
            template += self.contract.run.without_gpu
        self.calls.append(list(argv))
        values = self._match(template, argv)
        if values is None:  # a preparation step: make what it promises
            for line in self.commands.prepare:
                values = self._match(shlex.split(line), argv)
                if values is not None:
                    for word in argv:
                        if word.startswith(values.get("work_dir", "\0")):
                            Path(word).write_bytes(b"made")
                    return Ended(0)
            raise AssertionError(f"not a command of the contract: {argv}")
        text = " ".join(word for call in self.calls for word in call)
        if "config" in values:
            config = Path(values["config"]).read_text()
            text += " " + config
        for staged in Path(cwd).parent.rglob("*.wav"):
            text += f" {staged}"
        self.duration = self._seconds(text)
        values.setdefault("output_dir", (re.search(r"(/[\w/-]+/out)\b", text) or [""])[0])
        values.setdefault("output_path", f"{values['output_dir']}/result.mp4")
        values.setdefault("output_stem", f"{values['output_dir']}/result")
        if "sample_id" not in values:
            values["sample_id"] = "*"
        name = self.contract.output.glob[0].format(**values).replace("*--*", "a--b").replace("*", "x")
        target = Path(name) if Path(name).is_absolute() else Path(cwd) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(target)
        for by_product in self.contract.output.exclude:
            (target.parent / by_product.replace("*", f"{target.stem}--z")).write_bytes(b"not a video")
        return Ended(0)

    @staticmethod
    def _match(template, argv):
        """Return the placeholders' values if the words fit the template."""
        if len(template) != len(argv):
            return None
        values = {}
        for pattern, word in zip(template, argv, strict=True):
            names = re.findall(r"{(\w+)}", pattern)
            expression = re.escape(pattern)
            for name in names:
                expression = expression.replace(re.escape(f"{{{name}}}"), "(.*)", 1)
            found = re.fullmatch(expression, word)
            if found is None:
                return None
            values.update(zip(names, found.groups(), strict=True))
        return values

    @staticmethod
    def _seconds(text):
        """Length of what the system was handed, as the system itself would see it."""
        for path in re.findall(r"/[\w/-]+\.(?:wav|mp4)", text):
            if path.endswith(".wav") and Path(path).is_file():
                with wave.open(path) as file:
                    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
                    return file.getnframes() / 16000
        from bench.media.probe import probe

        for path in re.findall(r"/[\w/-]+\.mp4", text):
            if Path(path).is_file():
                found = probe(Path(path))
                assert found.has_audio and not found.vfr and found.fps == 25.0
                return found.duration
        for folder in re.findall(r"/[\w/-]+/frames", text):
            return len(list(Path(folder).glob("*.jpg"))) / 25
        raise AssertionError(f"no driving input in {text}")

    def _write(self, target):
        output = self.contract.output_of(self.gate)
        fps = output.fps or 25.0
        # What the file's own clock says, and how fast the content really runs, differ for some systems.
        true_rate = output.rate if output.retime == "frames" else fps
        frames = []
        for index in range(max(1, round((self.duration - output.starts_at) * true_rate))):
            time = index / true_rate + output.starts_at
            good = ramp(min(150, round(time * 50)), size=32)
            bad = np.zeros_like(good)
            if output.panel:
                columns = [bad] * output.panel.columns
                columns[output.panel.index] = good
                frames.append(np.concatenate(columns, axis=1))
            elif output.crop:
                x, y, w, h = output.crop
                picture = np.zeros((output.frame_size[1], output.frame_size[0], 3), np.uint8)
                picture[y : y + h, x : x + w] = good[0, 0]
                frames.append(picture)
            else:
                frames.append(good)
        speech = np.zeros(round(self.duration * 16000), np.int16)
        write_clip(target, frames, float(Fraction(fps)), None if output.audio == "none" else speech)


@pytest.fixture
def checkout(tmp_path):
    """A repository with the folders and configuration files that contracts refer to."""

    def make(contract):
        root = tmp_path / "checkout"
        root.mkdir()
        for weight in contract.weights:
            target = root / weight.path
            if not target.suffix or target.name.startswith("stable"):
                target.mkdir(parents=True, exist_ok=True)
                target /= "model.bin"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"weights")
        if contract.run.cwd:
            (root / contract.run.cwd).mkdir(exist_ok=True)
        for commands in contract.gates.values():
            if commands.config and commands.config.base:
                base = root / commands.config.base
                base.parent.mkdir(parents=True, exist_ok=True)
                base.write_text("kept: 1\nseed: 5\n")
        return root

    return make


def prepared(contract, home, checkout, prefix):
    """Write the state that `bench prepare --checkout --python` leaves."""
    from bench.systems.environment import State, place, setup_digest

    where = place(contract.name, home)
    where.root.mkdir(parents=True)
    State(setup_digest(contract), str(checkout), "", "given", str(prefix)).write(where)
    for commands in contract.gates.values():
        for name in commands.extra:
            supplied = where.extra / "clip-1.a" / name
            supplied.parent.mkdir(parents=True, exist_ok=True)
            supplied.write_text(json.dumps(name))


@pytest.fixture
def method(tmp_path, monkeypatch, checkout):
    """Prepare a contract whose system is played by a stub; returns both."""
    made = []

    def make(name, gate):
        # Systems whose weights cannot be had keep a contract that is ready for whoever holds them.
        contract = dataclasses.replace(contracts.find(name), status="runnable")
        home = Home(tmp_path / "home")
        root = checkout(contract)
        prepared(contract, home, root, "/usr")
        stub = Stub(contract, gate)
        monkeypatch.setattr(host, "run", stub.run)
        # The contract's own words on every machine; what a sandbox puts before them depends on the machine.
        monkeypatch.setenv("BENCH_SANDBOX", "off")
        monkeypatch.setattr(host, "has_gpu", lambda: True)
        built = host.ExternalMethod(contract, home)
        built._use_runner = False  # the stand-in is called like the script
        made.append(built)
        return built, stub

    yield make
    for built in made:
        built.close()


@pytest.fixture
def play(method, sample):
    """Run a contract's stub on the sample, with what the gate closes taken away; returns frames, host and stub."""

    def run(name, gate, seed=1, **changes):
        built, stub = method(name, gate)
        closed = {"audio": None} if not GATES[gate].audio else {}
        closed |= {"video": None} if not GATES[gate].visual else {}
        video = built.generate(dataclasses.replace(sample, **closed, **changes), GATES[gate], seed)
        return list(video.frames), built, stub

    return run
