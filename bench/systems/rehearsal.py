"""Rehearsals: an outside system's real program with stand-in weights, beside what its contract says.

Code can be had where weights cannot, and a contract that is wrong costs its first user a day. A rehearsal
instantiates the repository's own networks with random parameters, runs the contract's own commands on two short
samples under every gate, and compares what happened with what the contract says.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

from bench.core.declaration import line_of, parse_json
from bench.core.errors import BenchError, MissingError, UsageError
from bench.core.spec import GATES, Gate, Sample
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip, write_image
from bench.media.probe import resample_plan
from bench.media.scale import Resizer
from bench.methods.base import GenerationFailed
from bench.store.files import append_to
from bench.store.home import Home
from bench.systems import contract as contracts
from bench.systems.contract import Contract, Environment
from bench.systems.environment import State, launch, missing_weights, place, read_state
from bench.systems.host import ExternalMethod, new_job_folder
from bench.systems.inputs import FPS, Inputs
from bench.systems.patching import INSIDE, has_gpu, rehearsed_form, with_patches
from bench.systems.prepare import Builder, checkout_commit, weight_digests
from bench.systems.process import Ended, last_lines, run
from bench.systems.record import FILE, GateRecord, Record, contract_digest, write_record
from bench.systems.trial import Trial

_RECIPE_LIMIT = 1800.0
_SEEDS = (1, 2)
_NOTHING = re.compile(r"^(GET|HEAD|CONNECT) .*(localhost|127\.0\.0\.1)|^(127\.0\.0\.1|localhost)(:|$)")


@dataclass
class _Take:
    """One run of a command.

    Attributes:
        seconds, memory_mb: wall time, and the largest of its Python processes.
        events: what was watched, (kind, text).
        log: what it printed.
        raw: the file it left, described.
        picture: digest of the frames the host makes of it.
    """

    seconds: float = 0.0
    memory_mb: int = 0
    events: set[tuple[str, str]] = field(default_factory=set)
    log: str = ""
    raw: GateRecord = field(default_factory=GateRecord)
    picture: str = ""


class Rehearsal:
    """Rehearses one system.

    Args:
        contract: what to try.
        home: everything is made in a home of its own under it, `rehearsal`: `bench run --home` of that one runs
            the system with its stand-in weights.
    """

    def __init__(self, contract: Contract, home: Home) -> None:
        if not contract.gates:
            raise MissingError(f"{contract.name} has no command to rehearse: {contract.reason}")
        self.contract = contract
        self.trial = contract.rehearsal or Trial()
        self.data = home.data
        self.home = Home(home.path / "rehearsal").ready()
        self.place = place(contract.name, self.home)
        self.log = self.home.logs / contract.name / "rehearsal.log"
        self.differences: list[str] = []
        self.about: _About = {}
        self.record: Record | None = None

    def run(self, checkout: Path, python: Path | None, pinned: bool, once: bool) -> Iterator[str]:
        """Rehearse and yield a line per step; `record` then holds the result, written beside the contract.

        Args:
            checkout: the system's repository; it is copied and stays as it is.
            python: an interpreter of an environment to use as it is.
            pinned: build the contract's own environment even where `[rehearsal]` names another.
            once: one sample per gate and no runs with other seeds.

        Raises:
            MissingError: no recipe, or something a rehearsal needs is not on this machine.
            BenchError: the environment or the stand-ins could not be made; names the log.
        """
        contract, trial = self.contract, self.trial
        recipe = Path(contract.folder) / trial.recipe
        if not recipe.is_file():
            raise MissingError(
                f"{contract.name} has no recipe for stand-in weights: {recipe}.",
                "See: bench show doc baselines; the recipes of other systems show how short one is.",
            )
        if not checkout.is_dir():
            raise UsageError(f"There is no folder {checkout}.", "--checkout takes the system's repository.")
        shutil.rmtree(self.place.checkout, ignore_errors=True)
        self.place.root.mkdir(parents=True, exist_ok=True)
        append_to(self.log, fresh=True).close()
        commit = checkout_commit(checkout)
        yield f"copying {checkout} ({commit[:12] or 'no git checkout'})"
        copy_checkout(checkout, self.place.checkout, [w.path for w in contract.weights])
        today = bool(trial.packages) and not pinned
        kind = "given" if python is not None else "today" if today else "contract"
        state = yield from self._environment(python, today)
        yield f"making stand-in weights: {recipe.name}"
        made = self._stand_ins(state, recipe)
        absent = missing_weights(contract, self.place.checkout)
        self._compare_weights(made, absent)
        state = replace(
            state, commit=commit, weights=weight_digests(contract, self.place.checkout, absent), stand_in=True
        )
        state.write(self.place)
        takes: dict[str, list[_Take]] = {}
        if not absent:
            for name in contract.gates:
                yield f"running under {name}"
                takes[name] = self._gate(GATES[name], once or bool(takes))
        yield from self._finish(takes, commit, kind, made)

    # Steps

    def _environment(self, python: Path | None, today: bool) -> Generator[str, None, State]:
        contract = self.contract
        known = read_state(self.place)
        if python is None and known is not None and known.manager == "given":
            # What an earlier rehearsal was given is not the environment this one is asked to make.
            self.place.state.unlink()
        if today and python is None:
            contract = replace(
                contract, environment=Environment(python=self.trial.python, packages=self.trial.packages)
            )
        builder = Builder(contract, self.place, self.log, offline=False)
        return builder.environment(self.place.checkout, python, contract.environment.manager)

    def _stand_ins(self, state: State, recipe: Path) -> list[str]:
        """Make the weights and return their paths inside the checkout."""
        checkout = self.place.checkout
        before = set(_files(checkout))
        job = new_job_folder(f"{self.contract.name}-recipe")
        form = rehearsed_form(self.contract)
        start = launch(
            state,
            self.place,
            ["python", str(INSIDE / "bench_standins.py"), str(recipe), str(checkout)],
            checkout / self.contract.run.cwd,
            job,
            with_patches({}, form.patches),
            [recipe.parent, INSIDE],
        )
        ended = run(start.argv, checkout / self.contract.run.cwd, start.env, self.log, _RECIPE_LIMIT, start.stop)
        shutil.rmtree(job, ignore_errors=True)
        if ended.returncode != 0:
            raise BenchError(
                f"The stand-in weights of {self.contract.name} could not be made:\n{last_lines(self.log)}",
                f"The whole log: {self.log}. The recipe: {recipe}",
            )
        return sorted(str(p) for p in set(_files(checkout)) - before if "__pycache__" not in p.parts)

    def _gate(self, gate: Gate, once: bool) -> list[_Take]:
        """Run two samples, the first again with another seed, and, if that changes it, once more with its own."""
        first, second = self._samples()
        jobs = [(first, _SEEDS[0]), (second, _SEEDS[0]), (first, _SEEDS[1]), (first, _SEEDS[0])]
        takes: list[_Take] = []
        for sample, seed in jobs[:1] if once and self.trial.seconds < 0.3 else jobs[:2] if once else jobs:
            # The second sample is for the runner, where there is one.
            take, problem = self._take(gate, sample, seed, runner=len(takes) == 1)
            if problem:
                self._differ(("gates", gate.name, "command"), f"it did not run under {gate.name}: {problem}")
                break
            takes.append(take)
            if len(takes) == 3 and takes[2].picture == takes[0].picture:
                break
        return takes

    def _take(self, gate: Gate, sample: Sample, seed: int, runner: bool) -> tuple[_Take, str]:
        shown = replace(
            sample,
            audio=sample.audio if gate.audio else None,
            video=sample.video if gate.visual else None,
            reference=None,
        )
        method = _Watched(self.contract, self.home)
        trace = self.place.root / "trace.jsonl"
        trace.unlink(missing_ok=True)
        method.trace = trace
        method.allow_runner(runner)
        take, problem = _Take(), ""
        try:
            frames = list(method.generate(shown, gate, seed).frames)
            take.picture = sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()
        except GenerationFailed as error:
            problem = f"{error.message} {error.hint.rpartition(chr(10))[2]}"
        except BenchError as error:
            problem = str(error)
        finally:
            method.close()
        if method.refused:
            self._differ(("run", "runner"), method.refused)
        take.seconds, take.log, take.raw = method.seconds, method.printed(), method.raw or GateRecord()
        for line in trace.read_bytes().splitlines() if trace.exists() else ():
            with contextlib.suppress(UsageError):  # the system could write into it, too
                event = parse_json(line, _Event, "an event")
                if event["kind"] != "ended":
                    take.events.add((event["kind"], event["text"]))
                    continue
                found = parse_json(event["text"], _About, "what it says of itself")
                take.memory_mb = max(take.memory_mb, found.get("memory_mb", 0))
                if len(found.get("packages", ())) >= len(self.about.get("packages", ())):
                    self.about = found
        return take, problem

    def _samples(self) -> tuple[Sample, Sample]:
        """Return two short clips of two drawn faces, as large as the system wants its pictures."""
        from bench.synthetic.split import make_split

        trial, folder = self.trial, self.place.root / "samples"
        split = make_split("synthetic-ci", self.data)
        frames = max(2, round(trial.seconds * FPS))
        by_identity = {sample.identity: sample for sample in split.samples}
        return tuple(_enlarged(s, folder, trial.size, frames) for s in list(by_identity.values())[:2])  # type: ignore[return-value]

    # What differs

    def _differ(self, where: Sequence[str], what: str) -> None:
        path = Path(self.contract.folder) / contracts.FILE
        line = line_of(path, *where) or line_of(path, *where[:-1])
        self.differences.append(f"{path.name}:{line} {'.'.join(where)}: {what}")

    def _compare_weights(self, made: Sequence[str], absent: Sequence[str]) -> None:
        named = [w.path for w in self.contract.weights]
        for index, path in enumerate(named):
            if path in absent:
                self._differ(("weights", str(index), "path"), f"the repository's code needs nothing at {path}")
        for path in made:
            if path.endswith(".py"):
                continue  # a library of the environment's, stood in for
            if not any(path == n or path.startswith(f"{n.rstrip('/')}/") for n in named):
                self.differences.append(f"{contracts.FILE} [[weights]]: nothing names {path}, which is loaded")

    def _compare(self, takes: dict[str, list[_Take]]) -> None:
        output = self.contract.output
        for gate, runs in takes.items():
            for raw in [t.raw for t in runs][:1]:
                wanted = output.fps or float(FPS)
                if abs(raw.fps - wanted) > 0.02 * wanted:
                    self._differ(("output", "fps"), f"the file runs at {raw.fps:g}, not at {wanted:g}")
                sound = {
                    "muxed": "speech" if GATES[gate].audio else "silence",
                    "copied": "silence",
                    "none": "none",
                }
                expected = sound.get(output.audio, raw.sound)
                if raw.sound != expected and not (output.audio == "copied" and raw.sound == "speech"):
                    self._differ(("output", "audio"), f"under {gate} the file's sound is: {raw.sound}")
                size = re.match(r"\d+x\d+", output.size)
                if size and raw.size != size[0] and not (self.trial.replace or self.trial.config):
                    self._differ(("output", "size"), f"the file measures {raw.size}")
                if raw.frames > math.ceil((runs[0].raw.samples or 0) * 1.5 * raw.fps / FPS) + 8:
                    self._differ(("output", "drop_end"), f"{raw.frames} frames, much longer than the clip")
        if any(kind == "network" for runs in takes.values() for t in runs for kind, _ in t.events):
            reached = _network(takes)
            if reached and not self.contract.run.network:
                self._differ(("run", "network"), f"it tries to reach {', '.join(reached[:3])}")

    def _seed(self, takes: dict[str, list[_Take]]) -> str:
        """Return what the seed did, and note where the contract says otherwise."""
        tried = next((t for t in takes.values() if len(t) > 2), None)
        if tried is None:
            return ""
        pictures = [take.picture for take in tried]
        found = "ignored" if len(tried) == 3 else "settable" if pictures[0] == pictures[3] else "random"
        kind = self.contract.seed.kind
        fits = {"settable": ("settable",), "partial": ("settable", "random"), "random": ("random",)}
        if found not in fits.get(kind, ("ignored",)):
            what = {
                "random": "the same seed gave two results",
                "settable": "two seeds gave two results, one seed the same twice",
                "ignored": "two seeds gave the same result",
            }[found]
            self._differ(("seed", "kind"), f"'{kind}', but {what}")
        return found

    # Result

    def _finish(self, takes: dict[str, list[_Take]], commit: str, kind: str, made: Sequence[str]) -> Iterator[str]:
        self._compare(takes)
        seed = self._seed(takes)
        every = [t for runs in takes.values() for t in runs]
        about = self.about
        form = rehearsed_form(self.contract)
        opened = {text for t in every for what, text in t.events if what == "file"}
        prefix = f"{self.contract.run.cwd.rstrip('/')}/" if self.contract.run.cwd else ""
        seen = {f"{prefix}{name}" for name in opened}
        unseen = [
            w.path for w in self.contract.weights
            if every and not any(n == w.path or n.startswith(f"{w.path.rstrip('/')}/") for n in seen)
        ]  # fmt: skip
        gone = sorted({text for t in every for what, text in t.events if what == "absent"} - opened)
        spared = [f"{old} -> {new}" for old, new in self.trial.replace.items()]
        spared += [f"{key} = {json.dumps(value)}" for key, value in self.trial.config.items()]
        self.record = Record(
            commit=commit,
            date=time.strftime("%Y-%m-%d"),
            python=about.get("python", ""),
            environment=kind,
            device="gpu" if about.get("gpu") else "cpu",
            contract=contract_digest(self.contract),
            packages=about.get("packages", {}),
            patches=tuple(form.patches),
            spared=tuple(spared + ([] if has_gpu() else [f"added {w}" for w in self.contract.run.without_gpu])),
            weights=tuple(made),
            seed=seed,
            gates={
                gate: replace(
                    runs[0].raw,
                    samples=len({id(t.raw) for t in runs[:2]}),
                    seconds=round(max(t.seconds for t in runs), 1),
                    memory_mb=max(t.memory_mb for t in runs),
                )
                for gate, runs in takes.items()
                if runs
            },
            network=tuple(_network(takes)[:8]),
            absent=tuple(name for name in gone if not name.startswith("..") and len(name) < 200)[:12],
            unseen=tuple(unseen),
            warnings=tuple(_warnings(every)),
            differences=tuple(self.differences),
        )
        path = Path(self.contract.folder) / FILE
        write_record(self.record, path)
        yield f"record: {path}"


class _Watched(ExternalMethod):
    """Remembers how its command ended and what the file it left was, before the host touches it."""

    seconds = 0.0
    refused = ""
    raw: GateRecord | None = None
    _written: Path | None = None

    def _env(self, inputs: Inputs) -> dict[str, str]:
        return {**super()._env(inputs), "BENCH_ROOT": str(inputs.value("checkout"))}

    def allow_runner(self, allowed: bool) -> None:
        """Let a persistent runner make the clip, or not."""
        self._use_runner = self._use_runner and allowed

    def _talk(
        self, state: State, inputs: Inputs, argv: list[str], cwd: Path, log: Path, limit: float
    ) -> Ended | None:
        wanted, started = self._use_runner, time.monotonic()
        ended = super()._talk(state, inputs, argv, cwd, log, limit)
        self._written = log
        self.seconds += time.monotonic() - started if ended else 0.0
        if wanted and ended is None:
            self.refused = f"the runner did not start: {last_lines(log, 1)}"
        return ended

    def printed(self) -> str:
        """Return what the command wrote."""
        return self._written.read_text(encoding="utf-8", errors="replace") if self._written else ""

    def _run(self, state: State, inputs: Inputs, argv: list[str], cwd: Path, log: Path, limit: float) -> Ended:
        self._written = log
        ended = super()._run(state, inputs, argv, cwd, log, limit)
        self.seconds += ended.seconds
        return ended

    def _make(self, state: State, sample: Sample, gate: Gate, seed: int, job: Path, log: Path) -> Path:
        path = super()._make(state, sample, gate, seed, job, log)
        plan = resample_plan(path, None)
        shape = next(iter(chunks(path, None))).shape
        speech = read_audio(path)
        sound = (
            "none" if speech is None else "speech" if abs(speech.astype(int)).max(initial=0) > 40 else "silence"
        )
        seconds = resample_plan(path, 1000.0).frames / 1000
        rate = (plan.native_frames / seconds) if seconds else 0.0
        self.raw = GateRecord(sample.frames, plan.native_frames, round(rate, 2), f"{shape[2]}x{shape[1]}", sound)
        return path


class _Event(TypedDict):
    """A line that `bench.systems.inside.bench_trace` writes."""

    kind: str
    text: str


class _About(TypedDict, total=False):
    memory_mb: int
    python: str
    packages: dict[str, str]
    gpu: bool


def copy_checkout(source: Path, target: Path, left_out: Sequence[str]) -> None:
    """Copy what git knows of a repository, or, where it is no git checkout, all of it but its weights."""
    if checkout_commit(source):
        listed = subprocess.run(["git", "-C", str(source), "ls-files", "-z"], capture_output=True, check=True)
        for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
            if (source / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, target / name, follow_symlinks=False)
    else:
        skipped = {source / name for name in left_out} | {source / ".git"}

        def ignored(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if Path(folder) / name in skipped]

        shutil.copytree(source, target, ignore=ignored, symlinks=True)
    for path in target.rglob("*"):  # through such a link, stand-ins would be written to, and weights removed from,
        if path.is_symlink() and not path.resolve().is_relative_to(target.resolve()):  # a place that is no copy
            path.unlink()
    for name in left_out:
        path = target / name
        # What a repository commits in place of its weights: notes, pointers of large-file stores.
        if path.is_file():
            path.unlink()


def _enlarged(sample: Sample, folder: Path, size: int, frames: int) -> Sample:
    place = folder / f"{sample.id}-{size}"
    image, video = place / "reference.png", place / "clip.mp4"
    if not video.exists():
        place.mkdir(parents=True, exist_ok=True)
        assert sample.video is not None
        assert sample.audio is not None
        resize = Resizer(size, size)
        pictures = [resize(frame) for chunk in chunks(sample.video, float(FPS)) for frame in chunk]
        write_image(image, pictures[0])
        write_clip(video, pictures, float(FPS), read_audio(sample.audio))
    return replace(sample, image=image, video=video, reference=None, truth=None, frames=frames, digests={})


def _files(root: Path) -> Iterator[Path]:
    return (p.relative_to(root) for p in root.rglob("*") if p.is_file())


def _network(takes: dict[str, list[_Take]]) -> list[str]:
    texts = {text for runs in takes.values() for t in runs for what, text in t.events if what == "network"}
    return sorted(text for text in texts if not _NOTHING.match(text))


def _warnings(takes: Sequence[_Take]) -> list[str]:
    found: dict[str, None] = {}
    for take in takes:
        for line in take.log.splitlines():
            if re.search(r"warning", line, re.IGNORECASE) and not line.startswith("$"):
                # Python's own warnings may stand behind a progress bar on the same line.
                named = re.search(r"[\w-]+\.py:\d+: \w*Warning: .*", line)
                line = named[0] if named else line
                text = re.sub(r"/\S*/", "", "".join(c for c in line if c.isprintable())).strip()
                found.setdefault(text[:160], None)
    return list(found)[:6]
