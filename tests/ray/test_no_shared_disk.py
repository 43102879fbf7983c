"""Two machines that share nothing but an S3 server: `bench run --home s3://...` prints the inline table.

Machines are network namespaces of this one (see namespaces.py), each with its own name, disk for its cache, and
Ray. Skipped without the right to make them, and without the server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import namespaces

from bench.results.runs import load

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(bool(namespaces.reason_not_to()), reason=namespaces.reason_not_to() or "-"),
]
METHODS, METRICS = ["ground-truth", "mouth-warp"], ["psnr", "flicker/mae"]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[namespaces.Machines]:
    made = namespaces.Machines(tmp_path_factory.mktemp("machines"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    import bench

    home = tmp_path_factory.mktemp("inline")
    made = bench.run("synthetic-ci", METHODS, METRICS, subset=2, how=bench.Execution("inline"), home=home)
    return numbers(made.rows)


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    kept = ["method", "gate", "sample", "protocol", "column", "value", "status", "reason", "detail", "clip_sha256"]
    return rows[kept].reset_index(drop=True)


def start(machines: namespaces.Machines, home: str) -> subprocess.Popen[bytes]:
    what = ("--split", "synthetic-ci", "--subset", "2", "-m", ",".join(METHODS), "--metrics", ",".join(METRICS))
    return machines.bench("run", *what, "--home", home, "--ray-address", f"{namespaces.HEAD}:6379")


def found(machines: namespaces.Machines, home: str) -> pd.DataFrame:
    folder = machines.folder / f"cache-{namespaces.HEAD}"
    return numbers(load(next(folder.glob(f"*{home.rpartition('/')[2]}*/runs/*"))).rows)


def test_two_machines_and_a_bucket_print_the_inline_table(
    machines: namespaces.Machines, inline: pd.DataFrame
) -> None:
    machines.join()
    home = f"s3://{namespaces.BUCKET}/done-when"
    assert start(machines, home).wait(timeout=240) == 0, machines.said()
    pd.testing.assert_frame_equal(found(machines, home), inline)
