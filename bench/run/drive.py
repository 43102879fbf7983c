"""One run from start to end: plan, make what is missing, build rows, write the report."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench import __version__
from bench.catalogue import HERE, Unavailable, unavailable
from bench.core.declaration import known_json
from bench.core.errors import UsageError, did_you_mean, last_line
from bench.core.keys import digest
from bench.core.spec import MetricSpec
from bench.core.views import ClipMetric, SetMetric
from bench.execute.cluster import HeadLost
from bench.execute.interrupt import Interrupt
from bench.execute.scheduler import Scheduler
from bench.execute.tasks import METRICS, GenerateTask, Lane, Outcome, Task
from bench.results.floors import floors
from bench.results.runs import PROVENANCE_FILE, ROWS_FILE
from bench.run.flow import Flow
from bench.run.plan import Plan
from bench.run.rows import NO_CLIP, build_rows
from bench.store.files import staged, sweep, write_bytes
from bench.store.home import Home
from bench.store.travel import send_code

if TYPE_CHECKING:
    import pandas as pd

EXECUTORS = ("auto", "ray", "inline")

_PACKAGES = (
    "actalker-bench",
    "torch",
    "diffusers",
    "numpy",
    "scipy",
    "pandas",
    "av",
    "scikit-image",
    "ray",
    "mediapipe",
)


@dataclass(frozen=True, slots=True)
class Execution:
    """Where a run's jobs are done. Nothing here changes a result.

    Attributes:
        executor: `ray`, `inline`, or `auto`: inline for one worker or a handful of jobs, else Ray.
        address: of a running Ray cluster, or None.
        workers: CPUs to use, or None for all.
        weights: folder searched first for weight files.
        fresh: make every clip again, even finished ones.
        retry: do jobs again whose record is an error.
        metric_gpus: GPUs of each worker that runs metric networks, may be a fraction; 0 keeps them on CPUs; None
            takes one where there is one.

    Raises:
        UsageError: there is no such executor.
    """

    executor: str = "auto"
    address: str | None = None
    workers: int | None = None
    weights: Path | None = None
    fresh: bool = False
    retry: bool = False
    metric_gpus: float | None = None

    @property
    def cluster(self) -> str | None:
        """Address of the Ray cluster to use: the one asked for, else the one this process was submitted to."""
        return self.address or os.environ.get("RAY_ADDRESS") or None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            guess = did_you_mean(self.executor, list(EXECUTORS))
            raise UsageError(
                f"There is no executor called '{self.executor}'.{guess}", f"Known: {', '.join(EXECUTORS)}"
            )


class Progress(Protocol):
    """Whoever shows how far a run is."""

    def start(self, flow: Flow, running: Callable[[], Sequence[Task]]) -> None:
        """Say what there is to do; `running` tells at any time what is being done, the oldest first."""

    def settled(self, task: Task, outcome: Outcome) -> None:
        """A task is done or failed."""

    def notice(self, text: str) -> None:
        """Something about the cluster that the user should know."""

    def stop(self) -> None:
        """No more tasks."""


@dataclass(slots=True)
class RunResult:
    """What a run left behind.

    Attributes:
        folder: `rows.parquet`, `run.json` and the reports.
        interrupted: the user stopped it; the same command resumes.
        planned, made: number of clips in the plan, and of those in the store.
        failed: number of clips without one of their numbers, and of set metrics without a value, because
            something broke. Values that cannot exist (`unscored`) do not count.
        failures: what broke, in words, grouped.
        missing: metrics that could not run here.
        report: files by format.
    """

    folder: Path
    interrupted: bool
    planned: int
    made: int
    failed: int
    failures: list[str] = field(default_factory=list)
    missing: list[Unavailable] = field(default_factory=list)
    report: dict[str, Path] = field(default_factory=dict)


def execute(
    plan: Plan,
    metrics: Sequence[ClipMetric | SetMetric],
    home: Home,
    how: Execution,
    name: str = "",
    command: str = "",
    progress: Progress | None = None,
    report: Callable[[Path], dict[str, Path]] | None = None,
) -> RunResult:
    """Do what the plan still lacks and write the run folder.

    While it goes on, the folder holds the numbers that are there so far, so that `bench status` and `bench report`
    can be asked from elsewhere, and after the driver was killed.

    Args:
        plan: clips to make.
        metrics: numbers to compute; those that cannot run here become `unscored` rows.
        home: the store.
        how: executor and its settings.
        name: of the run folder; made from split and plan when empty, so the same command finds it again.
        command: what the user typed, for provenance.
        progress: told about every settled task.
        report: writes reports into the run folder, given rows and provenance there.

    Raises:
        UsageError: the name is a path.
        StoreFull: the disk is full; finished results are safe.
    """
    if name and (name in (".", "..") or not name.isprintable() or set(name) & set("/\\")):
        raise UsageError(f"'{name}' cannot name a run: it is a path.", "For example: --name mine")
    home.ready()
    missing = [u for m in metrics if (u := unavailable(m)) is not None]
    blocked = {u.spec.id for u in missing}
    usable = [m for m in metrics if m.spec.id not in blocked]
    flow = Flow(plan, usable, home, fresh=how.fresh, retry=how.retry)
    scheduler = Scheduler(flow.initial, flow.follow)
    sweep(home.path / "blobs", older_than=time.time() - 86400)
    folder = home.runs / (name or default_name(plan, metrics))
    home.bring_folder(folder, only=(ROWS_FILE, PROVENANCE_FILE))

    def write() -> pd.DataFrame:
        rows = build_rows(flow, scheduler.failures, missing)
        _write(folder, flow, rows, missing, command)
        home.give([folder / ROWS_FILE, folder / PROVENANCE_FILE])
        return rows

    def notice(text: str) -> None:
        if progress is not None:
            progress.notice(text)
        else:
            print(f"bench: {text}", file=sys.stderr)

    next_write = 0.0

    def observe(task: Task, outcome: Outcome) -> None:
        nonlocal next_write
        if progress is not None:
            progress.settled(task, outcome)
        if (start := time.monotonic()) >= next_write:
            write()
            end = time.monotonic()
            next_write = end + max(60.0, 50 * (end - start))

    def start(gpu: Lane | None) -> Scheduler:
        nonlocal flow, scheduler
        if gpu is not None:
            flow = Flow(plan, usable, home, fresh=how.fresh, retry=how.retry, gpu=gpu)
            scheduler = Scheduler(flow.initial, flow.follow)
        if progress is not None:
            progress.start(flow, lambda: scheduler.running)
        return scheduler

    on_gpus = any(spec.device == "gpu" for spec in flow.specs)
    lost: HeadLost | None = None
    with Interrupt() as interrupt:
        if not scheduler.finished:
            executor = _executor(scheduler, plan.targets, how)
            try:
                _drive(executor, start, on_gpus, home, how, observe, interrupt, notice, plan)
            except HeadLost as error:
                lost = error
            finally:
                if progress is not None:
                    progress.stop()
        stopped = (interrupt.requested or lost is not None) and not scheduler.finished
    rows = write()
    made = sum(flow.generated.get(job.key, {}).get("status") == "ok" for job in plan.jobs)
    failures = _summarise(flow, scheduler)
    if lost is not None:
        failures.insert(0, f"{lost.message} {lost.hint}")
    result = RunResult(folder, stopped, len(plan.jobs), made, _broken(rows, flow), failures, missing)
    if report is not None:
        result.report = report(folder)
        home.give([folder])
    return result


def default_name(plan: Plan, metrics: Sequence[ClipMetric | SetMetric]) -> str:
    """Return the run folder's name: split and a digest of clips and metrics, stable for the same command."""
    slug = "".join(c if c.isalnum() or c in "-_" else "-" for c in plan.split.name.rpartition("/")[2])[:40]
    return f"{slug or 'run'}-{digest([plan.digest, sorted(m.spec.id for m in metrics)])[:8]}"


