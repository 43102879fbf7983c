"""What is missing and what follows: the set difference of plan and store, kept up to date while a run goes on.

Pure bookkeeping over records; the scheduler asks it what a settled task made possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.catalogue import feature_key, protocol_digest
from bench.core.keys import digest
from bench.core.spec import MetricSpec, Sample
from bench.core.views import ClipMetric, SetMetric
from bench.execute.tasks import (
    BatchTask,
    ClipRef,
    FeatureTask,
    GenerateTask,
    Outcome,
    ScoreTask,
    SetTask,
    Task,
)
from bench.run.graph import Graph, Step
from bench.run.plan import Job, Plan
from bench.store.blobs import Blob
from bench.store.home import Home
from bench.store.records import Kind, Record

Cell = tuple[str, str, int]


class Flow:
    """Progress of one run.

    Args:
        plan: the clips to make.
        metrics: those that can run here.
        home: the store.
        fresh: make every clip again, even those with a record (for noise floors).
        retry: treat records that say `error` as missing.

    Attributes:
        generated, scores, sets: the records that are there, by key.
        settled: number of the plan's clips whose scores are all there, or that failed.
    """

    def __init__(
        self,
        plan: Plan,
        metrics: Sequence[ClipMetric | SetMetric],
        home: Home,
        fresh: bool = False,
        retry: bool = False,
    ) -> None:
        self.plan = plan
        self.home = home
        self.fresh = fresh
        self.clip_metrics = [m for m in metrics if m.spec.kind == "clip" and "swapped" not in m.spec.needs]
        self.swap_metrics = [m for m in metrics if "swapped" in m.spec.needs]
        self.set_metrics = [m for m in metrics if m.spec.kind == "set"]
        self.settled = 0
        self.warm = _extractors(self.set_metrics)
        self.reference_features = _extractors(
            m for m in metrics if "reference" in m.spec.needs or m.spec.kind == "set"
        )
        self._retry = retry
        self._protocol_digests = {m.spec.id: protocol_digest(m) for m in metrics}
        self._samples = {sample.id: sample for sample in plan.split.samples}
        self._swaps = plan.swaps if self.swap_metrics else {}
        self._cell_jobs: dict[Cell, list[Job]] = defaultdict(list)
        for job, cell in zip(plan.jobs, plan.cells, strict=True):
            self._cell_jobs[cell].append(job)
        self.graph = Graph(home.records, self._counts)
        self.generated = self.graph.records["gen"]
        self.scores = self.graph.records["score"]
        self.sets = self.graph.records["set"]
        self._clips: dict[str, _Clip] = {}
        self._features: dict[str, _Features] = {}
        self._initial = _batched(self.graph.advance(self._steps()))

    def _steps(self) -> list[Step]:
        """Make the steps that the plan names; those of features come when somebody reads them."""
        for job in self.plan.jobs:
            self._clips.setdefault(job.key, _Clip(self, job))
        scores = {key: _Scores(self, clip.job) for key, clip in self._clips.items()}
        for key, step in scores.items():
            self.graph.link(step, [self._clips[key]])
        swaps = []
        for base, others in self._swaps.items():
            made = [self._clips.setdefault(job.key, _Clip(self, job)) for job in others.values()]
            swaps.append(_Swapped(self, self._clips[base].job))
            self.graph.link(swaps[-1], dict.fromkeys([self._clips[base], *made]))
        sets = []
        for cell, jobs in self._cell_jobs.items():
            for metric in self.set_metrics:
                sets.append(_Set(self, cell, metric.spec))
                self.graph.link(sets[-1], dict.fromkeys(scores[job.key] for job in jobs))
        return [*self._clips.values(), *scores.values(), *swaps, *sets]

    @property
    def initial(self) -> list[Task]:
        """Tasks that can be done at once."""
        return self._initial

    @property
    def clips(self) -> int:
        """Number of clips to make in all, swapped ones included."""
        return len(self._clips)

    def follow(self, task: Task, outcome: Outcome | None) -> Iterable[Task]:
        """Take in a settled task (`None`: given up on) and return what became possible."""
        records = outcome.records if outcome is not None else {}
        if isinstance(task, BatchTask):
            made = [job for job in task.jobs if job.key in records]
            alone: list[Task] = [job for job in task.jobs if job.key not in records]
            return alone + [t for job in made for t in self.graph.settle(job, {job.key: records[job.key]})]
        return self.graph.settle(task, records)

    def features_of(self, clip: ClipRef, extractors: Sequence[str], limit: float) -> _Features:
        """Return the step that extracts features of a clip."""
        return self._features.setdefault(clip.sha256, _Features(clip, extractors, limit))

    def _counts(self, kind: Kind, record: Record) -> bool:
        if self._retry and record["status"] == "error":
            return False
        blob = record.get("clip") or record.get("blob")
        return blob is None or self.home.blobs.has(Blob(**blob))

    def is_hopeless(self, cell: Cell) -> bool:
        """Tell whether a cell is finished without a single clip that has a ground truth to compare it with."""
        jobs = self._cell_jobs[cell]
        return all(self._clips[job.key].settled for job in jobs) and not self.pairs(cell)

    def cell_sets(self, cell: Cell) -> Iterable[tuple[MetricSpec, str, Record | None]]:
        """Return each set metric with its task's key for the cell and the record, or None when it has none."""
        pairs = self.pairs(cell)
        for metric in self.set_metrics:
            key, _ = self.set_key(metric.spec, pairs)
            yield metric.spec, key, self.sets.get(key)

    def task_keys(self, job: Job, spec: MetricSpec) -> tuple[str, ...]:
        """Return the keys of the tasks that a clip metric's value of this job's clip rests on."""
        if "swapped" not in spec.needs:
            return (job.key,)
        return (job.key, *(swap.key for swap in self._swaps[job.key].values()), swap_name(job.key))

    def pairs(self, cell: Cell) -> list[Job]:
        """Return the cell's jobs that have a clip in the store and a ground truth to compare it with."""
        return [
            job
            for job in self._cell_jobs[cell]
            if (record := self.generated.get(job.key)) is not None
            and record["status"] == "ok"
            and self.sample(job).reference is not None
        ]

    def clip_scores(self, job: Job) -> Iterable[tuple[MetricSpec, Record | None]]:
        """Return each clip metric with the record of this job's clip, or None when it has none."""
        record = self.generated.get(job.key)
        if record is None or record["status"] != "ok":
            for metric in (*self.clip_metrics, *(self.swap_metrics if job.key in self._swaps else ())):
                yield metric.spec, None
            return
        keys = self.score_keys(job, record)
        for metric, (_, key, _) in zip(self.clip_metrics, keys, strict=True):
            yield metric.spec, self.scores.get(key)
        if job.key in self._swaps:
            swap_keys = {protocol: key for protocol, key, _ in self.swap_keys(job.key)}
            for metric in self.swap_metrics:
                yield metric.spec, self.scores.get(swap_keys.get(metric.spec.id, ""), self._swap_failure(job.key))

    def swapped(self, base: str) -> dict[str, ClipRef]:
        """Return the clips of a sample made with other controls."""
        swaps = self._swaps[base]
        return {control: self.clip_ref(job, self.generated[job.key]) for control, job in swaps.items()}

    def clip_ref(self, job: Job, record: Mapping[str, Any]) -> ClipRef:
        """Return the stored clip of a job."""
        blob = Blob(**record["clip"])
        sample = self.sample(job)
        return ClipRef(blob.sha256, self.home.blobs.path(blob), _picture(sample), sample.truth)

    def sample(self, job: Job) -> Sample:
        """Return the job's sample with nothing closed by a gate."""
        return self._samples[job.sample.id]

    def reference(self, job: Job) -> ClipRef | None:
        """Return the ground truth a job's clip is compared with."""
        sample = self.sample(job)
        if sample.reference is None:
            return None
        return ClipRef(sample.digests["reference"], sample.reference, _picture(sample), sample.truth)

    def set_key(self, spec: MetricSpec, pairs: Sequence[Job]) -> tuple[str, dict[str, Any]]:
        """Return the record key of a set metric over the clips of jobs, and the key's fields."""
        fields = {
            "kind": "set",
            "protocol": spec.id,
            "protocol_digest": self._protocol_digests[spec.id],
            "generated": [self.generated[job.key]["clip"]["sha256"] for job in pairs],
            "reference": [self.sample(job).digests["reference"] for job in pairs],
        }
        return digest(fields), fields

    def score_keys(self, job: Job, record: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        """Return protocol, record key and the key's fields of every clip metric of a job's clip."""
        sample = self.sample(job)
        keys = []
        for metric in self.clip_metrics:
            spec = metric.spec
            fields = {
                "kind": "score",
                "protocol": spec.id,
                "protocol_digest": self._protocol_digests[spec.id],
                "clip": record["clip"]["sha256"],
                "reference": sample.digests.get("reference", "") if "reference" in spec.needs else "",
                "image": sample.digests.get("image", "") if "image" in spec.needs else "",
            }
            keys.append((spec.id, digest(fields), fields))
        return keys

    def swap_keys(self, base: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return the score keys that need a clip and its swapped ones; none while one of them is missing."""
        swaps = self._swaps.get(base)
        if swaps is None:
            return []
        records = [self.generated.get(key) for key in (base, *(job.key for job in swaps.values()))]
        if any(record is None or record["status"] != "ok" for record in records):
            return []
        clips = [record["clip"]["sha256"] for record in records if record is not None]
        keys = []
        for metric in self.swap_metrics:
            fields = {
                "kind": "score",
                "protocol": metric.spec.id,
                "protocol_digest": self._protocol_digests[metric.spec.id],
                "clip": clips[0],
                "swapped": dict(zip(swaps, clips[1:], strict=True)),
            }
            keys.append((metric.spec.id, digest(fields), fields))
        return keys

    def _swap_failure(self, base: str) -> Record | None:
        """Return a record that says which swapped clip could not be made, or None when none failed."""
        for control, job in self._swaps[base].items():
            record = self.generated.get(job.key)
            if record is not None and record["status"] != "ok":
                detail = f"the clip with swapped {control} failed: {record['detail']}"
                return {"status": "error", "reason": record["cause"], "detail": detail}
        return None


class _OfJob(Step):
    """A step about the clip of one job."""

    __slots__ = ("flow", "job")

    def __init__(self, flow: Flow, job: Job) -> None:
        super().__init__()
        self.flow = flow
        self.job = job


class _Clip(_OfJob):
    """Makes one clip."""

    kind = "gen"
    __slots__ = ()

    @property
    def looks(self) -> bool:
        """See `Step.looks`."""
        return not self.flow.fresh

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        return (self.job.key,)

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        return self.job


class _Features(Step):
    """Extracts features of a clip that several tasks will read."""

    kind = "feature"
    __slots__ = ("clip", "extractors", "limit")

    def __init__(self, clip: ClipRef, extractors: Sequence[str], limit: float) -> None:
        super().__init__()
        self.clip = clip
        self.extractors = tuple(extractors)
        self.limit = limit

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        return [feature_key(self.clip.sha256, name) for name in self.extractors]

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        names = tuple(n for n in self.extractors if feature_key(self.clip.sha256, n) in missing)
        return FeatureTask(self.clip.sha256, self.clip, names, limit=self.limit)


class _Scores(_OfJob):
    """Scores one clip under every protocol; the clip is decoded once for all of them."""

    kind = "score"
    __slots__ = ()

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        record = self.flow.generated.get(self.job.key)
        if record is None or record["status"] != "ok":
            return ()
        return [key for _, key, _ in self.flow.score_keys(self.job, record)]

    def reads(self, missing: Sequence[str]) -> Iterable[Step]:
        """Return the reference's features, which every method is compared with."""
        reference, names = self.flow.reference(self.job), self.flow.reference_features
        return [self.flow.features_of(reference, names, self.job.limit)] if reference and names else []

    def closed(self) -> None:
        """See `Step.closed`."""
        self.flow.settled += self.job.key in self.flow.generated

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        record = self.flow.generated[self.job.key]
        return ScoreTask(
            key=self.job.key,
            clip=self.flow.clip_ref(self.job, record),
            reference=self.flow.reference(self.job),
            protocols=tuple(p for p in self.flow.score_keys(self.job, record) if p[1] in missing),
            warm=self.flow.warm,
            title=f"scores of {self.job.title}",
            cost=self.job.sample.frames * 0.02,
            limit=self.job.limit,
        )


class _Swapped(_OfJob):
    """Compares a clip with those of the same sample that were made with other controls."""

    kind = "score"
    __slots__ = ()

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        return [key for _, key, _ in self.flow.swap_keys(self.job.key)]

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        flow, base = self.flow, self.job.key
        return ScoreTask(
            key=swap_name(base),
            clip=flow.clip_ref(self.job, flow.generated[base]),
            reference=None,
            protocols=tuple(p for p in flow.swap_keys(base) if p[1] in missing),
            swapped=flow.swapped(base),
            title=f"control independence of {self.job.title}",
            limit=self.job.limit,
        )


class _Set(Step):
    """Computes one set metric of one cell, over the clips that could be made."""

    kind = "set"
    __slots__ = ("cell", "flow", "spec")

    def __init__(self, flow: Flow, cell: Cell, spec: MetricSpec) -> None:
        super().__init__()
        self.flow = flow
        self.cell = cell
        self.spec = spec

    def wanted(self) -> Sequence[str]:
        """See `Step.wanted`."""
        pairs = self.flow.pairs(self.cell)
        return (self.flow.set_key(self.spec, pairs)[0],) if pairs else ()

    def task(self, missing: Sequence[str]) -> Task:
        """See `Step.task`."""
        flow = self.flow
        pairs = flow.pairs(self.cell)
        key, fields = flow.set_key(self.spec, pairs)
        generated = tuple(flow.clip_ref(job, flow.generated[job.key]) for job in pairs)
        reference = tuple(ref for job in pairs if (ref := flow.reference(job)) is not None)
        title = f"{self.spec.id} of {self.cell[0]} ({self.cell[1]})"
        return SetTask(key, self.spec.id, generated, reference, fields, title)


def _extractors(metrics: Iterable[ClipMetric | SetMetric]) -> tuple[str, ...]:
    """Return the extractors that metrics read."""
    return tuple(dict.fromkeys(name for metric in metrics for name in metric.spec.features))


def _batched(tasks: Sequence[Task]) -> list[Task]:
    """Put clips that a method makes cheaper together into one task."""
    groups: dict[tuple[str, str], list[GenerateTask]] = defaultdict(list)
    rest: list[Task] = []
    for task in tasks:
        if isinstance(task, GenerateTask) and task.batch > 1:
            groups[task.target, task.gate.name].append(task)
        else:
            rest.append(task)
    for jobs in groups.values():
        size = jobs[0].batch
        chunks = [tuple(jobs[start : start + size]) for start in range(0, len(jobs), size)]
        rest += [BatchTask(chunk) if len(chunk) > 1 else chunk[0] for chunk in chunks]
    return rest


def swap_name(base: str) -> str:
    """Return the key of the task that compares a clip with its swapped ones."""
    return f"{base}-swapped"


def _picture(sample: Sample) -> Path | None:
    """Return the reference picture; a video scored on its own has none."""
    return sample.image if "image" in sample.digests else None
