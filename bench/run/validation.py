"""The metrics as a score of a model in training, found by name (entry point group `actalker.validation`).

A trainer that knows nothing of the harness hands over the true and the made clips of a validation and logs the
means. They are scored by `bench score` in a process of its own, without a GPU: the harness pins threads and
kernels for numbers that repeat, which must not reach the training that goes on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.spec import Domain
from bench.store.home import Home

METRICS = "BENCH_VALIDATION_METRICS"
"""Variable with the metrics to use, as `bench score --metrics` takes them."""
_GIVEN_UP = 1
"""Exit code of a command of which some jobs failed: what was scored is there."""


def score_clips(truth: Sequence[Path], made: Sequence[Path]) -> Mapping[str, float]:
    """Score made clips against true ones with the metrics of single clips.

    Args:
        truth, made: video files with sound, pair by pair.

    Returns:
        `PROTOCOL/COLUMN`: mean over the clips that have a value; `PROTOCOL/coverage`: their share, in (0, 1]. A
        protocol without any value (no face, no speech) is left out.

    Raises:
        BenchError: nothing could be scored; with the command's own words.
    """
    with tempfile.TemporaryDirectory(prefix="bench-validation-") as place:
        folder = Path(place)
        for name, files in (("true", truth), ("made", made)):
            (folder / name).mkdir()
            for i, file in enumerate(files):
                shutil.copyfile(file, folder / name / f"clip_{i:04d}{file.suffix}")
        home = folder / "home"
        command = [
            sys.executable, "-m", "bench", "score", str(folder / "made"), "--split", f"folder:{folder / 'true'}",
            "--metrics", os.environ.get(METRICS) or ",".join(_metrics("real")), "--executor", "inline",
            "--format", "", "--home", str(home),
        ]  # fmt: skip
        weights = os.environ.get("BENCH_WEIGHTS") or str(Home().weights)
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "BENCH_WEIGHTS": weights}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode not in (0, _GIVEN_UP):
            raise BenchError(f"The validation clips could not be scored: {done.stderr.strip()[-2000:]}")
        return _means(home, len(made))


def _metrics(domain: Domain) -> list[str]:
    """Return the default metrics of single clips that can run here, but those that need clips made again."""
    from bench.catalogue import choose_metrics, unavailable

    ready = (metric.spec for metric in choose_metrics(domain, None) if unavailable(metric) is None)
    return [spec.id for spec in ready if spec.kind == "clip" and "swapped" not in spec.needs]


def _means(home: Path, clips: int) -> dict[str, float]:
    from bench.run.session import load

    rows = load("latest", home).rows
    rows = rows[(rows["status"] == "ok") & rows["value"].notna()]
    means: dict[str, float] = {}
    for (protocol, column), values in rows.groupby(["protocol", "column"])["value"]:
        means[f"{protocol}/{column}"] = float(values.mean())
        means[f"{protocol}/coverage"] = len(values) / clips
    return means
