"""The rules that keep the rooms apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

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


# From the command line down to the ground floor; every import points to the same room or to one further right.
ROOMS = (
    "cli", "run", "jobs", "execute", "data", "catalogue", "systems", "methods", "report", "synthetic", "metrics",
    "media", "weights", "results", "store", "core",
)  # fmt: skip


def graph() -> dict[str, set[str]]:
    """Return which modules of bench each of them imports, functions' own imports included."""
    found: dict[str, set[str]] = {}
    for module, path in SOURCES.items():
        if module.startswith("bench."):
            named = {n for n in imports(path) if n in SOURCES and n.startswith("bench.")}
            # `from package import module` depends on the module; its package's `__init__` imports nothing back.
            found[module] = {n for n in named if not any(m.startswith(f"{n}.") for m in named)}
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_module_of_the_harness_is_in_a_room() -> None:
    assert {p.stem for p in (ROOT / "bench").glob("*.py")} == {"__init__", "__main__", "catalogue"}
    assert {p.parent.name for p in (ROOT / "bench").glob("*/__init__.py")} | {"catalogue"} == set(ROOMS)


def test_imports_only_run_down() -> None:
    climbing = [
        f"{module} -> {other}"
        for module, others in graph().items()
        if room(module) != "__main__"
        for other in sorted(others)
        if ROOMS.index(room(other)) < ROOMS.index(room(module))
    ]
    assert climbing == []


def test_no_imports_go_round() -> None:
    TopologicalSorter(graph()).prepare()  # raises CycleError with the modules of a circle


def test_executors_find_the_code_of_a_job_by_its_name() -> None:
    for module, others in graph().items():
        if room(module) == "execute":
            assert {room(n) for n in others} <= {"execute", "store", "core"}, module


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
        # What is inside runs in other systems' environments.
        elsewhere = module.startswith(("bench.media", "bench.systems.inside")) or module == "bench.run.doctor"
        if module.startswith("bench") and not elsewhere:
            assert not {n for n in imports(path) if n.split(".")[0] == "av"}, module


def test_modules_can_be_read_in_one_sitting() -> None:
    long = {m: n for m, p in SOURCES.items() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 500}
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
    assert (
        loaded_after("import bench.core.spec, bench.core.keys, bench.core.registry, bench.store.home\nprint()")
        == set()
    )
