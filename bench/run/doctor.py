"""Checks behind `bench doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from bench.core.errors import BenchError
from bench.core.keys import package_digest
from bench.run.drive import commit
from bench.store.home import Home

CORE = ("torch", "diffusers", "numpy", "scipy", "pandas", "pyarrow", "scikit-image", "av", "ray")
_SAME = ("actalker-bench", *CORE)  # on every node of a cluster, in the same version
OPTIONAL = {
    "mediapipe": "pip install 'actalker-bench[faces]'",
    "insightface": "pip install 'actalker-bench[faces]'",
    "python_speech_features": "pip install 'actalker-bench[reference]'",
    "silero-vad": "pip install silero-vad",
    "mamba-ssm": "only on a CUDA machine: see bench show doc install",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis."""

    name: str
    state: Literal["ok", "optional", "failed"]
    detail: str


def check_machine(home: Home) -> list[Check]:
    """Look at this machine."""
    checks = [Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")]
    checks += [_package(name) for name in CORE]
    checks += [_optional(name, command) for name, command in OPTIONAL.items()]
    checks += [_codecs(), _gpu(), _disk(home), _weights()]
    if not home.storage.near:  # it answered, and took a conditional write, or there were no home
        checks.append(Check("store", "ok", f"{home.address}, read through {home.path}"))
    return checks


def check_real() -> list[Check]:
    """Look at what metrics and default methods need on real videos; details end with the command to type."""
    from bench.catalogue import find_method, metrics, plain_protocols, unavailable
    from bench.core import registry
    from bench.run.setup import lacking

    checks = []
    for name in plain_protocols():
        metric = metrics()[name]
        if "real" in metric.spec.domains:
            missing = unavailable(metric)
            checks.append(Check(name, "optional" if missing else "ok", missing.detail if missing else "ready"))
    for name in registry.METHODS:
        entry = find_method(name)
        if entry.spec.default and "real" in entry.spec.domains:
            needs = lacking(entry, "real")
            checks.append(Check(name, "optional" if needs else "ok", needs or "ready"))
    return checks


def check_cluster(address: str, home: Home) -> list[Check]:
    """Run a probe on every node of a Ray cluster: shared folder, equal versions, GPU and free space.

    Raises:
        MissingError: the cluster cannot be reached.
    """
    from bench.execute.ray_session import connected

    with connected(address) as ray, home.witness() as probe:
        here = node_report(home.address, probe)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked = [_ask(ray, node, home.address, probe) for node in nodes]  # all at once
        answered = set(ray.wait(asked, num_returns=len(asked), timeout=60)[0])
        return [
            _node(ray, node, answer if answer in answered else None, home, here)
            for node, answer in zip(nodes, asked, strict=True)
        ]


def _ask(ray: Any, node: dict[str, Any], home: str, probe: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return (
        ray.remote(node_report).options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(home, probe)
    )


def _node(ray: Any, node: dict[str, Any], answer: Any, home: Home, here: dict[str, Any]) -> Check:
    name = f"node {node['NodeManagerHostname']}"
    if answer is None:
        return Check(name, "failed", "did not answer within 60 s: it is busy, or cannot be reached")
    try:
        report = ray.get(answer)
    except ray.exceptions.RayError as error:
        return Check(name, "failed", f"cannot run our code: {str(error).strip().splitlines()[-1]}")
    if report["problem"]:
        return Check(name, "failed", report["problem"])
    if not report["sees"]:
        return Check(name, "failed", f"does not see {home.address}; use a shared folder, or a bucket, with --home")
    there, ours = report["versions"], here["versions"]
    differing = [
        f"{package} {there.get(package, 'missing')}, here {ours.get(package, 'missing')}"
        for package in ("python", "commit", "code", *_SAME)
        if there.get(package) != ours.get(package)
    ]
    if differing:
        return Check(name, "failed", "; ".join(differing))
    return Check(name, "ok", f"{report['gpu']}, {report['free_gb']:.0f} GB free")


def node_report(address: str, probe: str) -> dict[str, Any]:
    """Return what one node sees: whether the probe is in the home, versions, GPU and free space."""
    sees, problem, place = False, "", Path("/")
    try:
        home = Home(address)
        sees = home.sees(probe)
        place = next(folder for folder in (home.path, *home.path.parents) if folder.is_dir())
    except BenchError as error:
        problem = f"{error.message} {error.hint}"
    versions = {name: found for name in _SAME if (found := _version(name))}
    return {
        "sees": sees,
        "problem": problem,
        "versions": {
            "python": platform.python_version(),
            "commit": commit(),
            "code": package_digest()[:12],
            **versions,
        },
        "gpu": _gpu().detail,
        "free_gb": shutil.disk_usage(place).free / 1e9,
    }


def _package(name: str) -> Check:
    found = _version(name)
    return Check(name, "ok", found) if found else Check(name, "failed", "pip install -c constraints.txt -e .")


def _optional(name: str, command: str) -> Check:
    found = _version(name)
    return Check(name, "ok", found) if found else Check(name, "optional", f"not installed; {command}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _codecs() -> Check:
    try:
        import av
    except ImportError as error:
        return Check("codecs", "failed", f"PyAV cannot be loaded: {error}")
    missing = [c for c in ("libx264", "aac", "png") if c not in av.codecs_available]
    detail = f"PyAV {av.__version__} with x264 and AAC"
    return (
        Check("codecs", "failed", f"PyAV lacks {', '.join(missing)}") if missing else Check("codecs", "ok", detail)
    )


def _gpu() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("gpu", "failed", f"torch cannot be loaded: {error}")
    if not torch.cuda.is_available():
        return Check("gpu", "optional", f"none; {os.cpu_count()} CPU cores")
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return Check("gpu", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.path).free / 1e9
    return Check("disk", "ok" if free > 5 else "failed", f"{free:.0f} GB free under {home.path}")


def _weights() -> Check:
    from bench.weights import lock, verify

    found = verify(lock())
    wrong = sum(s.state == "wrong" for s in found)
    said = [
        f"{sum(s.state == 'ok' for s in part)} of {len(part)} {what}"
        for what, part in (
            ("for real faces", [s for s in found if s.weight.metrics != ("synthetic",)]),
            ("of the synthetic world", [s for s in found if s.weight.metrics == ("synthetic",)]),
        )
    ]
    said += [f"{wrong} with wrong content"] if wrong else []
    lacking = any(s.state == "missing" for s in found)
    state: Literal["ok", "optional", "failed"] = "failed" if wrong else "optional" if lacking else "ok"
    return Check("weights", state, f"{', '.join(said)}; see: bench list weights")
