"""What the host adds to a system's processes: repairs of libraries, and watching in a rehearsal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bench.systems.contract import Contract

INSIDE = Path(__file__).with_name("inside")


def with_patches(env: Mapping[str, str], patches: Iterable[str], trace: Path | None = None) -> dict[str, str]:
    """Return the variables of a contract together with those that load its patches.

    Args:
        env: what the contract sets.
        patches: by name.
        trace: file to which its processes write what they open and whom they try to reach.
    """
    added = {"BENCH_PATCHES": ",".join(patches), "BENCH_TRACE": str(trace or "")}
    added = {key: value for key, value in added.items() if value}
    if not added:
        return dict(env)
    path = [str(INSIDE), *([env["PYTHONPATH"]] if env.get("PYTHONPATH") else [])]
    return {**env, **added, "PYTHONPATH": os.pathsep.join(path)}


def has_gpu() -> bool:
    """Whether this process may use a GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def rehearsed_form(contract: Contract) -> Contract:
    """Return a contract as `[rehearsal]` wants it run: cheaper settings, and the patches of its environment."""
    trial = contract.rehearsal
    if trial is None:
        return contract
    gates = {}
    for name, gate in contract.gates.items():
        command, prepare = gate.command, list(gate.prepare)
        for old, new in trial.replace.items():
            command, prepare = command.replace(old, new), [line.replace(old, new) for line in prepare]
        config = gate.config
        if config is not None:
            config = replace(config, set={**config.set, **trial.config})
        gates[name] = replace(gate, command=command, prepare=tuple(prepare), config=config)
    today = dict.fromkeys(trial.patches, "the rehearsal's environment")
    return replace(contract, gates=gates, patches={**today, **contract.patches})
