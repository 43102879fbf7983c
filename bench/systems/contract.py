"""The contract of an outside system: what it needs, how it is called, and what its output really is.

A contract is `baselines/<name>/baseline.toml`. It is data: adding one changes no code. `docs/baselines.md`
describes every field; the dataclasses below are the schema.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench.core.declaration import read
from bench.core.errors import UsageError, did_you_mean
from bench.core.resources import data_folder
from bench.core.spec import Option
from bench.systems.inside.bench_patches import PATCHES
from bench.systems.placeholders import (
    AUDIO_ONLY,
    PLACEHOLDERS,
    SHARED,
    VISUAL_ONLY,
    check_placeholders,
    placeholders,
    strings,
)
from bench.systems.trial import Trial

FILE = "baseline.toml"

Status = Literal["runnable", "pregenerated", "published"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the code is.

    Attributes:
        repository: git URL; empty when no code is public.
        commit: full commit the contract was read at.
        date: of that commit, ISO.
        licence: of the code, and of the weights where it differs.
    """

    repository: str = ""
    commit: str = ""
    date: str = ""
    licence: str = "not stated"


@dataclass(frozen=True, slots=True)
class Environment:
    """How the system's own environment is made; never the user's.

    Attributes:
        python, cuda: what it is made with: the authors' choice, ours where they leave one.
        torch: as stated by its authors, in words.
        manager: `venv` (uv if present) or `conda`; `bench prepare --env` overrides, also with `docker`.
        packages: torch and its companions, installed first, for the build `cuda` names.
        setup: shell lines run once, after that, in the checkout with the environment active.
        prefetch: shell lines run once, with network, so that runs need none.
        tools: programs that must be on PATH, e.g. ffmpeg.
        needs: packages known to matter, with the versions the authors used.
        image: base image for `docker`.
        pass_env: names of the user's variables that setup needs besides those every system gets.
        hopper: whether the pinned stack runs on compute capability 9.0.
    """

    python: str = ""
    torch: str = ""
    cuda: str = ""
    manager: Literal["venv", "conda"] = "venv"
    packages: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    prefetch: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    image: str = ""
    hopper: str = ""
    pass_env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight file or folder the system loads.

    Attributes:
        name: what it is.
        path: file or folder inside the checkout; the system is not ready before it exists.
        source: where it comes from, in words or as a URL.
        hub: repository on the Hugging Face hub; `bench prepare` downloads it to `path`, or to the folder of
            `path` when that is the one file wanted.
        files: patterns of the files wanted from `hub`; empty is all.
        size, sha256: bytes and digest of a single file, when known.
        licence: when it differs from the code's.
        steps: what a person has to do by hand (forms, clicks, mails).
    """

    name: str
    path: str
    source: str
    hub: str = ""
    files: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""
    licence: str = ""
    steps: str = ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """How the private copies are made.

    Attributes:
        image_format: `png` or `jpg`.
        size: side in pixels of the square the picture and the driving video are resized to; 0 leaves them.
        min_seconds: shorter driving input is extended (silence, last frame) and the result cut back.
        max_seconds: longer samples are refused before the system is started; 0 is no limit.
        not_multiple_of: the driving input is extended by 0.2 s when its length is a multiple of this; 0 off.
        notes: what the authors expect of portrait, audio and video.
    """

    image_format: Literal["png", "jpg"] = "png"
    size: int = 0
    min_seconds: float = 0.0
    max_seconds: float = 0.0
    not_multiple_of: float = 0.0
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file rendered per sample.

    Attributes:
        base: file in the checkout to start from; empty starts from nothing.
        format: `yaml` or `json`.
        set: values that replace the base's at its top level; strings and keys may hold placeholders, and a
            string that is one placeholder keeps its type (`"{seed}"` becomes an integer).
        each: the same, written once for every sample of a batch; the keys differ by `{index}`.
    """

    base: str = ""
    format: Literal["yaml", "json"] = "yaml"
    set: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateCommand:
    """How one gate is run.

    Attributes:
        command: one command line, split like a shell would but never given to a shell.
        prepare: command lines run before it, same rules.
        support: `partial` when the gate is only approximated; `note` says how.
        config: file behind `{config}`.
        stage: private input copies by destination in the working folder, for systems with fixed names.
        extra: files a person supplies per sample in `<home>/methods/<name>/extra/<id>/`, copied to `{work_dir}`.
        crop: of this gate's file, in place of `output.crop`: programs put their panels in different orders.
    """

    command: str
    prepare: tuple[str, ...] = ()
    support: Literal["full", "partial"] = "full"
    note: str = ""
    config: Config | None = None
    stage: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    crop: tuple[int, ...] = ()

    def said(self) -> dict[str, Any]:
        """Return what is said, for digests: a key that came later is left out where it is not used."""
        said = asdict(self)
        if not self.crop:
            del said["crop"]
        return said


