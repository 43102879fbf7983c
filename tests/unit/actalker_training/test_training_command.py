"""The whole command on a tiny system: logs, validation clips, stored model, continuing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_system as tiny
import torch

from actalker.errors import CheckpointError, InputError, MissingPackageError
from actalker.training import command, validation
from actalker.training.command import build_system, describe, export, train
from actalker.training.config import DataConfig
from actalker.training.loop import sample


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
    whole = tiny.config(tmp_path / "whole", steps=2)
    train(whole, tiny.clips(), build)
    broken = tiny.config(tmp_path / "broken", steps=2, max_minutes=1e-9)
    for _ in range(2):
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


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_killed_run_continues_and_repeats_no_step_of_the_log(tmp_path):
    """Killed between two checkpoints, after it had logged more than it had stored."""
    whole = tiny.config(tmp_path / "whole", steps=4, log_every=1, checkpoint_every=2)
    train(whole, tiny.clips(), build)
    script = f"""
import os, sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
import tiny_system as tiny
from actalker.training import command, log
write = log.Log.write
def die(self, step, numbers):
    write(self, step, numbers)
    if step == 3: os.kill(os.getpid(), 9)
log.Log.write = die
config = tiny.config(
    Path({str(tmp_path / "killed")!r}), steps=4, log_every=1, checkpoint_every=2
)
command.train(config, tiny.clips(), lambda _: tiny.TinySystem())
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -9
    assert [line["step"] for line in lines(tmp_path / "killed")] == [1, 2, 3]
    train(replace(whole, run=replace(whole.run, out=tmp_path / "killed")), tiny.clips(), build)
    logs = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in lines(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]
    paths = [tmp_path / name / "model" / "unet" / "model.safetensors" for name in ("whole", "killed")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_few_checkpoints_are_kept(tmp_path):
    train(
        tiny.config(tmp_path, steps=3, checkpoint_every=1, keep_checkpoints=2, background_checkpoints=True),
        tiny.clips(),
        build,
    )
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000002", "00000003"]


def test_a_run_stops_at_max_steps_with_a_model_and_goes_on(tmp_path):
    config = tiny.config(tmp_path, steps=3, max_steps=2)
    model = train(config, tiny.clips(), build)
    halfway = (model / "unet" / "model.safetensors").read_bytes()
    train(replace(config, run=replace(config.run, max_steps=0)), tiny.clips(), build)
    assert (model / "unet" / "model.safetensors").read_bytes() != halfway
    assert lines(tmp_path)[-1]["step"] == 3


def test_the_model_of_any_checkpoint_can_be_exported(tmp_path):
    config = tiny.config(tmp_path / "run", steps=3, checkpoint_every=2)
    train(config, tiny.clips(), build)
    assert export(config, tmp_path / "last", build=build) == 3
    assert export(config, tmp_path / "early", 2, build) == 2
    stored = [
        (folder / "unet" / "model.safetensors").read_bytes()
        for folder in (tmp_path / "run" / "model", tmp_path / "last", tmp_path / "early")
    ]
    assert stored[0] == stored[1] != stored[2]
    with pytest.raises(CheckpointError, match="no checkpoint of step 4"):
        export(config, tmp_path / "other", 4, build)


def test_a_dry_run_says_what_would_happen(tmp_path):
    config = tiny.config(tmp_path)
    sharded = replace(config, run=replace(config.run, shard=True))
    alone, shared = (describe(c, 100, 4, build) for c in (config, sharded))
    count = sum(p.numel() for p in tiny.parts().parameters())
    assert f"{count:,} of them trained" in alone[0]
    assert "divided over 4 workers" in shared[1] and "divided" not in alone[1]
    assert "steps per epoch: 50, of 2 windows each" in alone[3]
    assert not (tmp_path / "checkpoints").exists()


def test_validation_clips_have_the_models_rate_and_sound(tmp_path, monkeypatch, capsys):
    from actalker import media

    class Sounding(tiny.TinyPreparation):
        def window(self, features, frames, gates, generator):
            window = super().window(features, frames, gates, generator)
            sound = (torch.sin(torch.arange(1920 * frames) / 9) * 9000).short()
            return replace(window, sound=sound.expand(len(features), -1))

    class System(tiny.TinySystem):
        fps = 12.5

        def __init__(self):
            super().__init__()
            self.preparation = Sounding()

    asked = []

    def score(truth, made):
        asked.append((len(truth), len(made), media.video_length(made[0], 12.5), len(media.read_audio(truth[0]))))
        return {"offset": 2.5}

    def broken(truth, made):
        raise RuntimeError("no such face")

    for module in (validation, command):
        monkeypatch.setattr(module, "find_scores", lambda names: {"mine": score, "broken": broken})
    manifest = write_manifest(tmp_path)
    config = tiny.config(tmp_path / "out", steps=2, validate_every=2, scores=("mine", "broken"))
    config = replace(config, data=DataConfig(train=manifest, validation=manifest))
    train(config, build=lambda _: System())
    (checks,) = [line for line in lines(tmp_path / "out") if "validation/audio" in line]
    assert checks["mine/offset/audio+visual"] == 2.5 and len(asked) == 3
    assert "score broken failed: RuntimeError: no such face" in capsys.readouterr().out
    assert asked[0][:3] == (2, 2, 3) and asked[0][3] >= 0.2 * 16_000
    clip = tmp_path / "out" / "clips" / "0000002_audio.mp4"
    assert media.frame_duration(clip) == pytest.approx(1 / 12.5)
    assert abs(media.read_audio(clip)).max() > 0.1


def test_validation_computes_in_the_runs_precision(tmp_path, monkeypatch):
    seen = []

    def watched(*given):
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return sample(*given)

    monkeypatch.setattr(validation, "sample", watched)
    for precision in ("bf16", "fp32"):
        validation.validate(
            tiny.config(tmp_path, precision=precision), tiny.TinySystem(), tiny.sampler(), 1, torch.device("cpu")
        )
    assert seen == [torch.bfloat16] * 3 + [None] * 3


def test_unknown_scores_are_named_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match="no installed package offers the scores nothing"):
        train(tiny.config(tmp_path / "run", scores=("nothing",)), tiny.clips(), build)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("held_out", [False, True])
