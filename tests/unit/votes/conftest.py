"""A small run whose clips can be voted on."""

import shutil
from pathlib import Path

import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.results.runs import load
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.run.voting import make_study
from bench.store.home import Home


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Three methods on four samples, with PSNR and flicker."""
    root = tmp_path_factory.mktemp("vote")
    split = toys.make_split(root / "split", 4)
    methods = [find_method("ground-truth"), *(find_method(toys.target(n)) for n in ("Still", "Copy", "HalfRate"))]
    plan = plan_generation(split, methods, ["audio", "visual"])
    done = execute(
        plan, choose_metrics("real", ["psnr", "flicker/mae"]), Home(root / "home"), Execution("inline"), name="toy"
    )
    assert done.failed == 0
    return load(str(done.folder))


@pytest.fixture(scope="session")
def made(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "study"
    return make_study(run, folder, ["realism"], ties=True, wanted=12), folder


@pytest.fixture
def study(made, tmp_path):
    return made[0], Path(shutil.copytree(made[1], tmp_path / "study"))
