"""What travels to workers and what comes back: keys, paths and small dictionaries, never frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from bench.core.errors import BenchError
from bench.core.spec import Cause, Gate, Sample


@dataclass(frozen=True, slots=True)
class Lane:
    """What kind of worker a task needs.

    Tasks of one lane run on the same workers. CPU tasks share a lane; a method that needs a GPU has its own,
    so that its model stays loaded and two models never meet on one GPU.

    Attributes:
        cpus, gpus, memory_gb: what a worker is given.
        accelerator, labels, resources: what its node must offer, see `bench.core.spec.MethodSpec`.
    """

    name: str
    cpus: int = 1
    gpus: float = 0.0
    memory_gb: float = 0.0
    accelerator: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[tuple[str, float], ...] = ()

    def __hash__(self) -> int:  # asked several times for every task
        return hash(self.name)

    def rivals(self, other: Lane) -> bool:
        """Tell whether workers of two lanes could take the same place."""
        mine, theirs = ((lane.gpus > 0, lane.accelerator, lane.labels, lane.resources) for lane in (self, other))
        return mine == theirs

    @property
    def needs(self) -> str:
        """What one worker needs, in words."""
        parts = [f"{self.cpus} CPUs", f"{self.gpus:g} GPUs"]
        parts += [f"a GPU of type {self.accelerator}"] if self.accelerator else []
        parts += [f"{name}={value}" for name, value in (*self.labels, *self.resources)]
        return ", ".join(parts[:-1]) + " and " + parts[-1]


CPU_LANE = Lane("cpu")
METRICS = "metrics"  # name of the lane whose workers run metric networks on GPUs


@dataclass(frozen=True, slots=True)
class ClipRef:
    """A clip on disk by content.

    Attributes:
        sha256: digest of the file.
        path: where it lies.
        image: the sample's reference picture, or None.
        picture: sha256 of `image`, or empty.
        truth: the synthetic world's ground truth, or None.
        size: width and height at which it is looked at; None is its own. The digest then speaks of that look.
        cropped: the middle of it is, so that nothing is stretched.
        frames: how many of its frames count; None is all of them.
        sound: a file it is heard with instead of its own sound, or None.
    """

    sha256: str
    path: Path
    image: Path | None = None
    truth: Path | None = None
    size: tuple[int, int] | None = None
    cropped: bool = False
    frames: int | None = None
    sound: Path | None = None
    picture: str = ""


@dataclass(frozen=True, slots=True)
class GenerateTask:
    """Make one clip.

    Attributes:
        key: record key.
        method: name, for display.
        target: what to load, see `bench.catalogue.load_method`.
        method_code: digest of the code that was planned with; a worker that has other code refuses.
        sample: inputs closed by the gate are already None.
        sound: driving speech to mux under the clip (also when the gate hides it from the method), or None.
        fields: every field of the key, stored for `bench cache explain`.
        cost: expected seconds, for ordering.
        limit: wall limit in seconds.
        batch: how many such tasks may be put into one `BatchTask`.
        lossless: the pictures are encoded without loss.
        fresh: the clip takes the place of one that is there.
    """

    key: str
    method: str
    target: str
    sample: Sample
    sound: Path | None
    gate: Gate
    seed: int
    repeat: int
    fields: Mapping[str, Any]
    lane: Lane = CPU_LANE
    cost: float = 1.0
    limit: float = 3600.0
    batch: int = 1
    method_code: str = ""
    lossless: bool = False
    fresh: bool = False

    kind: Literal["generate"] = field(default="generate", init=False)
    code: ClassVar[str] = "bench.jobs.generate:generate"

    @property
    def title(self) -> str:
        """What to call the task in a message."""
        return f"{self.method} ({self.gate.name}) {self.sample.id}"


@dataclass(frozen=True, slots=True)
class BatchTask:
    """Make several clips of one method and gate at once. Those it could not make are made again one by one."""

    jobs: tuple[GenerateTask, ...]

    kind: Literal["batch"] = field(default="batch", init=False)
    code: ClassVar[str] = "bench.jobs.generate:together"

    @property
    def key(self) -> str:
        """Unique within a run; nothing is recorded under it."""
        return f"{self.jobs[0].key}+{len(self.jobs) - 1}"

    @property
    def lane(self) -> Lane:
        """The jobs' lane."""
        return self.jobs[0].lane

    @property
    def cost(self) -> float:
        """Expected seconds of all jobs."""
        return sum(job.cost for job in self.jobs)

    @property
    def limit(self) -> float:
        """Wall limit of all jobs in seconds."""
        return sum(job.limit for job in self.jobs)

    @property
    def title(self) -> str:
        """What to call the task in a message."""
        return f"{self.jobs[0].method} ({self.jobs[0].gate.name}): {len(self.jobs)} clips at once"


