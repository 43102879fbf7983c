"""What a report of 40 000 rows costs: `python -m pytest -m performance -s tests/performance/test_report.py`.

30 methods under one to three gates, 100 clips, the columns of the fake results; loading them and writing Markdown,
CSV, LaTeX and the page in a process of its own, so that its peak memory is that of a report. CPU seconds are
asserted, not wall time, which other processes stretch.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROWS = 40_000
SECONDS, MEGABYTES = 3.0, 300


@pytest.mark.performance
def test_a_report_of_forty_thousand_rows() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print()
    for label, value, goal in (
        (f"load {found['rows']} rows and write md, csv, html, latex: CPU s", found["cpu"], f"{SECONDS} s"),
        ("  of which loading: wall s", found["load"], "-"),
        ("  wall s of everything", found["wall"], "-"),
        ("the page, MB", found["page"], "-"),
        ("peak memory beyond the made-up rows' own, MB", found["peak"] - found["before"], f"{MEGABYTES} MB"),
    ):
        print(f"  {label:<58} {value:8.2f}     goal {goal}")
    assert found["rows"] == ROWS
    assert found["cpu"] <= SECONDS
    assert found["peak"] - found["before"] <= MEGABYTES


def main() -> None:
    """Make rows, write them, then measure loading and every format `bench report` writes by default."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "report"))
    import fakes

    from bench import report
    from bench.results.runs import load

    gates = (("audio",), ("visual",), ("audio", "visual", "audio+visual"))
    methods = {f"method-{i}": ("model", gates[i % 3], 0.04 * i) for i in range(30)}
    made = fakes.make(methods=methods, identities=100, media={"clip": "blobs/{method}/{gate}/{i}.mp4"})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        made.rows.head(ROWS).to_parquet(run / "rows.parquet")
        (run / "run.json").write_text(json.dumps(made.provenance))
        before = _peak()
        wall, cpu = time.perf_counter(), time.process_time()
        loaded = load(run)
        loading = time.perf_counter() - wall
        written = report.write(loaded, run)
        found = {
            "rows": len(loaded.rows), "load": loading, "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu, "page": written["html"].stat().st_size / 1e6,
            "before": before, "peak": _peak(),
        }  # fmt: skip
    print(json.dumps(found))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
