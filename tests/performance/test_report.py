"""What a report costs: `python -m pytest -m performance -s tests/performance/test_report.py`.

Two run folders as `bench run` leaves them, with 40 000 and with a million rows; each is loaded and written as
Markdown, CSV, LaTeX and the page in a process of its own, so that its peak memory is that of a report. Processor
seconds are asserted, not wall time, which other processes stretch.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.performance
@pytest.mark.parametrize(
    ("size", "rows", "seconds", "megabytes"),
    [
        (("100", "13", "sync/longest_track", "csim/ref_image", "fid/pytorch_fid_allframes"), 40_000, 3.0, 400),
        (("1030", "8"), 1_000_000, 60.0, 2000),
    ],
    ids=["forty-thousand", "a-million"],
)
def test_a_report(tmp_path: Path, size: tuple[str, ...], rows: int, seconds: float, megabytes: float) -> None:
    made = [sys.executable, str(HERE / "large_runs.py"), str(tmp_path), *size]
    subprocess.run(made, check=True, capture_output=True)
    measured = [sys.executable, __file__, str(tmp_path)]
    found = json.loads(subprocess.run(measured, capture_output=True, text=True, check=True).stdout)
    print()
    for label, value, goal in (
        (f"load {found['rows']} rows and write md, csv, html, latex: CPU s", found["cpu"], f"{seconds} s"),
        ("  of which loading: CPU s", found["load"], "-"),
        ("  wall s of everything", found["wall"], "-"),
        ("the page, MB", found["page"], "-"),
        ("peak memory, MB", found["peak"], f"{megabytes} MB"),
    ):
        print(f"  {label:<66} {value:8.2f}     goal {goal}")
    assert found["rows"] >= rows
    assert found["cpu"] <= seconds
    assert found["peak"] <= megabytes


def main(run: Path) -> None:
    """Measure loading a run and every format `bench report` writes by default, after the libraries are there."""
    import pandas  # noqa: F401
    import scipy.special  # noqa: F401

    from bench import report
    from bench.results.runs import load

    wall, cpu = time.perf_counter(), time.process_time()
    loaded = load(run)
    loading = time.process_time() - cpu
    written = report.write(loaded, run)
    found = {
        "rows": len(loaded.rows), "load": loading, "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu, "page": written["html"].stat().st_size / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
