"""Time the synthetic world and its metrics; run as a script.

OMP_NUM_THREADS=1 python tests/performance/synthetic_speed.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.synthetic import metrics as metrics
from bench.synthetic import motion, renderer, speech
from bench.synthetic.clip import make_clip
from bench.synthetic.evaluate import MemoryClip
from bench.synthetic.split import make_split


def cpu_ms(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest of several CPU times in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def main() -> None:
    """Print a table of CPU milliseconds on one thread."""
    torch.set_num_threads(1)
    made = make_clip("validation", 0)
    for size in (64, 96, 128):
        spent = cpu_ms(
            lambda size=size: renderer.render(made.identity, made.expression, made.pose, made.nuisance, size)
        )
        print(f"render {size:3d} px, per frame                {spent / 75:8.2f} ms")
    rng = np.random.default_rng(0)
    print(f"speech, per second of sound            {cpu_ms(lambda: speech.speak(3, rng)) / 3:8.2f} ms")
    said = speech.speak(3, rng)
    print(f"performance of 75 frames               {cpu_ms(lambda: motion.perform(75, said, rng)):8.2f} ms")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        first = cpu_ms(lambda: make_split("synthetic", root), 1)
        again = cpu_ms(lambda: make_split("synthetic", root), 1)
    print(f"split `synthetic`, made / verified      {first:8.0f} / {again:.0f} ms")
    for kind in metrics.EXTRACTORS:
        clip = MemoryClip(made.frames, made.audio)
        kind().extract(clip)
        print(f"{kind.spec.name:20s} per 75-frame clip {cpu_ms(lambda k=kind, c=clip: k().extract(c)):8.0f} ms")


if __name__ == "__main__":
    main()
