"""The rules that keep the rooms apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("bench", "actalker")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(names: set[str]) -> set[str]:
    return {n for n in names if n.split(".")[0] in ("bench", "actalker")}


@pytest.mark.parametrize("module", ["bench.spec", "bench.keys", "bench.registry", "bench.errors"])
def test_the_foundation_imports_nothing_of_ours(module: str) -> None:
    assert ours(imports(SOURCES[module])) == set()


def test_execution_knows_no_metric_and_no_method_by_name() -> None:
    allowed = {"bench.metrics.base", "bench.metrics.sets", "bench.methods.base"}
    for module, path in SOURCES.items():
        if module.startswith("bench.execute"):
            named = {n for n in imports(path) if n.startswith(("bench.metrics.", "bench.methods."))}
            assert not {n for n in named if not any(n == a or n.startswith(a + ".") for a in allowed)}, module


def test_nothing_imports_the_command_line() -> None:
    for module, path in SOURCES.items():
        if not module.startswith("bench.cli") and module != "bench.__main__":
            assert not {n for n in imports(path) if n.startswith("bench.cli")}, module


def test_actalker_knows_nothing_of_bench() -> None:
    for module, path in SOURCES.items():
        if module.startswith("actalker"):
            assert not {n for n in imports(path) if n.split(".")[0] == "bench"}, module


def test_bench_meets_actalker_only_where_it_is_adapted() -> None:
    """Methods run the model, and the synthetic world feeds its trainer."""
    allowed = ("bench.methods.", "bench.synthetic.actalker_")
    for module, path in SOURCES.items():
        if module.startswith("bench") and any(n.split(".")[0] == "actalker" for n in imports(path)):
            assert module.startswith(allowed), module


def test_only_media_touches_the_codec_library() -> None:
    for module, path in SOURCES.items():
        if module.startswith("bench") and not module.startswith("bench.media") and module != "bench.diagnosis":
            assert not {n for n in imports(path) if n.split(".")[0] == "av"}, module


def test_modules_can_be_read_in_one_sitting() -> None:
    long = {m: n for m, p in SOURCES.items() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 600}
    assert long == {}
    assert not [m for m in SOURCES if m.rpartition(".")[2] in ("utils", "helpers", "misc", "common")]


HEAVY = ("torch", "ray", "pandas", "numpy", "diffusers", "scipy", "av", "skimage", "mediapipe", "matplotlib")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy() -> None:
    assert (
        loaded_after("from bench.cli import invoke\ninvoke(['--help'])\ninvoke(['run', '--help'])\nprint()")
        == set()
    )


def test_listing_metrics_loads_no_deep_learning_framework() -> None:
    heavy = loaded_after("from bench.cli import invoke\ninvoke(['list', 'metrics'])\nprint()")
    assert not heavy & {"torch", "ray", "pandas", "diffusers", "mediapipe"}


def test_importing_the_foundation_loads_nothing_heavy() -> None:
    assert loaded_after("import bench.spec, bench.keys, bench.registry, bench.store.home\nprint()") == set()