def _executor(scheduler: Scheduler, targets: Collection[str], how: Execution) -> str:
    """Return the executor for what is left to do.

    Raises:
        UsageError: methods that live in this process are to run in others.
    """
    if any(method.startswith(HERE) for method in targets):
        if how.executor == "ray" or how.address:
            raise UsageError(
                "Methods given as objects run in this process, and other processes were asked for.",
                "Write the class into a file and pass 'that_file.py:Class'.",
            )
        return "inline"
    if how.executor != "auto":
        return how.executor
    if how.cluster:
        return "ray"
    return "ray" if scheduler.waiting > 4 and how.workers != 1 else "inline"


def _drive(
    executor: str,
    start: Callable[[Lane | None], Scheduler],
    on_gpus: bool,
    home: Home,
    how: Execution,
    observe: Callable[[Task, Outcome], None],
    interrupt: Interrupt,
    notice: Callable[[str], None],
    plan: Plan,
) -> None:
    """Run what is left.

    Args:
        executor: `inline` or `ray`.
        start: returns the tasks, given the lane of metric networks on GPUs.
        on_gpus: there are metrics that a GPU computes faster.
        home, how, observe, interrupt, notice, plan: see `execute`.
    """
    if executor == "inline":
        from bench.execute.inline import run_inline

        gpus = 1.0 if on_gpus and how.metric_gpus != 0 and _sees_gpu() else 0.0
        run_inline(start(_metric_lane(gpus)), home.address, how.weights, observe, interrupt, notice)
        return
    from bench.execute.ray_cluster import gpus_of, run_on_ray
    from bench.execute.ray_session import connected

    with connected(how.cluster, how.workers) as ray:
        share = how.metric_gpus
        if share is None:  # a whole one: the networks fill it, and a method's memory is not known
            share = 1.0 if gpus_of(ray) >= 1 else 0.0
        scheduler = start(_metric_lane(share if on_gpus else 0.0))
        own = how.cluster is None
        inputs = (*plan.split.samples, *plan.jobs)
        for target, code in {(j.target, j.method_code) for j in plan.jobs if isinstance(j, GenerateTask)}:
            if not own:
                send_code(home.storage, target, code)
        run_on_ray(ray, scheduler, home, how.weights, observe, interrupt, own, how.workers, notice, inputs)


