"""The host of outside systems: a method whose clips are made by another program in its own environment.

One run has a private folder with copies of the inputs, a linked copy of the repository as working folder, a
closed standard input, a wall limit and a watchdog. Success is a video that decodes and lasts as long as the
clip; an exit status is written down and believed by nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from bench.core.errors import BenchError, MissingError
from bench.core.spec import Cause, Gate, MethodSpec, Sample, Unscored, WeightRef
from bench.methods.base import GenerationFailed, Video
from bench.store.files import append_to, require_inside, staged
from bench.store.home import Home
from bench.systems.contract import Contract, Output, find
from bench.systems.environment import (
    Launch,
    Place,
    State,
    launch,
    linked_weights,
    place,
    read_state,
    require_state,
)
from bench.systems.inputs import FPS, Inputs, link_checkout
from bench.systems.outputs import NoOutput, check_output, find_output, read_output
from bench.systems.patching import INSIDE, has_gpu, rehearsed_form, with_patches
from bench.systems.process import Ended, last_lines, run
from bench.systems.record import sentence
from bench.systems.runner import Runner, RunnerFailed

_OOM = re.compile(r"out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|std::bad_alloc", re.IGNORECASE)
_BROKEN = re.compile(
    r"ModuleNotFoundError|ImportError|No module named|cannot open shared object|command not found|"
    r"no kernel image is available|LocalEntryNotFoundError|Connection refused|Network is unreachable|ProxyError|"
    r"unrecognized arguments|invalid choice"
)


class ExternalMethod:
    """Runs an outside system as a method.

    Args:
        contract: what to run.
        home: where it was prepared, see `bench prepare --methods`.
    """

    trace: Path | None = None  # set by a rehearsal, see `bench.systems.patching`

    def __init__(self, contract: Contract, home: Home | None = None) -> None:
        self.home = home or Home()
        self.place: Place = place(contract.name, self.home)
        state = read_state(self.place)
        self.contract = rehearsed_form(contract) if state is not None and state.stand_in else contract
        self._job: Path | None = None
        self._made: dict[tuple[str, ...], Path] = {}  # of the last batch, not handed out yet
        self._runner: Runner | None = None
        self._readable: tuple[Path, ...] = ()
        self.sandbox = ""  # what was closed to the last command, for records
        self.process_seconds = 0.0  # from start to exit of the processes behind the last clip, for records
        self._use_runner = bool(contract.run.runner)

    @property
    def spec(self) -> MethodSpec:
        """The harness's view; weights and commit are those found when it was prepared."""
        state = read_state(self.place)
        if state is None:
            return method_spec(self.contract)
        weights = tuple(WeightRef(path, digest) for path, digest in sorted(state.weights.items()))
        changed = state.commit if state.commit not in ("", self.contract.source.commit) else ""
        return method_spec(self.contract, weights, changed, state.stand_in)

    @property
    def code_modules(self) -> tuple[str, ...]:
        """The code that decides the clips besides the system's own: names and files for the key."""
        own = sorted(str(path) for path in Path(self.contract.folder).glob("*.py") if path.name != "runner.py")
        repairs = ("bench.systems.inside.bench_patches",) if self.contract.patches else ()
        return ("bench.systems.inputs", "bench.systems.outputs", *repairs, *own)

    def configured(self, **settings: Any) -> ExternalMethod:
        """Return this system with other values of its options."""
        options = self.contract.options
        changed = {name: replace(options[name], default=value) for name, value in settings.items()}
        return ExternalMethod(replace(self.contract, options={**options, **changed}), self.home)

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Run the system on one sample, unless the last batch made its clip.

        Raises:
            GenerationFailed: with the cause, the end of the system's own output, and the log's path.
        """
        self.process_seconds = 0.0
        made = self._made.pop(_identity(sample, gate, seed), None)
        if made is not None:
            return Video(read_output(made, self.contract.output_of(gate.name), sample.frames), float(FPS))
        state = self._state()
        self.close_job()
        job = self._job = new_job_folder(self.contract.name)
        log = self._log(f"{sample.id}-{gate.name}-{seed}")
        try:
            path = self._make(state, sample, gate, seed, job, log)
        except BaseException:
            self.close_job()
            raise
        return Video(self._frames(path, self.contract.output_of(gate.name), sample.frames, job), float(FPS))

    def make_together(self, jobs: Sequence[tuple[Sample, Gate, int]]) -> list[int]:
        """Run the system once for several samples of one gate, see `bench.methods.base.BatchMethod`."""
        contract, state = self.contract, self._state()
        assert contract.batch is not None
        self.close_job()
        folder = self._job = new_job_folder(contract.name)
        gate = jobs[0][1]
        log = self._log(f"batch-{gate.name}-{jobs[0][0].id}")
        checkout = Path(state.checkout)
        cwd = _working_folder(contract, checkout, folder)
        output = replace(contract.output_of(gate.name), glob=contract.batch.glob)
        members: dict[int, Inputs] = {}
        good: list[int] = []
        try:
            for index, (sample, _, seed) in enumerate(jobs):
                inputs = Inputs(contract, sample, gate, seed, folder, checkout, index)
                # A sample that cannot be handed out fails alone, later, with its own message.
                with contextlib.suppress(BenchError, Unscored):
                    self._supply(inputs, sample, cwd)
                    inputs.entries()
                    members[index] = inputs
            if len(members) < 2:
                return []
            leader, *_ = members.values()
            leader.batch = list(members.values())
            frames = sum(jobs[index][0].frames for index in members)
            limit = contract.run.timeout + 4 * contract.run.seconds_per_frame * frames
            with self._turn(checkout):
                self._run(state, leader, self._argv(leader), cwd, log, limit)
            for index, inputs in members.items():
                sample, _, seed = jobs[index]
                with contextlib.suppress(NoOutput):
                    path = _made_here(find_output(output, inputs, cwd), folder)
                    check_output(path, output, sample.frames)
                    self._made[_identity(sample, gate, seed)] = path
                    good.append(index)
        finally:
            if not good:
                self.close_job()
        return good

    def _state(self) -> State:
        try:
            return require_state(self.contract, self.home)
        except MissingError as error:
            raise GenerationFailed(Cause.ENVIRONMENT, error.message, error.hint) from error

    def _log(self, name: str) -> Path:
        """Return an empty log file."""
        log = self.home.logs / self.contract.name / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.log"
        append_to(log, fresh=True).close()
        return log

    def close_job(self) -> None:
        """Remove the last run's private folder, if its frames were not read to the end, or the last batch's."""
        self._made.clear()
        if self._job is not None:
            shutil.rmtree(self._job, ignore_errors=True)
            self._job = None

    def close(self) -> None:
        """End the persistent runner and remove private files."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        self.close_job()

    def __del__(self) -> None:
        # A worker drops a method to free its GPU: the runner that holds the model has to go with it.
        with contextlib.suppress(Exception):
            self.close()

    def _frames(self, path: Path, output: Output, frames: int, job: Path) -> Iterator[npt.NDArray[np.uint8]]:
        try:
            yield from read_output(path, output, frames)
        finally:
            shutil.rmtree(job, ignore_errors=True)

    def _make(self, state: State, sample: Sample, gate: Gate, seed: int, job: Path, log: Path) -> Path:
        contract = self.contract
        checkout = Path(state.checkout)
        inputs = Inputs(contract, sample, gate, seed, job, checkout)
        cwd = _working_folder(contract, checkout, job)
        self._supply(inputs, sample, cwd)
        limit = contract.run.timeout + 4 * contract.run.seconds_per_frame * sample.frames
        commands = inputs.commands
        ended = Ended(0)
        with self._turn(checkout):
            for line in commands.prepare:
                ended = self._run(state, inputs, inputs.argv(line), cwd, log, limit)
                if ended.returncode != 0:
                    self._fail(ended, log, f"its preparation step failed: {line.split('{')[0].strip()}")
            argv = self._argv(inputs)
            ended = self._talk(state, inputs, argv, cwd, log, limit) or self._run(
                state, inputs, argv, cwd, log, limit
            )
        try:
            output = contract.output_of(gate.name)
            path = _made_here(find_output(output, inputs, cwd), job)
            check_output(path, output, sample.frames)
        except NoOutput as problem:
            self._fail(ended, log, str(problem))
        return path

    def _supply(self, inputs: Inputs, sample: Sample, cwd: Path) -> None:
        """Copy the files a person supplies, and place inputs under the names a system insists on."""
        for name, what in inputs.commands.extra.items():
            source = self.place.extra / sample.id / name
            if not source.is_file():
                raise GenerationFailed(
                    Cause.INPUT, f"{self.contract.name} needs {source}, which nobody supplied: {what}."
                )
            shutil.copyfile(source, inputs.work / name)
        for target, template in inputs.commands.stage.items():
            filled = Path(inputs.fill(target))
            destination = filled if filled.is_absolute() else cwd / filled
            require_inside(destination, inputs.job)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with staged(destination) as part:
                shutil.copyfile(inputs.fill(template), part)

    def _launch(
        self, state: State, inputs: Inputs, argv: list[str], cwd: Path, job: Path, writable: Sequence[Path] = ()
    ) -> Launch:
        contract = self.contract
        if not self._readable:
            self._readable = (Path(contract.folder), INSIDE, *linked_weights(contract, Path(state.checkout)))
        env, passed = self._env(inputs), contract.run.pass_env
        if self.trace is not None:
            self.trace.touch()  # what is not there cannot be shown to a closed system
            writable = [*writable, self.trace]
        try:
            start = launch(state, self.place, argv, cwd, job, env, self._readable, passed, writable)
        except MissingError as error:
            raise GenerationFailed(Cause.ENVIRONMENT, error.message, error.hint) from error
        self.sandbox = start.sandbox
        return start

    def _run(self, state: State, inputs: Inputs, argv: list[str], cwd: Path, log: Path, limit: float) -> Ended:
        start = self._launch(state, inputs, argv, cwd, inputs.job)
        with append_to(log) as file:
            file.write(f"$ {' '.join(argv)}\n".encode(errors="surrogateescape"))
        ended = run(start.argv, cwd, start.env, log, limit, start.stop)
        self.process_seconds += ended.seconds
        return ended

    def _talk(
        self, state: State, inputs: Inputs, argv: list[str], cwd: Path, log: Path, limit: float
    ) -> Ended | None:
        """Hand the command line to the persistent runner; None when there is none or it cannot start."""
        if not self._use_runner or state.manager == "docker":
            return None
        if self._runner is None:
            script = Path(self.contract.folder) / self.contract.run.runner
            job = new_job_folder(f"{self.contract.name}-runner")
            checkout = Path(state.checkout) / self.contract.run.cwd
            # It serves later samples too, so it sees the folder all private folders are made in.
            start = self._launch(state, inputs, ["python", str(script)], checkout, job, [job.parent])
            try:
                self._runner = Runner(start.argv, checkout, start.env, job, limit)
            except RunnerFailed as error:
                self._use_runner = False
                with append_to(log) as file:
                    file.write(f"The runner did not start, one process per sample instead: {error}\n".encode())
                return None
        # The words after the program and its script are what the script would have been called with.
        ended = self._runner.do(argv[2:], cwd, log, limit)
        if not self._runner.alive:
            self._runner = None
        return ended

    def _argv(self, inputs: Inputs) -> list[str]:
        argv = inputs.argv(inputs.commands.command)
        return argv if has_gpu() else [*argv, *self.contract.run.without_gpu]

    def _env(self, inputs: Inputs) -> dict[str, str]:
        own = {key: inputs.fill(value) for key, value in self.contract.run.env.items()}
        return with_patches(own, self.contract.patches, self.trace)

    def _fail(self, ended: Ended, log: Path, problem: str) -> NoReturn:
        """Raise with the cause of a run that left no usable video."""
        tail = last_lines(log)
        how = f"exit status {ended.returncode}" if ended.returncode is not None else ended.failed
        if ended.timed_out:
            how = f"stopped after {ended.seconds:.0f} s"
        if ended.left:
            how += f", {ended.left} of its processes were still running and were killed"
        cause = self._cause(ended, tail)
        hint = f"The end of its output ({log}):\n{tail}" if tail else f"It printed nothing ({log})."
        name = self.contract.name
        message = f"{name} did not finish" if ended.timed_out else f"{name}: {problem}"
        raise GenerationFailed(cause, f"{message} ({how}).", hint)

    def _cause(self, ended: Ended, tail: str) -> Cause:
        if ended.timed_out:
            return Cause.TIMEOUT
        if ended.failed:
            return (
                Cause.ENVIRONMENT if ended.returncode is None and "watchdog" not in ended.failed else Cause.INFRA
            )
        if _OOM.search(tail) or ended.returncode == -9:
            return Cause.OOM
        if ended.returncode not in (0, None) and _BROKEN.search(tail):
            return Cause.ENVIRONMENT
        return Cause.METHOD

    @contextlib.contextmanager
    def _turn(self, checkout: Path) -> Iterator[None]:
        """Hold the checkout's lock when the contract allows one run at a time."""
        if not self.contract.run.serial:
            yield
            return
        with append_to(self.place.root / "turn.lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _working_folder(contract: Contract, checkout: Path, job: Path) -> Path:
    """Make the working folder of a run, see `bench.systems.inputs.link_checkout`.

    Raises:
        UsageError: a folder the contract names lies outside the checkout.
    """
    run = contract.run
    for name in (run.cwd, *run.own_folders, *run.empty_folders):
        require_inside(job / "cwd" / name / "file", job / "cwd")
    return link_checkout(contract, checkout, job / "cwd")


def _made_here(path: Path, job: Path) -> Path:
    """Return the path of a video if it lies in the run's private folder: no other run's, nor the ground truth."""
    if not path.resolve().is_relative_to(job.resolve()):
        raise NoOutput(f"{path.name} lies outside the run's private folder, at {path.resolve()}")
    return path


def _identity(sample: Sample, gate: Gate, seed: int) -> tuple[str, ...]:
    # Swapped samples share their id.
    return sample.id, str(sample.audio), str(sample.video), gate.name, str(seed)


def external_method(name: str) -> ExternalMethod:
    """Return the outside system called `name`, under the default home."""
    return ExternalMethod(find(name))


def method_spec(
    contract: Contract, weights: tuple[WeightRef, ...] = (), checkout: str = "", stand_in: bool = False
) -> MethodSpec:
    """Return the harness's view of a contract.

    Args:
        contract: the system.
        weights: digests recorded when it was prepared.
        checkout: the commit actually checked out, when it is not the contract's.
        stand_in: the weights are a rehearsal's.
    """
    digested = {
        key: _plain(asdict(getattr(contract, key))) for key in ("inputs", "output") if getattr(contract, key)
    }
    digested["gates"] = {name: _plain(commands.said()) for name, commands in contract.gates.items()}
    for wordy in (digested["inputs"], digested["output"], *digested["gates"].values()):
        for key in ("notes", "note", "support", "size", "audio"):
            if isinstance(wordy.get(key), str):
                wordy.pop(key)
    settings: dict[str, Any] = {
        **digested,
        "commit": checkout or contract.source.commit,
        "packages": list(contract.environment.packages),
        "setup": list(contract.environment.setup),
        "env": dict(contract.run.env),
    }
    if contract.patches:
        settings["patches"] = sorted(contract.patches)
    if contract.options:
        settings["options"] = {name: option.default for name, option in contract.options.items()}
    return MethodSpec(
        name=contract.name,
        version="1",
        gates=tuple(contract.gates) if contract.status == "runnable" or stand_in else (),
        kind="stand-in" if stand_in else "external",
        settings=settings,
        weights=weights,
        cpus=2,
        gpus=contract.run.gpus if has_gpu() or not (stand_in or contract.run.without_gpu) else 0.0,
        memory_gb=16.0,
        batch=contract.batch.size if contract.batch else 1,
        seconds_per_frame=contract.run.seconds_per_frame,
        summary=contract.summary or contract.title,
        note="stand-in weights; its numbers mean nothing" if stand_in else sentence(contract),
        seeded=contract.seed.kind in ("settable", "partial", "random"),
        options=contract.options,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def readiness(name: str, home: Home | None = None) -> str:
    """Return `ready`, or what is missing, in a few words with the command that gets it."""
    contract = find(name)
    if contract.status != "runnable":
        return f"videos only: {contract.reason.partition('.')[0]}"
    try:
        require_state(contract, home or Home())
    except BenchError as error:
        return f"{error.message.removeprefix(f'{contract.name} is ')} {error.hint}"
    return "ready"


_MARK = ".bench-job"  # in every private folder: nothing without it is ever removed


def job_root() -> Path:
    """Return the folder of private run folders, which only this user can enter.

    Plain characters only, because systems build unquoted shell commands and cut names at the first dot. A folder
    of that name that somebody else made first is passed over.

    Raises:
        GenerationFailed: no temporary folder has a plain path.
    """
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if re.fullmatch(r"[A-Za-z0-9_/-]+", candidate) and os.access(candidate, os.W_OK):
            root = Path(candidate) / f"bench-{os.getuid()}"
            with contextlib.suppress(FileExistsError):
                root.mkdir(mode=0o700)
            return root if _only_ours(root) else Path(tempfile.mkdtemp(prefix="bench-", dir=candidate))
    raise GenerationFailed(
        Cause.ENVIRONMENT,
        f"The temporary folder {tempfile.gettempdir()} has blanks or dots in its path, which outside systems"
        " cannot take.",
        "Set TMPDIR to a plain path.",
    )


def _only_ours(folder: Path) -> bool:
    """Tell whether a folder is this user's and nobody else's, and no link; close it if it is just too open."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    if found.st_mode & 0o022:
        return False  # others may have put something into it already
    folder.chmod(0o700)
    return True


def new_job_folder(name: str) -> Path:
    """Make a private folder, and remove those that dead processes left on this machine."""
    root = job_root()
    for old in root.iterdir():
        owner = old.name.split("-")[-2:-1]
        dead = (
            owner and owner[0].isdigit() and Path("/proc/self").exists() and not Path(f"/proc/{owner[0]}").exists()
        )
        if dead and not old.is_symlink() and (old / _MARK).is_file():
            shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=root))
    (made / _MARK).touch()
    return made