@dataclass(frozen=True, slots=True)
class Panel:
    """The result is one of several equal columns glued side by side.

    Attributes:
        columns: how many.
        index: which one to keep, from 0.
    """

    columns: int
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.columns:
            raise ValueError(f"index must lie in 0..{self.columns - 1}, not {self.index}")


@dataclass(frozen=True, slots=True)
class Output:
    """Where the result is and what has to happen before it may be scored.

    Attributes:
        glob: patterns tried in order, absolute or relative to the working folder; exactly one file must match.
        exclude: file-name patterns of by-products.
        fps: native frame rate; 0 when it follows the driving video.
        retime: `timestamps`: trust the file's clock. `frames`: frame i belongs to time i / `rate`, whatever
            the file says.
        rate: see `retime`.
        panel: keep one column.
        crop: x, y, width, height in pixels, of a frame that must measure `frame_size`.
        frame_size: width, height the crop belongs to.
        starts_at: seconds of the clip that are missing at the start of the file; the first frame is held.
        drop_start, drop_end: seconds of logo or padding to remove at either end.
        hold: a result shorter than the clip by at most this many seconds is completed by its last frame;
            anything shorter is an error.
        audio: what the file's sound is; the driving audio is muxed in any case.
        size: native size, in words.
        notes: anything else about the file.
    """

    glob: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    fps: float = 25.0
    retime: Literal["timestamps", "frames"] = "timestamps"
    rate: float = 25.0
    panel: Panel | None = None
    crop: tuple[int, ...] = ()
    frame_size: tuple[int, ...] = ()
    starts_at: float = 0.0
    drop_start: float = 0.0
    drop_end: float = 0.0
    hold: float = 0.12
    audio: Literal["muxed", "copied", "none", "unknown"] = "muxed"
    size: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if self.crop and (len(self.crop) != 4 or len(self.frame_size) != 2):
            raise ValueError("crop takes [x, y, width, height] and needs frame_size = [width, height]")
        if self.crop and self.panel:
            raise ValueError("give panel or crop, not both")


