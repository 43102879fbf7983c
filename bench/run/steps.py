"""The kinds of steps of a run: making a clip, extracting features, scoring, comparing, and values of sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bench.catalogue import feature_key
from bench.core.spec import Device, MetricSpec
from bench.execute.tasks import ClipRef, FeatureTask, GenerateTask, ScoreTask, SetTask, Task
from bench.run.artefacts import Artefacts, Cell, KeyedProtocol
from bench.run.graph import Step
from bench.run.plan import Job

_SECONDS_PER_FRAME: Mapping[Device, float] = {"cpu": 0.02, "gpu": 0.0025}  # rough, for ordering


class FeatureSteps:
    """Steps that extract features of clips, one per clip and device, made when somebody reads them.

    Args:
        run: what the run is about.
    """

    def __init__(self, run: Artefacts) -> None:
        self._run = run
        self._known: dict[tuple[str, Device], Features] = {}

    def of(self, clip: ClipRef, names: Sequence[str], limit: float) -> Iterable[Step]:
        """Yield the steps that extract the named features of a clip."""
        devices: tuple[Device, ...] = ("gpu", "cpu")
        for device in devices:
            chosen = self._run.extractors_on(device, names)
            if chosen and (clip.sha256, device) not in self._known:
                self._known[clip.sha256, device] = Features(self._run, clip, chosen, limit, device)
            if chosen:
                yield self._known[clip.sha256, device]


class _OfJob(Step):
    """A step about the clip of one job."""

    __slots__ = ("job", "run")

    def __init__(self, run: Artefacts, job: Job) -> None:
        super().__init__()
        self.run = run
        self.job = job


class Clip(_OfJob):
    """Makes one clip."""

    kind = "gen"
    __slots__ = ("fresh",)

    def __init__(self, run: Artefacts, job: Job, fresh: bool = False) -> None:
        super().__init__(run, job)
        self.fresh = fresh

    @property
    def looks(self) -> bool:
        """See `Step.looks`."""
        return not self.fresh

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        return (self.job.key,)

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        return replace(self.job, fresh=True) if self.fresh and isinstance(self.job, GenerateTask) else self.job


class Features(Step):
    """Extracts features of a clip that several tasks will read."""

    kind = "feature"
    __slots__ = ("clip", "device", "extractors", "limit", "run")

    def __init__(
        self, run: Artefacts, clip: ClipRef, extractors: Sequence[str], limit: float, device: Device
    ) -> None:
        super().__init__()
        self.run = run
        self.clip = clip
        self.extractors = tuple(extractors)
        self.limit = limit
        self.device = device

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        return [feature_key(self.clip.sha256, name, self.clip.picture) for name in self.extractors]

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        names = tuple(n for n in self.extractors if feature_key(self.clip.sha256, n, self.clip.picture) in missing)
        lane = self.run.lane(self.device)
        return FeatureTask(task_key(self.clip.sha256, self.device), self.clip, names, lane, limit=self.limit)


class Scores(_OfJob):
    """Scores one clip under every protocol of a device; the clip is decoded once for all of them."""

    kind = "score"
    __slots__ = ("device", "features")

    def __init__(self, run: Artefacts, job: Job, device: Device, features: FeatureSteps) -> None:
        super().__init__(run, job)
        self.device = device
        self.features = features

    def _protocols(self) -> list[KeyedProtocol]:
        run, record = self.run, self.run.generated[self.job.key]
        metrics = [m for m in run.clip_metrics if run.device(m.spec) == self.device]
        return run.score_keys(self.job, record, metrics)

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        record = self.run.generated.get(self.job.key)
        if record is None or record["status"] != "ok":
            return ()
        return [key for _, key, _ in self._protocols()]

    def reads(self, missing: Sequence[str]) -> Iterable[Step]:
        """Return the reference's features, which every method is compared with, and this clip's from the GPU."""
        run = self.run
        if self.device == "gpu":
            return
        reference = run.reference(self.job)
        if reference is not None:
            yield from self.features.of(reference, run.reference_features, self.job.limit)
        clip = run.clip_ref(self.job, run.generated[self.job.key])
        yield from self.features.of(clip, run.extractors_on("gpu", run.features), self.job.limit)

    def closed(self) -> None:
        """See `Step.closed`."""
        self.run.settled += self.device == "cpu" and self.job.key in self.run.generated

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        run = self.run
        warm = run.features if self.device == "gpu" else run.set_features
        return ScoreTask(
            key=task_key(self.job.key, self.device),
            clip=run.clip_ref(self.job, run.generated[self.job.key]),
            reference=run.reference(self.job),
            protocols=tuple(p for p in self._protocols() if p[1] in missing),
            warm=run.extractors_on(self.device, warm),
            title=f"scores of {self.job.title}",
            lane=run.lane(self.device),
            cost=self.job.sample.frames * _SECONDS_PER_FRAME[self.device],
            limit=self.job.limit,
        )


class Swapped(_OfJob):
    """Compares a clip with those of the same sample that were made with other controls or seeds."""

    kind = "score"
    __slots__ = ()

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        return [key for _, key, _ in self.run.swap_keys(self.job.key)]

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        run, base = self.run, self.job.key
        return ScoreTask(
            key=swap_name(base),
            clip=run.stored(self.job, run.generated[base]),
            reference=None,
            protocols=tuple(p for p in run.swap_keys(base) if p[1] in missing),
            swapped=run.swapped(base),
            title=f"comparison of {self.job.title} with others of its sample",
            limit=self.job.limit,
        )


class SetValue(Step):
    """Computes one set metric of one cell, over the clips that could be made."""

    kind = "set"
    __slots__ = ("cell", "features", "run", "spec")

    def __init__(self, run: Artefacts, cell: Cell, spec: MetricSpec, features: FeatureSteps) -> None:
        super().__init__()
        self.features = features
        self.run = run
        self.cell = cell
        self.spec = spec

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        pairs = self.run.pairs(self.cell)
        return (self.run.set_key(self.spec, pairs)[0],) if pairs else ()

    def reads(self, missing: Sequence[str]) -> Iterable[Step]:
        """Return the features of every clip; one task alone would extract them one after another."""
        run = self.run
        for job in run.pairs(self.cell):
            reference = run.reference(job)
            assert reference is not None, "it is half of the pair"
            yield from self.features.of(reference, run.reference_features, job.limit)
            clip = run.clip_ref(job, run.generated[job.key])
            yield from self.features.of(clip, run.set_features, job.limit)

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        run = self.run
        pairs = run.pairs(self.cell)
        key, fields = run.set_key(self.spec, pairs)
        generated = tuple(run.clip_ref(job, run.generated[job.key]) for job in pairs)
        reference = tuple(ref for job in pairs if (ref := run.reference(job)) is not None)
        title = f"{self.spec.id} of {self.cell[0]} ({self.cell[1]})"
        return SetTask(key, self.spec.id, generated, reference, fields, title)


def task_key(key: str, device: Device) -> str:
    """Return the key of a task on a device; nothing is recorded under it."""
    return key if device == "cpu" else f"{key}-gpu"


def swap_name(base: str) -> str:
    """Return the key of the task that compares a clip with its swapped ones."""
    return f"{base}-swapped"
