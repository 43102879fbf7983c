"""What a clip on Ray costs the driver: processor time and memory, by the difference of two runs.

Run alone: `python -m pytest -m performance -s tests/performance/test_ray_driver.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.performance


def test_the_driver_on_ray(tmp_path: Path) -> None:
    script = Path(__file__).with_name("ray_driver.py")
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "100", "600"], capture_output=True, text=True, timeout=400
    )
    assert run.returncode == 0, run.stderr
    print(f"\n{run.stdout}")