@dataclass(frozen=True, slots=True)
class Batch:
    """The system makes several clips in one start, listed in its configuration (`config.each`), and none of them
    depends on what is made before it in the same process: a clip's key knows nothing of its neighbours.

    Attributes:
        size: clips per start at most.
        glob: patterns that find one sample's file among those of the others, relative as in `Output.glob`. Input
            files carry `{sample_id}` in their names here. A sample whose file is not found is made alone.
    """

    size: int
    glob: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seed:
    """Whether the seed decides the result.

    Attributes:
        kind: `settable`; `partial` (some draws stay free); `fixed` (always the authors' value); `random`
            (draws differ from run to run and cannot be fixed); `deterministic` (nothing is drawn).
        note: flag or place.
    """

    kind: Literal["settable", "partial", "fixed", "random", "deterministic"] = "random"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Limits and isolation of one run.

    Attributes:
        cwd: working folder inside the checkout.
        timeout: seconds before a run is stopped and called hung, plus `seconds_per_frame` x 4 per frame.
        seconds_per_frame: rough cost, for ordering only.
        gpus: GPUs per run.
        gpu_memory_gb: what the authors or users report; 0 unknown.
        gpu: their words.
        serial: one run at a time per checkout, enforced by a lock.
        empty_folders: folders of the checkout that every run gets empty and private.
        own_folders: folders that every run gets private, with the checkout's sub-folders linked in.
        env: environment variables; values may hold placeholders.
        pass_env: names of the user's variables a run needs besides those every system gets, see docs.
        exit_code: what its exit status is worth; recorded for readers, never trusted.
        network: what it fetches at run time unless prefetched.
        runner: script in the contract folder that keeps the model loaded (JSON lines, see docs).
        without_gpu: words added to the command on a machine without a GPU; empty if it finds out by itself, or
            cannot run there.
    """

    cwd: str = ""
    timeout: float = 1800.0
    seconds_per_frame: float = 1.0
    gpus: float = 1.0
    gpu_memory_gb: float = 0.0
    gpu: str = ""
    serial: bool = False
    empty_folders: tuple[str, ...] = ()
    own_folders: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    exit_code: str = ""
    network: str = ""
    runner: str = ""
    without_gpu: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trap:
    """Something that goes wrong without being noticed.

    Attributes:
        what: the behaviour.
        workaround: what this contract or the host does about it; empty when a person must know it.
    """

    what: str
    workaround: str = ""


@dataclass(frozen=True, slots=True)
class Contract:
    """One outside system.

    Attributes:
        name: folder name and method name.
        title: of the paper.
        status: `runnable`; `pregenerated` (there is code, but a folder of videos is all that can be scored);
            `published` (no code either).
        tier: 1 one-shot portrait system, 2 dubbing, heavy or legacy, 3 duplicate or in-domain only.
        summary: one line.
        reason: why it is not runnable.
        verification: what was checked against the system and what was not.
        unsupported: gates it lacks although its paper or README mentions them, with the reason.
        patches: repairs that the host applies to libraries, by name (`bench.systems.inside.bench_patches`), with
            the place that needs each.
        rehearsal: how it is rehearsed.
        issues: reports of users that matter here.
        verified_flags: flags read in the entry scripts of `source.commit`; commands use no others.
        options: what a user may set, each with the authors' value as its default. Commands and configurations
            hold it as the placeholder of its name.
        folder: where the contract was read from; set by `load`.
    """

    name: str
    title: str
    status: Status
    tier: int = 1
    summary: str = ""
    reason: str = ""
    verification: str = "not run"
    source: Source = Source()
    environment: Environment = Environment()
    weights: tuple[Weight, ...] = ()
    inputs: Inputs = Inputs()
    gates: Mapping[str, GateCommand] = field(default_factory=dict)
    output: Output = Output()
    batch: Batch | None = None
    seed: Seed = Seed()
    run: Run = Run()
    traps: tuple[Trap, ...] = ()
    patches: Mapping[str, str] = field(default_factory=dict)
    rehearsal: Trial | None = None
    unsupported: Mapping[str, str] = field(default_factory=dict)
    issues: tuple[str, ...] = ()
    verified_flags: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    folder: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise ValueError(f"name must be lower-case letters, digits and '-', not {self.name!r}")
        if self.status == "runnable" and (not self.gates or not self.output.glob):
            raise ValueError("a runnable system needs at least one [gates.<name>] with a command, and output.glob")
        if self.status != "runnable" and not self.reason:
            raise ValueError(f"status '{self.status}' needs a reason")
        for name, option in self.options.items():
            if name in PLACEHOLDERS or not name.isidentifier():
                raise ValueError(f"options: '{name}' cannot name one: it is a placeholder already, or no word")
            if option.default is None:
                raise ValueError(f"options: {name} needs a default")
        for gate, commands in self.gates.items():
            _check_gate(gate, commands, self.options)
            self.output_of(gate)
        for patch in (*self.patches, *(self.rehearsal.patches if self.rehearsal else ())):
            if patch not in PATCHES:
                raise ValueError(f"patches: there is no '{patch}'.{did_you_mean(patch, list(PATCHES))}")
        for pattern in (*self.output.glob, *(self.batch.glob if self.batch else ())):
            check_placeholders(f"output.glob {pattern!r}", pattern, PLACEHOLDERS)
        if self.batch is not None:
            _check_batch(self)

    def output_of(self, gate: str) -> Output:
        """Return what is said of a gate's file."""
        crop = self.gates[gate].crop if gate in self.gates else ()
        return replace(self.output, crop=crop) if crop else self.output


