"""From public models to a scored one: convert, start, train, kill, resume, export, generate, score."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import bench
import bench.methods.actalker as adapter
from actalker import ACTalkerPipeline, media
from actalker.cli import app

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "unit" / "actalker")]

import public_models  # noqa: E402
import stand_in_faces  # noqa: E402

pytestmark = pytest.mark.slow

KILLED = """
import os, sys
sys.path.insert(0, PLACE)
import stand_in_faces
from actalker.cli import main
from actalker.training.log import Log
stand_in_faces.install(setattr)
write = Log.write
def die(self, step, numbers):
    write(self, step, numbers)
    if step == 3:
        os.kill(os.getpid(), 9)
Log.write = die
main()
"""


def actalker(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def write_clips(folder: Path, count: int = 4, frames: int = 20) -> Path:
    folder.mkdir()
    for i in range(count):
        rng = np.random.default_rng(i)
        loud = np.abs(np.sin(np.arange(frames) * (0.3 + i / 9)))
        base = np.kron(rng.integers(60, 160, (6, 6, 3)), np.ones((12, 12, 1), int))
        pictures = (np.clip(base + 80 * level, 0, 255).astype(np.uint8) for level in loud)
        sound = rng.normal(size=640 * frames) * np.repeat(loud, 640) / 9
        media.write_video(folder / f"person_{i}.mp4", pictures, 25, sound.astype(np.float32))
    return folder


def changed(path: Path, **values: str) -> None:
    """Edit lines `name = value` of a file as a user would."""
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        name = line.partition(" =")[0]
        if name in values:
            lines[i] = f"{name} = {values.pop(name)}"
    assert not values
    path.write_text("\n".join(lines) + "\n")


def logged(folder: Path) -> list[int]:
    lines = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "loss" in line]


def test_public_models_become_a_trained_and_scored_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="the stand-in of ArcFace is written with the onnx package")
    pytest.importorskip("onnxruntime", reason="insightface's ArcFace runs in the onnxruntime package")
    stand_in_faces.install(monkeypatch.setattr)
    public_models.write_svd(tmp_path / "svd")
    public_models.write_whisper(tmp_path / "whisper")
    public_models.write_onnx_arcface(tmp_path / "arcface.onnx", embedding=512, size=112)
    start, run = tmp_path / "start", tmp_path / "first" / "run"
    actalker(
        "convert", "--svd", tmp_path / "svd", "--whisper", tmp_path / "whisper", "--arcface",
        tmp_path / "arcface.onnx", "--motion", "blendshapes", "--image-size", 64, "--out", start,
    )  # fmt: skip
    index = json.loads((start / "model_index.json").read_text())
    index["config"]["sampler"] |= {"window": 4, "shift": 1, "circular": False}
    index["config"]["sampler"]["schedule"]["steps"] = 2
    (start / "model_index.json").write_text(json.dumps(index))

    clips = write_clips(tmp_path / "clips")
    actalker("start", "--videos", clips, "--model", start, "--out", run.parent, "--steps", 4)
    config = run.parent / "train.toml"
    changed(config, frames="3", log_every="1", checkpoint_every="2", validate_every="4")

    script = KILLED.replace("PLACE", repr(str(HERE)))
    killed = subprocess.run([sys.executable, "-c", script, "train", "--config", str(config)], check=False)
    assert killed.returncode == -signal.SIGKILL and logged(run) == [1, 2, 3]
    assert "continuing" in actalker("train", "--config", config)
    assert logged(run) == [1, 2, 3, 4]
    assert len(list((run / "clips").glob("0000004_*.mp4"))) == 3

    actalker("export", "--config", config, "--step", 2, "--out", tmp_path / "early")
    weights = [load_file(p / "unet" / "model.safetensors") for p in (start, tmp_path / "early", run / "model")]
    for a, b in ((0, 1), (1, 2)):
        assert any(not torch.equal(value, weights[b][name]) for name, value in weights[a].items())

    pipeline = ACTalkerPipeline.from_pretrained(run / "model")
    picture = next(media.video_frames(clips / "person_3.mp4", 25))
    made = pipeline(picture, audio=clips / "person_3.mp4", frames=5)
    assert np.stack(list(made)).shape == (5, 64, 64, 3)

    monkeypatch.setenv("ACTALKER_MODEL", str(run / "model"))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    importlib.reload(adapter)
    assert adapter.FullACTalker.spec.gpus == 0  # else a machine without one makes no clip
    try:
        done = bench.run(
            f"folder:{clips}", ["actalker-full"], ["psnr"], gates=["audio", "audio+visual"], subset=1,
            fit="reference",
        )  # fmt: skip
    finally:
        monkeypatch.undo()
        importlib.reload(adapter)
    rows = done.rows[done.rows["method"] == "actalker-full"]
    assert set(rows["gate"]) == {"audio", "audio+visual"}
    decibels = rows[rows["column"] == "psnr"]
    assert len(decibels) == 2 and (decibels["status"] == "ok").all() and decibels["value"].between(5, 60).all()
