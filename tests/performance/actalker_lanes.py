"""How far each inexact option moves a result: `python tests/performance/actalker_lanes.py [--random]`.

On the embedded model, which by itself takes one step without guidance, where none of these options has anything to
leave out. It is asked for more steps and the released guidance scales; every option is compared with that. Its
noise levels are those of straight paths, in (0, 1]: half of the steps stand for the ten sigmas of the full model.

With `--random`: on a UNet of the full model's four levels, layers and schedule with random weights, at a tenth of
its width, as full width takes a CPU hours. It says what arithmetic does to latents, and nothing about pictures.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actalker_unet import conditions_for
from diffusers.schedulers import AysSchedules

from actalker import Guidance, embedded
from actalker.control import ControlConfig
from actalker.gates import GATES
from actalker.sampler import SamplerConfig, denoise, with_options
from actalker.unet import ACTalkerUNet, UNetConfig
from bench.core import numerics
from bench.data.splits import load_split
from bench.store.home import Home

TENTH = UNetConfig(
    channels=(32, 64, 128, 128), heads=(1, 2, 4, 4), condition=128, control=ControlConfig(residual=True)
)
"""The full model's levels and layers, narrower."""
TEN = AysSchedules["StableDiffusionVideoSigmas"][:-1]


def compare(lanes: dict[str, Callable[[], Any]], describe: Callable[[Any, Any], str]) -> None:
    """Run every lane; print how far it is from the first, and its time."""
    reference: Any = None
    for name, run in lanes.items():
        begun = time.process_time()
        made = run()
        seconds = time.process_time() - begun
        reference = made if reference is None else reference
        print(f"{name:32} {describe(made, reference)}, {seconds:5.1f} CPU-s", flush=True)


def on_the_embedded_model(samples: int, frames: int, steps: int) -> None:
    exact = embedded.load()
    small = copy.deepcopy(exact.unet)
    small.enable_layerwise_casting()
    eight = type(exact)(small, exact.codec, exact.conditioner, exact.config)
    with tempfile.TemporaryDirectory() as place:
        split = load_split("synthetic-ci", Home(Path(place)), str(samples))

        def clips(pipeline: Any = exact, **options: Any) -> list[np.ndarray]:
            settings = {"steps": steps, "guidance": Guidance(), "frames": frames} | options
            made = (pipeline(s.image, s.audio, s.video, shortest=True, **settings) for s in split.samples)
            return [np.stack(list(clip)).astype(float) for clip in made]

        def describe(made: list[np.ndarray], reference: list[np.ndarray]) -> str:
            errors = [np.square(a - b).mean() for a, b in zip(made, reference, strict=True)]
            decibels = np.mean([10 * np.log10(255**2 / error) if error else np.inf for error in errors])
            levels = np.mean([np.abs(a - b).mean() for a, b in zip(made, reference, strict=True)])
            return f"PSNR {decibels:6.2f} dB, mean change {levels:5.2f} of 255"

        lanes = {
            "exact": clips,
            "half of the steps": lambda: clips(steps=steps // 2),
            "guidance_interval=(0.2, 0.8)": lambda: clips(guidance_interval=(0.2, 0.8)),
            "cache_interval=2": lambda: clips(cache_interval=2),
            "cache_interval=3": lambda: clips(cache_interval=3),
            "weights stored as float8": lambda: clips(eight),
        }
        compare(lanes, describe)


def on_random_weights(frames: int, side: int = 8) -> None:
    torch.manual_seed(0)
    unet = ACTalkerUNet(TENTH).eval()
    conditions = conditions_for("audio+visual", TENTH, frames, side, 8, "cpu")

    def latents(network: ACTalkerUNet = unet, circular: bool = True, **options: Any) -> torch.Tensor:
        plain = SamplerConfig(window=frames, shift=3, circular=circular)
        chosen = {"steps": None, "sigmas": None, "guidance": None, "interval": None} | options
        config = with_options(plain, items=None, **{"cache_interval": None, **chosen})
        generator = torch.Generator().manual_seed(0)
        return denoise(network, conditions, frames, GATES["audio+visual"], config, 0.18215, generator)

    def describe(made: torch.Tensor, reference: torch.Tensor) -> str:
        change = (made - reference).square().mean().sqrt() / reference.square().mean().sqrt()
        return f"relative change of the latents {change:8.2e}"

    eight = copy.deepcopy(unet)
    eight.enable_layerwise_casting()
    sizes = [sum(p.nbytes for p in network.parameters()) / 2**20 for network in (unet, eight)]
    print(f"parameters: {sizes[0]:.0f} MiB, with float8 {sizes[1]:.0f} MiB")
    lanes = {
        "exact, 25 steps": latents,
        "ten sigmas": lambda: latents(sigmas=TEN),
        "guidance_interval=(0.05, 50)": lambda: latents(interval=(0.05, 50)),
        "circular=False": lambda: latents(circular=False),
        "cache_interval=2": lambda: latents(cache_interval=2),
        "cache_interval=3": lambda: latents(cache_interval=3),
        "weights stored as float8": lambda: latents(eight),
    }
    compare(lanes, describe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", action="store_true", help="random weights instead of the embedded model")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8)
    chosen = parser.parse_args()
    numerics.pin()
    if chosen.random:
        on_random_weights(chosen.frames)
    else:
        on_the_embedded_model(chosen.samples, chosen.frames, chosen.steps)


if __name__ == "__main__":
    main()
