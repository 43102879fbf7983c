"""What the default metrics of motion, sharpness and background add to the suite where landmarks are stored.

    python tests/performance/added_cost.py [CLIP ...] [--frames 60] [--repeats 3]

The drawn world: all clips of `synthetic-ci` as two methods make them, under its default metrics with and without
the added ones. CLIPs, at least two, 512 pixels: the same on real faces, for a method one frame late, with networks
of true size and random weights; defaults whose weights cannot be made up are left out of both sides. Clips and
landmarks come from a store; every repeat scores on a copy of it, with and without in turn. CPU seconds of this
process; run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metrics_suite import WEIGHTS, Material, silenced, timed

from bench import catalogue, weights
from bench.core.spec import Split
from bench.data.splits import load_split
from bench.metrics import references
from bench.run.drive import Execution, execute
from bench.run.plan import Plan, plan_generation, plan_ingestion
from bench.store.home import Home

ADDED = ("dynamics/", "sharpness/", "flicker/background")
LANDMARKS = {"real": ["lmd/mouth_iod"], "synthetic": ["lmd/synthetic_v1"]}
LIMIT = 0.1


def suites(split: Split) -> tuple[list[Any], list[Any]]:
    """The default metrics that can run here, without the added ones and with them."""
    every = [m for m in catalogue.choose_metrics(split.domain, None) if catalogue.unavailable(m) is None]
    return [m for m in every if not m.spec.id.startswith(ADDED)], every


def cost(plan: Plan, split: Split, work: Path, repeats: int) -> tuple[float, float]:
    """The least CPU seconds of the repeats, without and with the added metrics; a busy machine only adds."""
    stored = work / "stored"
    execute(
        plan, catalogue.choose_metrics(split.domain, LANDMARKS[split.domain]), Home(stored), Execution("inline")
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):  # the first loads modules and networks
        for spent, metrics in zip(seconds, suites(split), strict=True):
            copy = work / "copy"
            shutil.copytree(stored, copy)
            taken = timed(lambda metrics=metrics, copy=copy: scored(plan, metrics, copy))
            shutil.rmtree(copy)
            if turn:
                spent.append(taken)
    return min(seconds[0]), min(seconds[1])


def scored(plan: Plan, metrics: Sequence[Any], home: Path) -> None:
    result = execute(plan, metrics, Home(home), Execution("inline"))
    if result.failures:
        raise SystemExit(f"not scored: {result.failures}")


def drawn(work: Path) -> tuple[Plan, Split]:
    split = load_split("synthetic-ci", Home(work / "made"))
    return plan_generation(split, [catalogue.find_method(n) for n in ("ground-truth", "mouth-warp")]), split


def real(work: Path, clips: list[Path], frames: int) -> tuple[Plan, Split]:
    landmarker = weights.locate("face_landmarker")
    (work / "weights").mkdir()
    (work / "weights" / landmarker.name).symlink_to(landmarker)
    names = [name for names in WEIGHTS.values() for name in names]
    os.environ["BENCH_WEIGHTS_LOCK"] = str(references.write_random_weights(work / "weights", names))
    os.environ["BENCH_WEIGHTS"] = str(work / "weights")
    material = Material(clips, work, 1, frames)
    split = material.split()
    files = {path.stem: path for path in material.generated[0]}
    return plan_ingestion(split, "late", files, "audio+visual"), split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="at least two, 512x512")
    parser.add_argument("--frames", type=int, default=60, help="frames per clip; more than 50")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    over = False
    with tempfile.TemporaryDirectory() as folder:
        for name in ("drawn", "real") if arguments.clips else ("drawn",):
            work = Path(folder) / name
            work.mkdir()
            with silenced(work / "log"):
                plan, split = drawn(work) if name == "drawn" else real(work, arguments.clips, arguments.frames)
                before, after = cost(plan, split, work, arguments.repeats)
            ids = [m.spec.id for m in suites(split)[1]]
            print(f"{name}: {before:.2f} -> {after:.2f} CPU seconds, {after / before - 1:+.1%}   {', '.join(ids)}")
            over |= after > before * (1 + LIMIT)
    raise SystemExit(over)


if __name__ == "__main__":
    main()
