"""The whole command on a tiny system: logs, validation clips, stored model, continuing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_system as tiny

from actalker.errors import InputError, MissingPackageError
from actalker.training.command import build_system, train
from actalker.training.config import DataConfig


def write_manifest(folder):
    lines = []
    for i, clip in enumerate(tiny.clips()):
        np.savez(folder / f"{i}.npz", frames=clip.frames, audio=clip.audio)
        lines.append(json.dumps({"clip": f"{i}.npz"}))
    (folder / "clips.jsonl").write_text("\n".join(lines))
    return folder / "clips.jsonl"


def build(_config):
    return tiny.TinySystem()


def test_a_run_logs_validates_and_stores(tmp_path, capsys):
    manifest = write_manifest(tmp_path)
    config = tiny.config(tmp_path / "out", log_every=2, checkpoint_every=3, validate_every=3)
    config = replace(config, data=DataConfig(train=manifest, validation=manifest))
    model = train(config, build=build)
    assert (model / "unet" / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    checks = [line for line in lines if "validation/audio" in line]
    assert [line["step"] for line in checks] == [3, 6]
    assert {"validation/visual", "validation/audio+visual", "copy/audio"} <= set(checks[0])
    assert len(list((tmp_path / "out" / "clips").glob("*.mp4"))) == 6
    assert "step 6" in capsys.readouterr().out


def test_a_stopped_run_continues_and_ends_like_an_unbroken_one(tmp_path):
    whole = tiny.config(tmp_path / "whole")
    train(whole, tiny.clips(), build)
    broken = tiny.config(tmp_path / "broken", max_minutes=1e-9)
    for _ in range(6):
        train(broken, tiny.clips(), build)
    paths = [tmp_path / name / "model" / "unet" / "model.safetensors" for name in ("whole", "broken")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError, match="tensorboard"):
        train(tiny.config(tmp_path, tensorboard=True), tiny.clips(), build)


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboard", reason="the tensorboard package is not installed")
    train(tiny.config(tmp_path, tensorboard=True, log_every=2), tiny.clips(), build)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert all(name in events.read_bytes() for name in (b"loss", b"lr", b"gradient_norm"))


def test_an_unknown_model_is_named(tmp_path):
    with pytest.raises(InputError, match="'tiny' is neither"):
        build_system(tiny.config(tmp_path))
