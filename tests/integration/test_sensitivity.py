"""`bench sensitivity` as a user meets it: a table, a page, floors under the next run's tables and in a gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.cli import invoke
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip
from bench.media.probe import probe
from bench.results.reference import load_reference
from bench.run.sensitivity import QUICK_FRAMES, QUICK_SIDE
from bench.synthetic.clip import make_clip

METRICS = "psnr,flicker/mae"
VARIANTS = ["--damage", "freeze,audio_late", "--levels", "4", "--metrics", METRICS]
COPIER = """
from bench.media.decode import chunks
from bench.methods.base import Video
from bench.core.spec import MethodSpec

class Copier:
    spec = MethodSpec("copier", "1", ("visual",), "classical", seeded=False)

    def generate(self, sample, gate, seed):
        return Video(frame for chunk in chunks(sample.video) for frame in chunk)
"""
INLINE = ["--executor", "inline", "--quiet"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        made = make_clip("test", 920 + seed, 30)
        write_clip(folder / f"clip{seed}.mp4", made.frames, 25.0, made.audio)
    return folder


def test_floors_reach_the_page_the_next_table_and_the_gate(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    split = f"folder:{videos}"
    Path("copier.py").write_text(COPIER)
    run = ["run", "--split", split, "--methods", "ground-truth,copier.py:Copier", "--metrics", METRICS]
    run += INLINE
    assert invoke([*run, "--name", "before", "--format", "md"]) == 0
    assert "re-encoding noise" not in capsys.readouterr().out
    assert invoke(["reference", "save", "mine", "before", "--into", "references"]) == 0
    measure = [
        "sensitivity",
        "--split",
        split,
        "--quick",
        *VARIANTS,
        *INLINE,
        "--into-reference",
        "references/mine",
    ]
    assert invoke([*measure, "--out", "report"]) == 0
    printed = capsys.readouterr().out
    assert "PSNR: floor" in printed and "freeze" in printed

    found = json.loads(Path("report/sensitivity.json").read_text())
    curves = {(c["protocol"], c["ladder"]): c for c in found["curves"] if c["column"] in ("psnr", "flicker")}
    assert set(curves) == {("psnr/rgb_float64", "freeze"), ("flicker/mae", "freeze")}  # neither hears the sound
    (psnr,), (still,) = (curves[name, "freeze"]["points"] for name in ("psnr/rgb_float64", "flicker/mae"))
    assert psnr["bias"] < -2 and psnr["response"] > 0 and psnr["clips"] == 3
    assert still["bias"] > 0 > still["response"]  # it rewards standing still
    page = Path("report/sensitivity.html").read_text()
    assert page.count("<svg") == len(found["curves"]) and "<script" not in page

    floors = {c["protocol"]: c["same"] for c in found["columns"] if c["column"] in ("psnr", "flicker")}
    assert invoke([*run, "--name", "after", "--format", "md"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"PSNR {floors['psnr/rgb_float64']:.2f}" in out and "on 3 clips" in out
    _, noise = load_reference("references/mine")
    cell = next(c for c in noise.codec if c.protocol == "psnr/rgb_float64" and c.column == "psnr")
    assert noise.floor(cell, "codec") * 1.96 == pytest.approx(floors["psnr/rgb_float64"], rel=1e-3)
    rules = '[[rule]]\nprotocol = "psnr/*"\nnoise = 1\nfloor = "codec"\n'
    Path("gate.toml").write_text(rules)
    assert invoke(["gate", "after", "--reference", "references/mine", "--rules", "gate.toml"]) == 0

    # The same command again makes nothing.
    made = sorted(p.stat().st_mtime_ns for p in Path(".bench/records/gen").rglob("*.json"))
    assert invoke(measure) == 0
    assert sorted(p.stat().st_mtime_ns for p in Path(".bench/records/gen").rglob("*.json")) == made


def test_a_quick_look_works_on_short_small_copies(tmp_path: Path) -> None:
    from bench.core.spec import Sample
    from bench.data.excerpt import excerpt

    cells = np.random.default_rng(0).integers(0, 256, (62, 6, 4, 3), np.uint8)
    frames = cells.repeat(80, axis=1).repeat(80, axis=2)
    sound = np.arange(62 * 640).astype(np.int16)
    write_clip(tmp_path / "long.mp4", frames, 25.0, sound)
    from bench.media.encode import write_image, write_wav

    write_wav(tmp_path / "long.wav", sound)
    write_image(tmp_path / "face.png", frames[0])
    digests = {"image": "a", "audio": "b", "video": "c", "reference": "c"}
    clip, image = tmp_path / "long.mp4", tmp_path / "face.png"
    sample = Sample("d", "s", "x", "p", image, tmp_path / "long.wav", clip, clip, 62, digests=digests)
    small = excerpt(sample, tmp_path / "cache", QUICK_FRAMES, QUICK_SIDE)
    assert small.reference is not None and small.audio is not None
    seen = probe(small.reference)
    assert (seen.width, seen.height, seen.frames) == (256, 384, QUICK_FRAMES) and small.frames == QUICK_FRAMES
    assert np.array_equal(read_audio(small.audio), sound[: QUICK_FRAMES * 640])
    shown = np.concatenate(list(chunks(small.reference)))
    assert np.abs(shown[7, 32::64, 32::64].astype(int) - cells[7]).mean() < 12  # the middles of the cells
    assert small.digests["reference"] == small.digests["video"] != "c" and small.digests["image"] == "a"
    assert excerpt(small, tmp_path / "cache", QUICK_FRAMES, QUICK_SIDE) is small
    assert excerpt(sample, tmp_path / "cache", QUICK_FRAMES, QUICK_SIDE) == small
