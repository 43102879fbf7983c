"""A driver process for tests that kill it: `python drive.py HOME SPLIT EXECUTOR METHOD...`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import toys

from bench.catalogue import choose_metrics, find_method
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.home import Home


def main(home: str, split: str, executor: str, *methods: str) -> int:
    plan = plan_generation(toys.make_split(Path(split)), [find_method(toys.target(m)) for m in methods])
    how = Execution(executor, workers=2)  # type: ignore[arg-type]
    result = execute(
        plan,
        choose_metrics("real", ["psnr", "flicker/mae"]),
        Home(Path(home)),
        how,
        name=os.environ.get("TOY_RUN", "run"),
    )
    return 130 if result.interrupted else int(result.failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