def _metric_lane(gpus: float) -> Lane | None:
    return Lane(METRICS, 1, gpus) if gpus else None


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _broken(rows: pd.DataFrame, flow: Flow) -> int:
    """Count clips, and cells under a set metric, that lack a number because something broke."""
    place = ["method", "gate", "sample", "repeat"]
    errors = rows[rows["status"] == "error"]
    clips = set(errors.loc[errors["kind"] == "clip", place].itertuples(index=False, name=None))
    for job, (method, gate, repeat) in zip(flow.plan.jobs, flow.plan.cells, strict=True):  # without metrics, too
        if flow.generated.get(job.key, {"status": "ok"})["status"] != "ok":
            clips.add((method, gate, job.sample.id, repeat))
    sets = errors[(errors["kind"] == "set") & (errors["reason"] != NO_CLIP)]
    return len(clips) + len(sets.drop_duplicates(["method", "gate", "repeat", "protocol"]))


_MADE_BY = ("command", "version", "commit", "created", "environment")
"""What provenance says about the run that made the numbers; asking for them again does not change it."""


def _write(folder: Path, flow: Flow, rows: pd.DataFrame, missing: Sequence[Unavailable], command: str) -> None:
    """Write rows and provenance, unless they say what the folder says already.

    When they say something else, report files of the old numbers go: all files of a folder agree.
    """
    details = provenance(flow, missing, command)
    details["counts"] = {
        "planned": len(rows),
        **{s: int((rows["status"] == s).sum()) for s in ("ok", "unscored", "error")},
    }
    before = _made_before(folder, rows)
    if before is not None and _lasting(before) == _lasting(details):
        os.utime(folder / ROWS_FILE)  # it is the latest again
        return
    for old in folder.glob("report.*"):
        old.unlink()
    with staged(folder / ROWS_FILE) as path:
        rows.to_parquet(path, index=False)
    content = json.dumps(details, indent=1, sort_keys=True, ensure_ascii=False)
    write_bytes(folder / PROVENANCE_FILE, content.encode("utf-8", "backslashreplace"))


