"""From a folder of videos to a run that can be started: manifest, configuration, and a toy model if none is given.

The toy has the full model's architecture (Whisper, ArcFace and motion paths, pose guider, UNet with control
layers, windows, guidance) at sizes a CPU trains in minutes, with random weights. It shows that everything works.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from actalker.conditioning.audio import AudioProjection, AudioProjectionConfig
from actalker.conditioning.blendshapes import BLENDSHAPES, Blendshapes, HeadMatrix
from actalker.conditioning.identity import IdentityProjection, IdentityProjectionConfig, IResNet, IResNetConfig
from actalker.conditioning.motion import MotionProjection, MotionProjectionConfig
from actalker.conditioning.portrait import PortraitConditioner, PortraitConditionerConfig
from actalker.conditioning.pose_guider import PoseGuider, PoseGuiderConfig
from actalker.conditioning.whisper import WhisperConfig, WhisperEncoder
from actalker.control import ControlConfig
from actalker.embedded.codec import PatchCodec, PatchCodecConfig
from actalker.errors import InputError
from actalker.media import has_sound
from actalker.pipeline import ACTalkerPipeline, PipelineConfig
from actalker.sampler import SamplerConfig
from actalker.schedule import ScheduleConfig
from actalker.unet import ACTalkerUNet, UNetConfig
from actalker.writing import write_text

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_CONDITION = 32
_PATCH = 4


def start(
    videos: Path,
    out: Path,
    model: Path | None = None,
    seconds: float | None = None,
    steps: int = 200,
    report: Callable[[str], None] = lambda message: None,
) -> Path:
    """Write `train.jsonl`, `validation.jsonl`, `train.toml` and, without a model, `start/`; return the TOML file.

    Args:
        videos: folder of talking clips with sound; the last in alphabetical order is held out where there are two.
        out: folder of the run; must not hold a `train.toml`.
        model: folder of a stored pipeline to start from.
        seconds: how much of each clip to use.
        steps: optimiser steps.
        report: called with a sentence about the files left out.

    Raises:
        InputError: no videos with sound, or a run that exists.
    """
    found = sorted(p.resolve() for p in videos.glob("*") if p.suffix.lower() in VIDEOS) if videos.is_dir() else []
    silent = [path for path in found if not has_sound(path)]
    if silent:
        report(f"left out, as they have no sound: {', '.join(path.name for path in silent)}")
    found = [path for path in found if path not in silent]
    if not found:
        raise InputError(
            f"{videos} holds no videos with sound", f"Give a folder with files of one of: {', '.join(VIDEOS)}."
        )
    config = out / "train.toml"
    if config.exists():
        raise InputError(f"{config} exists already", f"Continue: python -m actalker train --config {config}")
    out.mkdir(parents=True, exist_ok=True)
    held_out = found[-1:] if len(found) > 1 else []
    for name, paths in (("train", found[: len(found) - len(held_out)]), ("validation", held_out)):
        entries = [
            {"video": str(p), "identity": p.stem, **({} if seconds is None else {"seconds": seconds})}
            for p in paths
        ]
        write_text(out / f"{name}.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
    if model is None:
        model = out / "start"
        toy().save_pretrained(model)
    settings = {
        "model": str(model), "train": str(out / "train.jsonl"), "out": str(out / "run"), "steps": steps,
        "validation": f'validation = "{out / "validation.jsonl"}"' if held_out else "",
    }  # fmt: skip
    write_text(config, _TOML.format(**settings))
    return config


def toy(seed: int = 0) -> ACTalkerPipeline:
    """A full pipeline with random weights that makes 64-pixel clips at 12.5 fps."""
    torch.manual_seed(seed)
    whisper = WhisperConfig(d_model=32, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64)
    channels = 3 * _PATCH**2
    conditioner = PortraitConditioner(
        PortraitConditionerConfig(image_size=64, multiple=8),
        WhisperEncoder(whisper),
        AudioProjection(AudioProjectionConfig(layers=2, features=32, hidden=64, tokens=4, condition=_CONDITION)),
        IResNet(IResNetConfig(layers=(1, 1, 1, 1), widths=(8, 8, 16, 16), embedding=32, size=32)),
        IdentityProjection(IdentityProjectionConfig(embedding=32, hidden=32, condition=_CONDITION)),
        Blendshapes(),
        HeadMatrix(),
        MotionProjection(MotionProjectionConfig(features=BLENDSHAPES, condition=_CONDITION, rotation_scale=0.05)),
        PoseGuider(PoseGuiderConfig(widths=(8, 16, 16), outputs=32)),
    ).eval()
    unet = ACTalkerUNet(
        UNetConfig(
            in_channels=2 * channels, out_channels=channels, channels=(32, 64), heads=(1, 2),
            attention=(True, True), layers=1, condition=_CONDITION, time_id_channels=32, norm_groups=8,
            control=ControlConfig(residual=True, state=4, expand=1),
        )
    )  # fmt: skip
    sampler = SamplerConfig(schedule=ScheduleConfig(steps=4), window=8, shift=3, circular=False)
    codec = PatchCodec(PatchCodecConfig(patch=_PATCH))
    return ACTalkerPipeline(unet, codec, conditioner, PipelineConfig(masks="paper", sampler=sampler))


_TOML = """model = "{model}"

[data]
train = "{train}"
{validation}

[run]
out = "{out}"
log_every = 10
checkpoint_every = 50
validate_every = 100
validation_clips = 1

[optimiser]
ema = 0.99

[[phases]]
steps = {steps}
batch = 1
frames = 8
accumulation = 1
lr = 1e-3
lr_end = 1e-4
"""
