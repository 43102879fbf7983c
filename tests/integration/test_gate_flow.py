"""The gate as a user meets it: a degraded method fails it, a rerun passes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import invoke

METHOD = """
from bench.media.decode import chunks
from bench.methods.base import Video
from bench.spec import MethodSpec

class Candidate:
    spec = MethodSpec("candidate", "1", ("visual",), "classical", seeded=False)

    def generate(self, sample, gate, seed):
        return Video({frames} for chunk in chunks(sample.video) for frame in chunk)
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

    def make(folder: str, frames: str, name: str) -> None:
        path = tmp_path / folder / "candidate.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(METHOD.format(frames=frames))
        arguments = ["run", "--split", "synthetic-ci", "--metrics", "psnr", "--methods", f"{path}:Candidate"]
        assert invoke([*arguments, "--executor", "inline", "--quiet", "--format", "csv", "--name", name]) == 0

    return make


def test_a_degraded_method_fails_the_gate_and_a_rerun_passes(
    run,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = ["--reference", str(tmp_path / "references" / "trusted"), "--rules", "gate.toml"]
    run("good", "frame", "first")
    run("good", "frame", "second")
    saved = ["reference", "save", "trusted", "first", "--rerun", "second", "--into", str(tmp_path / "references")]
    assert invoke(saved) == 0
    assert invoke(["gate", "second", *gate]) == 0
    run("bad", "frame // 2", "degraded")
    capsys.readouterr()
    assert invoke(["gate", "degraded", *gate, "--junit", "gate.xml"]) == 3
    assert "fail" in capsys.readouterr().out
    assert "<failure" in (tmp_path / "gate.xml").read_text()
    assert invoke(["gate", "degraded", "--reference", "no-such", "--rules", "gate.toml"]) == 4