def test_clips_too_short_for_a_later_phase_are_named_before_the_first(tmp_path, held_out):
    manifest = write_manifest(tmp_path)
    short = tmp_path / "short.jsonl"
    np.savez(tmp_path / "short.npz", frames=tiny.clips()[0].frames[:2], audio=tiny.clips()[0].audio[: 2 * 640])
    short.write_text('{"clip": "short.npz"}')
    config = tiny.config(tmp_path / "run", validate_every=6)
    data = DataConfig(train=manifest if held_out else short, validation=short if held_out else manifest)
    with pytest.raises(InputError, match="no training clip has 3 frames"):
        train(replace(config, data=data), build=build)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_wandb_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match="wandb"):
        train(tiny.config(tmp_path, wandb="project"), tiny.clips(), build)


def test_wandb_gets_every_number(tmp_path, monkeypatch):
    logged, begun = [], []

    def init(**options):
        begun.append(options)
        return SimpleNamespace(
            log=lambda numbers, step: logged.append((step, numbers)), finish=lambda: logged.append("done")
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    config = tiny.config(tmp_path / "a" / "run", wandb="project", log_every=3, max_steps=3)
    train(config, tiny.clips(), build)
    assert logged[0][0] == 3 and logged[-1] == "done" and "loss" in logged[0][1]
    train(replace(config, run=replace(config.run, max_steps=4)), tiny.clips(), build)
    train(tiny.config(tmp_path / "b" / "run", wandb="project", max_steps=1), tiny.clips(), build)
    first, continued, other = (options["id"] for options in begun)
    assert first == continued != other  # runs in folders of one name are two