def _made_before(folder: Path, rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return the folder's provenance if its rows are these."""
    import pandas as pd

    details = known_json(folder / PROVENANCE_FILE, dict[str, Any])
    try:
        known = pd.read_parquet(folder / ROWS_FILE)
    except Exception:  # pyarrow and pandas raise many kinds for damaged files, some of them their own
        return None
    return details if known.equals(rows) else None


def _lasting(details: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in json.loads(json.dumps(details)).items() if k not in _MADE_BY}


def provenance(flow: Flow, missing: Sequence[Unavailable], command: str) -> dict[str, Any]:
    """Return what a reader needs to judge and repeat the run, as JSON-able data."""
    plan = flow.plan
    asked = {k: v for k, v in (("fit", plan.fit), ("sound", plan.sound)) if v not in ("", "own")}
    specs = [m.spec for m in (*flow.clip_metrics, *flow.record_metrics, *flow.swap_metrics, *flow.set_metrics)] + [
        u.spec for u in missing
    ]
    return {
        "command": command,
        "version": __version__,
        "commit": commit(),
        "created": _now(),
        "plan": plan.digest,
        "split": plan.split.name,
        "domain": plan.split.domain,
        "samples": len(plan.split.samples),
        "notes": list(plan.split.notes),
        "seed": plan.seed,
        "repeats": plan.repeats,
        "protocols": {
            spec.id: {
                "summary": spec.summary,
                "source": spec.source,
                "version": spec.version,
                "kind": spec.kind,
                "params": _jsonable({**spec.params, **asked}),
                "weights": {w.name: w.sha256 for w in spec.weights},
                "columns": [asdict(c) for c in spec.columns],
            }
            for spec in sorted(specs, key=lambda s: s.id)
        },
        "methods": {
            spec.name: {
                "version": spec.version,
                "kind": spec.kind,
                "gates": list(spec.gates),
                "summary": spec.summary,
                "note": spec.note,
                "settings": _jsonable(spec.settings),
                "weights": {w.name: w.sha256 for w in spec.weights},
            }
            for spec in plan.methods.values()
        },
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {p: v for p in _PACKAGES if (v := _installed(p))},
        },
        "hardware": sorted(
            {json.dumps(r["host"], sort_keys=True) for r in flow.generated.values() if "host" in r}
        ),
        "rejected": [asdict(r) for r in plan.split.rejected],
        "floors": floors(flow.home, plan.split.name, {s.id: _measured_by(s) for s in specs}),
    }


def _measured_by(spec: MetricSpec) -> dict[str, Any]:
    return {"params": _jsonable(spec.params), "weights": {w.name: w.sha256 for w in spec.weights}}


def _summarise(flow: Flow, scheduler: Scheduler) -> list[str]:
    """Group everything that failed by cause and last line of its detail."""
    groups: dict[tuple[str, str], list[str]] = {}
    for record in flow.generated.values():
        if record["status"] != "ok":
            groups.setdefault((record["cause"], last_line(record["detail"])), []).append(
                f"{record['method']} {record['sample']}"
            )
    for failure in scheduler.failures:
        groups.setdefault((str(failure.cause), last_line(failure.detail)), []).append(failure.task.title)
    for record in (*flow.scores.values(), *flow.sets.values()):
        if record["status"] == "error":
            groups.setdefault(("metric", last_line(record["detail"])), []).append(record["protocol"])
    return [f"{len(items)} x {cause}: {text} (e.g. {items[0]})" for (cause, text), items in sorted(groups.items())]


def _jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(values), default=list))


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit() -> str:
    """Return the checkout's commit, with `+` when it has changes, or an empty string outside one."""
    import subprocess

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10
        )
        state = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return commit.stdout.strip() + ("+" if state.stdout.strip() else "")


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line(arguments: Iterable[str] | None = None) -> str:
    """Return what the user typed, quoted for a shell."""
    import shlex

    return shlex.join(["bench", *(sys.argv[1:] if arguments is None else arguments)])
