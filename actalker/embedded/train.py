"""Trains the embedded model, or one of its ablations, from nothing.

`python -m actalker.embedded.train --data DATA --out OUT` fits the encoders on DATA/portraits.npz and the clips of
DATA/clips.jsonl, then the UNet with its projections by the common trainer (`train.toml`), and stores the model
in OUT/run/model. Every stage continues where it was interrupted. `bench.synthetic.actalker_data` writes DATA.

`--ablation NAME` trains a row of the ablation table on a shorter schedule (`ABLATION_STEPS`) and stores it in
OUT/ablation/NAME/model; `none` is the whole model on that schedule, which the other rows compare with.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from actalker.errors import ActalkerError, InputError
from actalker.training.ablation import Ablation
from actalker.training.command import train
from actalker.training.config import load_config
from actalker.training.encoders import (
    Fit,
    Portraits,
    train_audio,
    train_expression,
    train_identity,
    train_pose,
)

CONFIG = Path(__file__).with_name("train.toml")
ABLATION_STEPS = (500, 60)
"""Steps of the config's phases in an ablation: a fifth, the same for every row of the table."""

PLANS = {
    "audio": Fit(700, batch=32, lr=2e-3),
    "pose": Fit(1500, bf16=True),
    "expression": Fit(1200, bf16=True),
    "identity": Fit(500, bf16=True),
}


def train_encoders(data: Path, out: Path) -> None:
    """Fit the encoders that OUT does not hold yet.

    Raises:
        InputError: DATA lacks the portraits or the clips.
    """
    if not (data / "portraits.npz").is_file() or not (data / "clips.jsonl").is_file():
        raise InputError(
            f"{data} lacks portraits.npz or clips.jsonl",
            f"Make them: python -m bench.synthetic.actalker_data --out {data}",
        )

    def report(line: str) -> None:
        print(line, flush=True)

    if not (out / "audio").is_dir():
        audio, mouth = _speech(data)
        train_audio(audio, mouth, PLANS["audio"], report).save_pretrained(out / "audio")
    portraits = Portraits(data / "portraits.npz")
    for name, fit in (("pose", train_pose), ("expression", train_expression), ("identity", train_identity)):
        if not (out / name).is_dir():
            fit(portraits, PLANS[name], report).save_pretrained(out / name)


def _speech(data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Sound (clips, samples) and articulation (clips, frames, 3) of every clip."""
    audio, mouth = [], []
    for path in sorted(data.glob("clip_*.npz")):
        with np.load(path) as clip:
            audio.append(clip["audio"])
            mouth.append(clip["expression"][:, :3])
    return torch.from_numpy(np.stack(audio)), torch.from_numpy(np.stack(mouth))


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description="Train the embedded ACTalker.")
    parser.add_argument("--data", type=Path, required=True, help="folder written by bench.synthetic.actalker_data")
    parser.add_argument("--validation", type=Path, help="the same for the validation partition")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=0.0, help="stop, resumably, after this wall time")
    parser.add_argument("--encoders-only", action="store_true")
    parser.add_argument(
        "--ablation",
        choices=get_args(Ablation),
        help="leave one part of the control out; takes the same encoders and the shorter schedule",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        train_encoders(args.data, args.out / "encoders")
        if args.encoders_only:
            return 0
        config = load_config(CONFIG)
        config = replace(
            config,
            model=f"embedded:{args.out / 'encoders'}",
            data=replace(
                config.data,
                train=args.data / "clips.jsonl",
                validation=args.validation / "clips.jsonl" if args.validation else Path(),
                cache=args.out / "features",
            ),
            run=replace(config.run, out=args.out / "run", max_minutes=args.minutes),
        )
        if args.ablation:
            phases = zip(config.phases, ABLATION_STEPS, strict=True)
            config = replace(
                config,
                ablation=args.ablation,
                run=replace(config.run, out=args.out / "ablation" / args.ablation, validate_every=0),
                phases=tuple(replace(phase, steps=steps) for phase, steps in phases),
            )
        print(f"stored the model in {train(config)}")
    except ActalkerError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
