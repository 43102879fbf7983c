"""The wheel has what the checkout has, and no top-level package that would shadow another project's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from the files that a checkout would hold."""
    pytest.importorskip("setuptools", minversion="80")
    pytest.importorskip("setuptools_scm")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in filter(None, (t.decode() for t in tracked)):
        if not name.startswith(("tests/", "docs/images/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_top_level_is_ours_alone(names: set[str]) -> None:
    top = {n.split("/")[0] for n in names}
    assert {t for t in top if not t.endswith(".dist-info")} == {"bench", "actalker"}


@pytest.mark.parametrize(
    "name",
    [
        "bench/weights/weights.lock",
        "bench/synthetic/weights/synthetic_sync.safetensors",
        "bench/py.typed",
        "actalker/py.typed",
        "bench/_data/datasets/ravdess/dataset.toml",
        "bench/_data/baselines/sadtalker/baseline.toml",
        "bench/_data/reports/recipes/full.toml",
        "bench/_data/reports/templates/report.html",
        "bench/_data/reports/published/actalker.csv",
        "bench/_data/docs/methods.md",
        "bench/_data/docs/ci/your-method.yml",
    ],
)
def test_data_is_inside(name: str, names: set[str]) -> None:
    assert name in names


def test_the_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    command = (
        "run --split synthetic --subset 1 --methods ground-truth,frozen --metrics psnr,sync --executor inline"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r});"
        f"import bench; assert bench.__file__.startswith({str(site)!r});"
        f"from bench.cli import invoke; sys.exit(invoke({command.split()!r}))"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "ground-truth" in ran.stdout
    assert str(ROOT) not in ran.stdout
