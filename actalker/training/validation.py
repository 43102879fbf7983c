"""Held-out clips during training: made under every gate, written with their sound, measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actalker.errors import InputError
from actalker.gates import GATES
from actalker.media import write_video
from actalker.reading import shown
from actalker.training.config import TrainConfig
from actalker.training.data import FPS, WindowSampler, step_generator
from actalker.training.loop import autocast, sample

ENTRY_POINTS = "actalker.validation"
Score = Callable[[Sequence[Path], Sequence[Path]], Mapping[str, float]]
"""Measures made clips against true ones: video files with sound, pair by pair -> means by name."""
_STREAM = 1


def find_scores(names: Sequence[str]) -> dict[str, Score]:
    """Scores other packages offer as entry points of the group `actalker.validation`.

    Raises:
        InputError: a name nobody offers.
    """
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    unknown = [name for name in names if name not in offered]
    if unknown:
        known = ", ".join(sorted(offered)) or "none"
        raise InputError(f"no installed package offers the scores {', '.join(unknown)}", f"There are: {known}.")
    return {name: offered[name].load() for name in names}


@torch.no_grad()
def validate(
    config: TrainConfig,
    system: Any,
    sampler: WindowSampler,
    step: int,
    device: torch.device,
    *,
    write: bool = True,
) -> dict[str, float]:
    """Generate held-out windows under every gate, write them beside the truth, and return their errors.

    The same windows are used at every validation. Each clip shows truth (left) and result (right) at the model's
    frame rate, with the speech.

    Args:
        config: the run.
        system: the model in training.
        sampler: held-out windows.
        step: names the files.
        device: where the model is.
        write: write files and run scores; a worker beside the first only takes part in the calls of the model.

    Returns:
        `validation/<gate>`: mean over clips of the PSNR in dB; `copy/<gate>`: the same for the reference;
        `<score>/<name>/<gate>` for every number of the scores the config names.
    """
    system.parts.eval()
    scores = find_scores(config.run.scores) if write else {}
    frames, fps = config.phases[-1].frames, float(getattr(system, "fps", FPS))
    folder = config.run.out / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {}
    for gates in GATES.values():
        generator = step_generator(config.run.seed, 0, 0, _STREAM)
        window = sampler.draw(config.run.validation_clips, frames, gates, generator).to(device)
        with autocast(config, device):
            made = sample(system.parts, window, gates, generator)
        if not write:
            continue
        latents = (window.clean, window.reference.expand_as(made), made)
        # Clip by clip: a codec may look at neighbouring frames.
        truth, copy, result = (torch.cat([system.decode(c) for c in x]).clamp(-1, 1).cpu() for x in latents)
        numbers[f"validation/{gates.name}"] = _psnr(truth, result, frames)
        numbers[f"copy/{gates.name}"] = _psnr(truth, copy, frames)
        sound = None if window.sound is None else window.sound.cpu().float().div(32768).numpy()
        name = f"{step:07d}_{gates.name.replace('+', '_')}"
        joined = None if sound is None else np.concatenate(list(sound))
        write_video(folder / f"{name}.mp4", iter(_pictures(torch.cat([truth, result], 3))), fps, joined)
        with tempfile.TemporaryDirectory() as place:
            pairs = _pairs(Path(place), truth, result, frames, fps, sound) if scores else ([], [])
            for score, measure in scores.items():
                try:
                    found = measure(*pairs)
                except Exception as error:  # somebody else's code; days of training are worth more
                    said = shown(" ".join(str(error).split())[:300])
                    print(f"step {step}: score {score} failed: {type(error).__name__}: {said}", flush=True)
                    continue
                numbers |= {f"{score}/{key}/{gates.name}": float(value) for key, value in found.items()}
    return numbers


def _pairs(
    folder: Path, truth: Tensor, made: Tensor, frames: int, fps: float, sound: Any
) -> tuple[list[Path], list[Path]]:
    """True and made clips as files, one per clip."""
    written: tuple[list[Path], list[Path]] = ([], [])
    for paths, kind, pictures in zip(written, ("true", "made"), (truth, made), strict=True):
        for i, clip in enumerate(pictures.split(frames)):
            path = folder / kind / f"{i:03d}.mp4"
            write_video(path, iter(_pictures(clip)), fps, None if sound is None else sound[i])
            paths.append(path)
    return written


def _pictures(images: Tensor) -> Any:
    return images.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()


def _psnr(truth: Tensor, result: Tensor, frames: int) -> float:
    """Mean over clips of the PSNR in dB of pictures (b * frames, 3, H, W) in [-1, 1]."""
    error = ((truth - result) / 2).square().unflatten(0, (-1, frames)).flatten(1).mean(1)
    return float((-10 * error.clamp_min(1e-10).log10()).mean())
