"""The gate as a user meets it: a degraded method fails it, a rerun passes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import invoke
from bench.core.errors import ExitCode
from bench.results.gate import gate, parse_rules
from bench.results.reference import load_reference
from bench.results.runs import Results, load

METHOD = """
from bench.media.decode import chunks
from bench.methods.base import Video
from bench.core.spec import MethodSpec

class Candidate:
    spec = MethodSpec("candidate", "1", ("visual",), "classical", seeded=False)

    def generate(self, sample, gate, seed):
        return Video({frames} for chunk in chunks(sample.video) for frame in chunk)
"""
SHAKY = """
import numpy as np
from bench.media.decode import chunks
from bench.methods.base import Video
from bench.core.spec import MethodSpec

class Candidate:
    spec = MethodSpec("candidate", "1", ("visual",), "model")

    def generate(self, sample, gate, seed):
        grain = np.random.default_rng(seed).uniform(4, 6)
        noise = np.random.default_rng(seed).normal(0, grain, (2, 128, 128, 1))
        frames = (frame for chunk in chunks(sample.video) for frame in chunk)
        return Video(
            np.clip(frame + noise[n % 2, : frame.shape[0], : frame.shape[1]], 0, 255).astype(np.uint8)
            for n, frame in enumerate(frames)
        )
"""
RULES = """
[[rule]]
protocol = "psnr/*"
relative = 0.02
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.toml").write_text(RULES)

    def make(folder: str, code: str, name: str, *options: str) -> None:
        path = tmp_path / folder / "candidate.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        arguments = ["run", "--split", "synthetic-ci", "--metrics", "psnr", "--methods", f"{path}:Candidate"]
        arguments += ["--executor", "inline", "--quiet", "--format", "csv", "--name", name, *options]
        assert invoke(arguments) == 0

    return make


def test_a_degraded_method_fails_the_gate_and_a_rerun_passes(
    run,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = ["--reference", str(tmp_path / "references" / "trusted"), "--rules", "gate.toml"]
    run("good", METHOD.format(frames="frame"), "first")
    run("good", METHOD.format(frames="frame"), "second")
    saved = ["reference", "save", "trusted", "first", "--rerun", "second", "--into", str(tmp_path / "references")]
    assert invoke(saved) == 0
    assert invoke(["gate", "second", *gate]) == 0
    run("bad", METHOD.format(frames="frame // 2"), "degraded")
    capsys.readouterr()
    assert invoke(["gate", "degraded", *gate, "--junit", "gate.xml"]) == 3
    assert "fail" in capsys.readouterr().out
    assert "<failure" in (tmp_path / "gate.xml").read_text()
    assert invoke(["gate", "degraded", "--reference", "no-such", "--rules", "gate.toml"]) == 4


def test_a_loss_of_three_noise_floors_is_caught_on_the_synthetic_split(
    run,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    run("shaky", SHAKY, "first", "--repeats", "3")
    run("shaky", SHAKY, "other-seeds", "--repeats", "3", "--seed", "1")
    folder = tmp_path / "references"
    assert invoke(["reference", "save", "trusted", "first", "--into", str(folder)]) == 0
    trusted, noise = load_reference(str(folder / "trusted"))
    (cell,) = (c for c in noise.seed if c.column == "psnr" and c.method == "candidate")
    floor = noise.floor(cell, "seed", (3, 3))
    assert floor > 0
    new = load("other-seeds")
    rules = parse_rules({"rule": [{"protocol": "psnr/*", "noise": 1}]})
    # Other random numbers, nothing worse: never a failure.
    assert gate(new, trusted, rules, noise).exit_code() == ExitCode.OK

    def shifted(by: float) -> Results:
        rows = new.rows.copy()
        rows.loc[(rows["method"] == "candidate") & (rows["column"] == "psnr"), "value"] -= by
        return Results.from_rows(rows, new.provenance, name="planted")

    drawn = gate(new, trusted, rules, noise).checks[0].difference.gain
    assert gate(shifted(drawn + 3 * floor), trusted, rules, noise).exit_code() == ExitCode.GATE_FAILED
    assert gate(shifted(drawn + 0.2 * floor), trusted, rules, noise).exit_code() == ExitCode.OK
