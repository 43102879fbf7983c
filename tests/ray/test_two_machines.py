"""Two machines that may be lost, busy, late or different: the table is the inline table, whatever happens.

Machines are network namespaces of this one (see namespaces.py), each with its own name, disk for its cache, and
Ray. Skipped without the right to make them, and without the S3 server.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
import tests_toys as toys

sys.path.insert(0, str(Path(__file__).parent))
import namespaces
from namespaces import HEAD, OTHER, Machines, Run

from bench.core.keys import package_digest
from bench.results.runs import load

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(bool(namespaces.reason_not_to()), reason=namespaces.reason_not_to() or "-"),
]
CLIPS = ("--split", "synthetic-ci", "-m", toys.target("Noted"), "--metrics", "psnr", "--repeats", "2", "-q")
SMALL = (
    "--split",
    "synthetic-ci",
    "--subset",
    "2",
    "-m",
    "ground-truth,mouth-warp",
    "--metrics",
    "psnr,flicker/mae",
)
WHOLE = ("--split", "synthetic-ci")
LOST = 1  # clips that a machine has under way


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    made = Machines(tmp_path_factory.mktemp("machines"))
    made.serve()
    yield made
    made.close()


@pytest.fixture(scope="module")
def inline(machines: Machines) -> pd.DataFrame:
    return inline_run(machines, CLIPS)[0]


def inline_run(machines: Machines, what: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """Return rows and table of a run without a cluster."""
    take(machines, 0)
    home = machines.folder / f"inline-{len(what)}"
    run = machines.bench("run", *what, "--executor", "inline", "--home", str(home), cluster=False)
    assert run.ends(400) == 0, run.said()
    return rows(home), run.table.read_text()


def take(machines: Machines, seconds: float) -> None:
    """Say how long each clip takes from now on, and forget which were begun."""
    (machines.notes / "seconds").write_text(str(seconds))
    (machines.notes / "begun").write_text("")


def begun(machines: Machines, on: str = "") -> int:
    """Return how many clips were begun."""
    lines = (machines.notes / "begun").read_text().splitlines()
    return sum(line.startswith(machines.names[on] if on else "") for line in lines)


def start(machines: Machines, home: str, *more: str) -> Run:
    return machines.bench("run", *CLIPS, "--home", home, *more)


def bucket(name: str) -> str:
    return f"s3://{namespaces.BUCKET}/{name}"


def rows(home: Path | str, machines: Machines | None = None) -> pd.DataFrame:
    """Return the rows of a home's only run, or of a bucket's as the head has them, less what no two runs share."""
    if machines is not None:
        (home,) = machines.cache(HEAD).glob(f"*{str(home).rpartition('/')[2]}*")
    (folder,) = (Path(home) / "runs").glob("*")
    found = load(folder).rows
    return found.drop(columns=["seconds", *(c for c in found if c.endswith("_path"))]).reset_index(drop=True)


@pytest.mark.parametrize("what", [SMALL, WHOLE], ids=["small", "whole"])
def test_two_machines_and_a_bucket_print_the_inline_table(machines: Machines, what: Sequence[str]) -> None:
    machines.join()
    expected, table = inline_run(machines, what)
    home = bucket(f"done-when-{len(what)}")
    run = machines.bench("run", *what, "--home", home)
    assert run.ends(400) == 0, run.said()
    assert run.table.read_text() == table
    pd.testing.assert_frame_equal(rows(home, machines), expected, check_exact=True)


def test_a_busy_cluster_is_slow_and_nothing_fails(machines: Machines, inline: pd.DataFrame) -> None:
    machines.join()
    held = machines.notes / "held"
    held.write_text("no")
    hold = f"""
import pathlib, ray, time
ray.init(address="{HEAD}:6379")
class Holds:
    def __init__(self): pass
    def hello(self): pass
actor = ray.remote(Holds).options(num_cpus=1, scheduling_strategy="SPREAD")
actors = [actor.remote() for _ in range(2)]
ray.get([a.hello.remote() for a in actors])
held = pathlib.Path("{held}")
held.write_text("yes")
while held.exists():
    time.sleep(0.2)
