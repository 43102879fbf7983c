"""How far each inexact option moves a clip, on the embedded model: `python tests/performance/actalker_lanes.py`.

By itself the embedded model takes one step without guidance, where none of these options has anything to leave
out. It is asked for more steps and the released guidance scales; every option is compared with that. Its noise
levels are those of straight paths, in (0, 1]: half of the steps stand for the ten sigmas of the full model.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from actalker import Guidance, embedded
from bench.core import numerics
from bench.data.splits import load_split
from bench.store.home import Home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8)
    chosen = parser.parse_args()
    numerics.pin()
    with tempfile.TemporaryDirectory() as place:
        split = load_split("synthetic-ci", Home(Path(place)), str(chosen.samples))
        exact = embedded.load()
        small = copy.deepcopy(exact.unet)
        small.enable_layerwise_casting()
        eight = type(exact)(small, exact.codec, exact.conditioner, exact.config)
        lanes: dict[str, tuple[Any, dict[str, Any]]] = {
            "exact": (exact, {}),
            "half of the steps": (exact, {"steps": chosen.steps // 2}),
            "guidance_interval=(0.2, 0.8)": (exact, {"guidance_interval": (0.2, 0.8)}),
            "cache_interval=2": (exact, {"cache_interval": 2}),
            "cache_interval=3": (exact, {"cache_interval": 3}),
            "weights stored as float8": (eight, {}),
        }
        reference: list[np.ndarray] = []
        for name, (pipeline, options) in lanes.items():
            begun, made = time.process_time(), []
            for sample in split.samples:
                settings = {"steps": chosen.steps, "guidance": Guidance(), "frames": chosen.frames} | options
                clip = pipeline(sample.image, sample.audio, sample.video, shortest=True, **settings)
                made.append(np.stack(list(clip)).astype(float))
            seconds = time.process_time() - begun
            reference = reference or made
            errors = [np.square(a - b).mean() for a, b in zip(made, reference, strict=True)]
            decibels = np.mean([10 * np.log10(255**2 / error) if error else np.inf for error in errors])
            levels = np.mean([np.abs(a - b).mean() for a, b in zip(made, reference, strict=True)])
            print(f"{name:32} PSNR {decibels:6.2f} dB, mean change {levels:5.2f} of 255, {seconds:5.1f} CPU-s")


if __name__ == "__main__":
    main()
