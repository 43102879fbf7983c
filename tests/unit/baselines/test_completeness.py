"""Every field a user needs, for every system of tiers 1 and 2; equal to what was read in the repositories."""

import ast
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from bench.core.resources import data_folder
from bench.systems import contract as contracts

ROOT = data_folder("baselines")
TIERS_1_AND_2 = {
    name: contract
    for name, path in contracts.contract_paths((ROOT,)).items()
    if (contract := contracts.load(path)).tier in (1, 2)
}
SHARED = Path(os.environ.get("BENCH_SHARED") or Path(__file__).parents[4] / "shared")
SPECS = SHARED / "specs" / "baselines.yaml"
specs_needed = pytest.mark.skipif(
    not SPECS.is_file(), reason="the systems as read in their repositories are not here"
)

# Where a command differs from the one that was read, and why; everything else must be word for word the same.
RENAMED = {"{static_video_of_reference}": "{static_video}", "--master_port 12345": "--master_port {port}"}
CHECKPOINTS = {"dagan", "face-vid2vid", "fomm"}  # take any path; ours is the first weight's
DROPPED = {"fomm": " --audio"}  # copies no track, see its traps
CLOSED = {("actalker-release", "visual"), ("edtalk", "visual")}  # handed silence, the gate being closed
FRAMES = {"pd-fgc"}  # the driving frames come straight from the host
LENGTHENED = {  # a copy with something behind it, because the program makes fewer frames than it is given
    ("controltalk", "audio"): "{driving_audio}",
    ("controltalk", "audio+visual"): "{driving_audio}",
    ("edtalk", "visual"): "{driving_video}",
    ("edtalk", "audio+visual"): "{driving_video}",
}
MISREAD = {"x-portrait": ("--out_frames -1", "--out_frames 0")}  # which leaves the last frame out


@pytest.fixture(scope="session")
def read():
    """The systems as read, by the names their contracts have."""
    import yaml

    systems = yaml.load(SPECS.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))[
        "systems"
    ]
    own = {"actalker": "actalker-release"}
    return {own.get(s["name"], s["name"].replace("_", "-")): s for s in systems}


def test_there_are_thirty_eight():
    assert len(TIERS_1_AND_2) == 38


@pytest.mark.parametrize("name", sorted(TIERS_1_AND_2))
def test_fields_are_filled_in(name):
    contract = TIERS_1_AND_2[name]
    assert contract.source.repository and contract.source.licence
    env = contract.environment
    assert env.python and (env.packages or env.setup) and env.hopper
    assert contract.gates and contract.output.glob and contract.output.size
    assert contract.weights and contract.verified_flags and contract.traps and contract.inputs.notes
    assert contract.run.timeout > 0 and contract.run.seconds_per_frame > 0
    for weight in contract.weights:
        assert weight.name and weight.path and weight.source
        assert weight.hub or weight.steps or "link" in weight.source or "Hugging Face" in weight.source, weight
    assert re.search(r"\b(run|ran|rehearsed)\b", contract.verification, re.I), "says whether it was tried"
    if "rehearsal.toml" in contract.verification:
        assert (ROOT / name / "rehearsal.toml").is_file()


@specs_needed
def test_no_system_is_missing(read):
    wanted = {name for name, system in read.items() if system["tier"] in (1, 2)}
    assert wanted == set(TIERS_1_AND_2)
    with_command = {n for n, s in read.items() if s["tier"] == 3 and s.get("command")}
    assert with_command - {"letstalk"} <= set(contracts.contract_paths((ROOT,)))


@specs_needed
@pytest.mark.parametrize("name", sorted(TIERS_1_AND_2))
def test_identity_and_flags_are_those_that_were_read(name, read):
    ours, theirs = TIERS_1_AND_2[name], read[name]
    assert ours.source.repository == theirs["repo"]
    assert ours.source.commit == (theirs["commit"] or "")
    assert ours.source.licence == (theirs["license"] or "not stated")
    assert ours.tier == theirs["tier"]
    assert sorted(ours.verified_flags) == sorted(theirs["verified_flags"])
    assert ours.environment.torch == (theirs["env"].get("torch") or "")
    if theirs.get("gpu"):
        assert ours.run.gpu
    if theirs.get("runtime_downloads"):
        assert ours.run.network
    if theirs.get("serial_only") and "safe when" not in theirs["serial_only"]:
        private = ours.run.serial or ours.run.empty_folders or ours.run.own_folders
        assert private or "in cwd" in theirs["serial_only"] or "port" in theirs["serial_only"]


@specs_needed
@pytest.mark.parametrize("name", sorted(TIERS_1_AND_2))
def test_commands_and_outputs_are_those_that_were_read(name, read):
    ours, theirs = TIERS_1_AND_2[name], read[name]
    for gate, command in theirs["command"].items():
        gate = gate.replace("_", "+")
        for old, new in RENAMED.items():
            command = command.replace(old, new)
        if name in CHECKPOINTS:
            command = command.replace("{checkpoint}", ours.weights[0].path)
        if name in DROPPED:
            command = command.replace(DROPPED[name], "")
        if (name, gate) in CLOSED:
            command = command.replace("{driving_audio}", "{silence}")
        if name in FRAMES:
            command = command.replace("{work_dir}/frames", "{driving_frames}")
        command = command.replace(*MISREAD.get(name, ("", "")))
        used = ours.gates[gate].command
        for option, value in ours.options.items():
            used = used.replace(f"{{{option}}}", str(value.default))
        if (name, gate) in LENGTHENED:
            used = re.sub(r"{work_dir}/(audio\.wav|expression\.mp4)", LENGTHENED[name, gate], used)
        assert shlex.split(used) == shlex.split(command)
    pattern = re.sub(r" \(.*", "", theirs["output_glob"])
    assert pattern in ours.output.glob
    native = re.match(r"[\d.]+", str(theirs["fps"]))
    if native and ours.output.fps and name != "actalker-release":  # whose contract switches frame doubling on
        assert ours.output.fps == float(native[0])
    crop = re.search(r"crop=(\d+):(\d+):(\d+):(\d+)", " ".join(theirs["post"] or ()))
    if crop:
        w, h, x, y = map(int, crop.groups())
        assert ours.output.crop == (x, y, w, h)
    if "iw/" in " ".join(theirs["post"] or ()):
        assert ours.output.panel is not None


@specs_needed
@pytest.mark.parametrize("name", sorted(TIERS_1_AND_2))
def test_seeds_are_declared_as_they_work(name, read):
    seed, kind = read[name]["seed"], TIERS_1_AND_2[name].seed.kind
    effective = seed["effective"]
    if effective is True:
        assert kind == "settable"
    elif effective is False:
        assert kind == "random"
    elif "deterministic" in str(effective):
        assert kind == "deterministic"
    else:  # in words
        assert kind in ("settable", "partial", "fixed", "random")


@pytest.mark.parametrize(
    "script", sorted(p for p in ROOT.glob("*/*.py")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_scripts_of_ours_run_in_old_environments(script):
    # They are started by the system's interpreter: Python 3.8, and nothing of ours can be imported there.
    tree = ast.parse(script.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.split(".")[0] in ("bench", "actalker") for name in names)
    if script.name == "runner.py":
        entry = {"inference"}  # of the system's own repository
        assert {name.split(".")[0] for name in names} - entry <= set(sys.stdlib_module_names)