@dataclass(frozen=True, slots=True)
class IngestTask:
    """Take a clip made elsewhere into the store, as it is; `path` is None when it was not delivered."""

    key: str
    method: str
    path: Path | None
    sample: Sample
    fields: Mapping[str, Any]
    lane: Lane = CPU_LANE
    cost: float = 0.1
    limit: float = 600.0

    kind: Literal["ingest"] = field(default="ingest", init=False)
    code: ClassVar[str] = "bench.jobs.ingest:ingest"

    @property
    def title(self) -> str:
        """What to call the task in a message."""
        return f"{self.method} {self.sample.id}"


@dataclass(frozen=True, slots=True)
class FeatureTask:
    """Extract features of a reference clip once, before the methods' clips are scored against it."""

    key: str
    clip: ClipRef
    extractors: tuple[str, ...]
    lane: Lane = CPU_LANE
    cost: float = 1.0
    limit: float = 3600.0

    kind: Literal["feature"] = field(default="feature", init=False)
    code: ClassVar[str] = "bench.jobs.extract:extract"

    @property
    def title(self) -> str:
        """What to call the task in a message."""
        return f"features of {self.clip.path.name}"


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Score one clip under every protocol that has no record yet; the clip is decoded once.

    Attributes:
        key: the clip's generation key.
        protocols: `(protocol id, record key, fields of the key)`.
        warm: extractors whose features others will read later.
        swapped: the same sample made again, by name, see `bench.core.spec.REMADE`.
        title: what to call the task in a message.
    """

    key: str
    clip: ClipRef
    reference: ClipRef | None
    protocols: tuple[tuple[str, str, Mapping[str, Any]], ...]
    warm: tuple[str, ...] = ()
    swapped: Mapping[str, ClipRef] = field(default_factory=dict)
    title: str = ""
    lane: Lane = CPU_LANE
    cost: float = 1.0
    limit: float = 3600.0

    kind: Literal["score"] = field(default="score", init=False)
    code: ClassVar[str] = "bench.jobs.score:score"


@dataclass(frozen=True, slots=True)
class SetTask:
    """Compute one set metric of one cell (method, gate, repeat).

    Attributes:
        generated, reference: item i of both belongs to the same sample.
        title: what to call the task in a message.
    """

    key: str
    protocol: str
    generated: tuple[ClipRef, ...]
    reference: tuple[ClipRef, ...]
    fields: Mapping[str, Any]
    title: str = ""
    lane: Lane = CPU_LANE
    cost: float = 5.0
    limit: float = 7200.0

    kind: Literal["set"] = field(default="set", init=False)
    code: ClassVar[str] = "bench.jobs.sets:set_of_clips"


@dataclass(frozen=True, slots=True)
class PrepareTask:
    """Make one clip of a data set.

    Attributes:
        job: a `bench.data.normalise.Job`, which executors pass on unread.
    """

    key: str
    job: Any
    lane: Lane = CPU_LANE
    cost: float = 1.0
    limit: float = 1800.0

    kind: Literal["prepare"] = field(default="prepare", init=False)
    code: ClassVar[str] = "bench.jobs.prepare:prepare"

    @property
    def title(self) -> str:
        """What to call the task in a message."""
        return self.key


Task = GenerateTask | BatchTask | IngestTask | FeatureTask | ScoreTask | SetTask | PrepareTask


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker says about a task. Results are already on disk when it is sent.

    Attributes:
        status: `ok`: the task's records exist (a record may itself say `error` or `unscored`);
            `error`: nothing was recorded, see `cause`; `claimed`: another run does it now;
            `fatal`: the whole run must stop with `error`.
        cause, detail: why not.
        records: the committed records by key.
        seconds: time in the worker.
        error: what the driver raises, for `fatal`.
    """

    status: Literal["ok", "error", "claimed", "fatal"]
    cause: Cause | None = None
    detail: str = ""
    records: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    error: BenchError | None = None
