"""How long a report of 40 000 rows takes: `python tests/performance/report_speed.py`.

Prints seconds per stage and the peak memory of the process: 25 methods under one to three gates, 100 clips,
the columns of the fake results; then everything `bench report` writes.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

START = time.perf_counter()
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "report"))

import fakes  # noqa: E402

from bench import report  # noqa: E402
from bench.report.results import load  # noqa: E402


def main() -> None:
    """Make rows, write them, then time loading and every format."""
    gates = (("audio",), ("visual",), ("audio", "visual", "audio+visual"))
    methods = {f"method-{i}": ("model", gates[i % 3], 0.04 * i) for i in range(30)}
    results = fakes.make(methods=methods, identities=100, media={"clip": "blobs/{method}/{gate}/{i}.mp4"})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        rows = results.rows.head(40_000)
        rows.to_parquet(run / "rows.parquet")
        _say("imports and fake rows", START)
        total = 0.0
        began = time.perf_counter()
        cpu = time.process_time()
        loaded = load(run)
        loaded = type(loaded)(loaded.rows, results.provenance, loaded.name, loaded.folder)
        total += _say(f"load {len(rows)} rows", began)
        cpu = time.process_time() - cpu
        for name in report.FORMATS:
            began = time.perf_counter()
            report.write(loaded, Path(folder) / name, formats=(name,))
            _say(f"  write {name} alone", began)
        began, again = time.perf_counter(), time.process_time()
        written = report.write(loaded, Path(folder) / "all")
        total += _say("write md, csv, html, latex", began)
        cpu += time.process_time() - again
        print(f"{'load and write all':28} {total:6.2f} s   of which CPU {cpu:.2f} s (goal: 3 s)")
        print(f"{'page':28} {written['html'].stat().st_size / 1e6:6.2f} MB")
    print(f"{'peak memory':28} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:6.0f} MB")


def _say(what: str, began: float) -> float:
    seconds = time.perf_counter() - began
    print(f"{what:28} {seconds:6.2f} s")
    return seconds


if __name__ == "__main__":
    main()
