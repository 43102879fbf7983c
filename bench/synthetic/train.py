"""Trains the embedded networks from nothing: `python -m bench.synthetic.train`.

Takes about twenty minutes of one CPU core. Data and checkpoints go to a work folder; a run that was cut off
continues from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors.torch import save_file

from bench.core.declaration import read_json
from bench.synthetic import embedded
from bench.synthetic.stages import STAGES, Stage

SEED = 0
CHECKPOINT_SECONDS = 30.0
_WARM_UP = 50


def train(
    name: str,
    work: Path,
    out: Path,
    *,
    steps: int | None = None,
    scale: float = 1.0,
    seed: int = SEED,
    bf16: bool = True,
    stop_after: int | None = None,
    progress: Progress | None = None,
) -> bool:
    """Train one network and write its weights.

    Args:
        name: key of `stages.STAGES`.
        work: folder for data and checkpoints.
        out: folder for `<name>.safetensors` and the manifest.
        steps: optimiser steps; the stage's own number if None.
        scale: share of the full training set.
        seed: of the initial weights and the batches.
        bf16: compute convolutions in bfloat16.
        stop_after: leave, with a checkpoint, after this many steps in all.
        progress: bar to report to.

    Returns:
        Whether the training is complete.
    """
    steps = steps or STAGES[name].steps
    stage, optimiser, done = _resume(name, work, steps, scale, seed, progress)
    bar = progress.add_task(name, total=steps, completed=done) if progress else None
    stage.train()
    saved = time.monotonic()
    used = time.process_time()
    losses: list[float] = []
    while done < steps and done != stop_after:
        share = done / steps
        for group in optimiser.param_groups:
            ramp = min(1.0, (done + 1) / _WARM_UP)
            group["lr"] = stage.learning_rate * ramp * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        torch.manual_seed(seed * 1_000_003 + done)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = stage.loss(np.random.default_rng([seed, done]), share)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        done += 1
        if progress and bar is not None:
            progress.update(bar, completed=done, description=f"{name} (loss {np.mean(losses[-40:]):.3f})")
        if time.monotonic() - saved > CHECKPOINT_SECONDS or done == stop_after:
            _save_checkpoint(work / f"{name}.checkpoint", stage, optimiser, done, steps)
            saved = time.monotonic()
    if done < steps:
        return False
    _write(stage, out, steps, scale, seed, time.process_time() - used)
    return True


def _resume(
    name: str, work: Path, steps: int, scale: float, seed: int, progress: Progress | None
) -> tuple[Stage, torch.optim.Optimizer, int]:
    kind = STAGES[name]
    work.mkdir(parents=True, exist_ok=True)
    bar = progress.add_task(f"{name}: data", total=None) if progress else None

    def report(done: int, total: int) -> None:
        if progress and bar is not None:
            progress.update(bar, completed=done, total=total)

    arrays = kind.data(work, scale, report)
    if progress and bar is not None:
        progress.remove_task(bar)
    torch.manual_seed(seed)
    stage = kind(arrays)
    if name != "clip":  # three-dimensional convolutions have their own layout
        stage.network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(stage.parameters(), stage.learning_rate, weight_decay=stage.weight_decay)
    checkpoint = work / f"{name}.checkpoint"
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["steps"] == steps:
            stage.load_state_dict(saved["stage"])
            optimiser.load_state_dict(saved["optimiser"])
            return stage, optimiser, saved["done"]
    return stage, optimiser, 0


def _save_checkpoint(path: Path, stage: Stage, optimiser: torch.optim.Optimizer, done: int, steps: int) -> None:
    part = path.with_suffix(".part")
    state = {"stage": stage.state_dict(), "optimiser": optimiser.state_dict(), "done": done, "steps": steps}
    torch.save(state, part)
    part.replace(path)


def _write(stage: Stage, out: Path, steps: int, scale: float, seed: int, seconds: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in stage.network.state_dict().items()
    }
    name = f"synthetic_{stage.name}"
    path = out / f"{name}.safetensors"
    part = path.with_suffix(".part")
    save_file(state, part)
    part.chmod(0o644)
    part.replace(path)
    manifest = out / embedded.MANIFEST
    entries = read_json(manifest, dict[str, dict[str, object]]) if manifest.is_file() else {}
    entries[name] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in stage.network.parameters()),
        "steps": steps,
        "seed": seed,
        "data_scale": scale,
        "cpu_seconds": round(seconds),
    }
    manifest.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.train", description=__doc__)
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="only this network (repeatable)")
    parser.add_argument("--work", type=Path, default=Path("synthetic-training"), help="data and checkpoints")
    parser.add_argument("--out", type=Path, default=embedded.FOLDER, help="where the weights go")
    parser.add_argument("--steps", type=int, help="optimiser steps instead of each network's own number")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training data")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 (for processors without AMX)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        for name in options.stage or list(STAGES):
            train(
                name,
                options.work,
                options.out,
                steps=options.steps,
                scale=options.scale,
                seed=options.seed,
                bf16=not options.fp32,
                progress=progress,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