def _check_batch(contract: Contract) -> None:
    assert contract.batch is not None
    if contract.seed.kind not in ("deterministic", "random"):
        raise ValueError(f"batch: with a '{contract.seed.kind}' seed a clip would depend on those made before it")
    if contract.batch.size < 2 or not all("{sample_id}" in pattern for pattern in contract.batch.glob):
        raise ValueError("batch needs a size of 2 or more, and {sample_id} in every pattern of batch.glob")
    for gate, commands in contract.gates.items():
        if not (commands.config and commands.config.each) or commands.stage or commands.prepare:
            raise ValueError(f"batch: gates.{gate} needs config.each, and can have neither stage nor prepare")
        if own := set(placeholders(commands.command)) - SHARED - set(contract.options):
            raise ValueError(f"batch: gates.{gate}: {{{min(own)}}} is one sample's; put it into config.each")


def _check_gate(gate: str, commands: GateCommand, options: Mapping[str, Option]) -> None:
    if gate not in ("audio", "visual", "audio+visual"):
        raise ValueError(f"gates.{gate}: a gate is 'audio', 'visual' or 'audio+visual'")
    closed = (AUDIO_ONLY if "audio" not in gate else set()) | (VISUAL_ONLY if "visual" not in gate else set())
    allowed = {k: v for k, v in PLACEHOLDERS.items() if k not in closed}
    allowed |= {name: option.summary for name, option in options.items()}
    if commands.config is None:
        allowed.pop("config")
    texts = [commands.command, *commands.prepare, *commands.stage.values(), *commands.stage]
    texts += [*strings(commands.config.set), *strings(commands.config.each)] if commands.config else []
    for text in texts:
        check_placeholders(f"gates.{gate}", text, allowed)
    for line in (commands.command, *commands.prepare):
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ValueError(f"gates.{gate}: {line!r} is not a command line: {error}") from None
        if not words or any(word in ("&&", ";", "|", ">", "cd") for word in words):
            raise ValueError(f"gates.{gate}: {line!r} needs a shell; use run.cwd, prepare or a script instead")


def load(path: Path) -> Contract:
    """Read one contract.

    Args:
        path: `baseline.toml`, or its folder.

    Raises:
        UsageError: the file breaks the schema; names file, line and field.
    """
    file = path / FILE if path.is_dir() else path
    contract = read(file, Contract)
    if contract.name != file.parent.name:
        raise UsageError(f"{file}: name = '{contract.name}' but the folder is called '{file.parent.name}'.")
    object.__setattr__(contract, "folder", str(file.parent.resolve()))
    return contract


def contract_paths(roots: tuple[Path, ...] | None = None) -> dict[str, Path]:
    """Return the folders that hold a contract, by name.

    Args:
        roots: where to look; None is the project's own folder, then those listed in `$BENCH_BASELINES`
            (separated like PATH). A later one wins.
    """
    if roots is None:
        listed = [Path(p).expanduser() for p in os.environ.get("BENCH_BASELINES", "").split(os.pathsep) if p]
        roots = (data_folder("baselines"), *listed)
    return {file.parent.name: file.parent for root in roots for file in sorted(root.glob(f"*/{FILE}"))}


def find(name: str) -> Contract:
    """Return the contract called `name`, or the one in the folder `name`.

    Raises:
        UsageError: there is none.
    """
    known = contract_paths()
    if name not in known and (Path(name) / FILE).is_file():
        return load(Path(name))
    if name not in known:
        raise UsageError(
            f"There is no outside system called '{name}'.{did_you_mean(name, list(known))}",
            f"See: bench list methods. To add one: bench new method {name}",
        )
    return load(known[name])


def typed(contract: Contract) -> str:
    """Return what a user types for a contract: its name, or its folder where the name is not known."""
    known = contract_paths().get(contract.name)
    return contract.name if known is not None and str(known.resolve()) == contract.folder else contract.folder
