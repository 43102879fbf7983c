"""Runs with tiny clips on a local Ray; prints what each clip takes of this process, the driver.

`python tests/performance/ray_driver.py FOLDER FEW MANY [profile]`: two runs; by their difference, what a run takes
whatever its length is not counted. Memory is what both hold while they exist.
"""

from __future__ import annotations

import cProfile
import gc
import importlib.util
import pstats
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.catalogue import find_method
from bench.core.keys import digest
from bench.core.spec import Split
from bench.execute.interrupt import Interrupt
from bench.execute.ray_cluster import run_on_ray
from bench.execute.ray_session import connected
from bench.execute.scheduler import Scheduler
from bench.run.flow import Flow
from bench.run.plan import plan_generation
from bench.store.home import Home

TOYS = Path(__file__).resolve().parents[1] / "toys.py"


def split_of(folder: Path, name: str, count: int) -> Split:
    """Return samples that differ in name and digest and share their files."""
    spec = importlib.util.spec_from_file_location("tests_toys", TOYS)
    assert spec is not None and spec.loader is not None
    toys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toys)
    (first,) = toys.make_split(folder / "split", count=1, length=4).samples
    samples = [
        replace(first, id=f"{name}{i}", digests={**first.digests, "audio": digest([name, i])})
        for i in range(count)
    ]
    return Split(name, "real", tuple(samples))


def main(folder: Path, few: int, many: int, profiled: bool) -> None:
    home, profile, kept = Home(folder / "home").ready(), cProfile.Profile(), []
    seconds, held = {}, {}
    with connected(None, 2) as ray:
        for count in (8, few, many):  # the first imports everything
            gc.collect()
            start, before = time.process_time(), _memory()
            split = split_of(folder, f"split{count}-", count)
            plan = plan_generation(split, [find_method(f"{TOYS}:Still")], gates=["audio"])
            flow = Flow(plan, [], home)
            scheduler = Scheduler(flow.initial, flow.follow)
            if profiled and count == many:
                profile.enable()
            run_on_ray(ray, scheduler, home, None, lambda task, outcome: None, Interrupt(), own=True)
            profile.disable()
            assert scheduler.finished and not scheduler.failures and len(flow.generated) == count
            kept.append((flow, scheduler))
            seconds[count], held[count] = time.process_time() - start, _memory() - before
    each = 1 / (many - few)
    print(
        f"  driver on Ray, per clip, from {few} and {many}: {1000 * (seconds[many] - seconds[few]) * each:.2f} ms"
        f" of processor (goal 2), {(held[many] - held[few]) / 1024 * each:.1f} KB (goal 5)"
    )
    if profiled:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


def _memory() -> int:
    """Return bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "profile" in sys.argv[4:])