"""
    machines.start(HEAD, [sys.executable, "-c", hold])
    namespaces.wait(lambda: held.read_text() == "yes", 90, machines.said)
    take(machines, 0)
    run = start(machines, str(machines.folder / "busy"), "--job-limit", "5")
    time.sleep(45)  # longer than the limit, and what is added to it before a worker is stopped
    assert run.process.poll() is None and begun(machines) == 0
    held.unlink()
    assert run.ends() == 0, run.said()
    assert "took longer" not in run.said()
    pd.testing.assert_frame_equal(rows(machines.folder / "busy"), inline, check_exact=True)


def test_a_machine_that_does_not_see_the_home_is_set_aside(machines: Machines, inline: pd.DataFrame) -> None:
    machines.join()
    take(machines, 1)
    home = machines.cache(HEAD) / "mine"
    run = start(machines, str(home))
    assert run.ends() == 0, run.said()
    assert (
        f"node {machines.names[OTHER]} does not see {home}; --home must be a shared folder, or a bucket"
        in run.said()
    )
    assert begun(machines, OTHER) == 0
    pd.testing.assert_frame_equal(rows(home), inline, check_exact=True)


def test_a_machine_with_other_code_is_set_aside_with_both_digests(
    machines: Machines, inline: pd.DataFrame, tmp_path: Path
) -> None:
    package = namespaces.ROOT / "bench"
    other = tmp_path / "bench"
    shutil.copytree(package, other, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    with (other / "core" / "numerics.py").open("a") as file:
        file.write("# another version\n")
    machines.join({package: other})
    take(machines, 1)
    run = start(machines, bucket("code"))
    assert run.ends() == 0, run.said()
    (said,) = (line for line in run.said().splitlines() if "another version" in line)
    assert f"Node {machines.names[OTHER]} is set aside" in said
    assert f"here {package_digest()[:12]}" in said and said.count("code ") == 1
    assert begun(machines, OTHER) == 0
    pd.testing.assert_frame_equal(rows(bucket("code"), machines), inline, check_exact=True)
    doctor = machines.bench("doctor", "--cluster", f"{HEAD}:6379", "--home", bucket("code"))
    assert doctor.ends() == 4, doctor.said()
    nodes = [line for line in doctor.table.read_text().splitlines() if "node b" in line]
    assert len(nodes) == 2
    (bad,) = (line for line in nodes if machines.names[OTHER] in line)
    assert "failed" in bad and f"here {package_digest()[:12]}" in bad


def test_a_machine_killed_in_the_middle_costs_what_it_had_under_way(
    machines: Machines, inline: pd.DataFrame
) -> None:
    machines.join()
    take(machines, 3)
    run = start(machines, bucket("killed"))
    namespaces.wait(lambda: begun(machines, OTHER) >= 2, 120, machines.said)
    machines.kill(OTHER)
    assert run.ends() == 0, run.said()
    pd.testing.assert_frame_equal(rows(bucket("killed"), machines), inline, check_exact=True)
    assert begun(machines) <= 8 + LOST


def test_a_link_that_is_down_for_40_seconds(machines: Machines, inline: pd.DataFrame) -> None:
    machines.join()
    take(machines, 3)
    run = start(machines, bucket("link"))
    namespaces.wait(lambda: begun(machines, OTHER) >= 1, 120, machines.said)
    machines.plug(False)
    time.sleep(40)
    machines.plug(True)
    assert run.ends(60) == 0, run.said()
    machines.kill(OTHER)  # it was told that it is lost, and does not come back by itself
    pd.testing.assert_frame_equal(rows(bucket("link"), machines), inline, check_exact=True)
    assert begun(machines) <= 8 + LOST


def test_a_lost_head_ends_with_the_table_and_the_command_that_resumes(
    machines: Machines, inline: pd.DataFrame
) -> None:
    machines.join()
    take(machines, 15)
    run = start(machines, bucket("head"))
    namespaces.wait(lambda: begun(machines) >= 2, 120, machines.said)
    machines.kill(HEAD, only="gcs_server")
    assert run.ends(120) == 130, run.said()
    assert "The head of the Ray cluster" in run.said() and "no longer answers" in run.said()
    assert "Resume with: bench run --split synthetic-ci" in run.said()
    assert "noted" in run.table.read_text()
    there = rows(bucket("head"), machines)
    assert set(there["status"]) == {"ok", "error"} and set(there["reason"]) == {"", "not_run"}
    (machines.notes / "seconds").write_text("0")
    machines.serve()
    again = start(machines, bucket("head"))
    assert again.ends() == 0, again.said()
    pd.testing.assert_frame_equal(rows(bucket("head"), machines), inline, check_exact=True)
    assert begun(machines) <= 8 + 3 * LOST  # the head took its own machine's worker along


def test_a_cluster_without_nodes_is_waited_for(machines: Machines, inline: pd.DataFrame) -> None:
    machines.serve(cpus=0)
    take(machines, 0)
    run = start(machines, bucket("late"))
    run.until("Waiting for a node")
    assert begun(machines) == 0
    machines.join()
    assert run.ends() == 0, run.said()
    pd.testing.assert_frame_equal(rows(bucket("late"), machines), inline, check_exact=True)
