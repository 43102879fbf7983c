"""What is missing and what follows: the set difference of plan and store, kept up to date while a run goes on.

Pure bookkeeping over records; the scheduler asks it what a settled task made possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bench.catalogue import protocol_digest
from bench.core.keys import digest
from bench.core.spec import MetricSpec, Sample
from bench.core.views import ClipMetric, SetMetric
from bench.execute.tasks import (
    BatchTask,
    ClipRef,
    FeatureTask,
    GenerateTask,
    IngestTask,
    Outcome,
    ScoreTask,
    SetTask,
    Task,
)
from bench.run.plan import Job, Plan
from bench.store.blobs import Blob
from bench.store.home import Home
from bench.store.records import Record

Cell = tuple[str, str, int]


class Flow:
    """Progress of one run.

    Args:
        plan: the clips to make.
        metrics: those that can run here.
        home: the store.
        fresh: make every clip again, even those with a record (for noise floors).
        retry: treat records that say `error` as missing.
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
        self.clip_metrics = [m for m in metrics if m.spec.kind == "clip" and "swapped" not in m.spec.needs]
        self.swap_metrics = [m for m in metrics if "swapped" in m.spec.needs]
        self.set_metrics = [m for m in metrics if m.spec.kind == "set"]
        self.generated: dict[str, Record] = {}
        self.scores: dict[str, Record] = {}
        self.sets: dict[str, Record] = {}
        self._protocol_digests = {m.spec.id: protocol_digest(m) for m in metrics}
        self._warm = tuple(dict.fromkeys(f for m in self.set_metrics for f in m.spec.features))
        self._reference_features = tuple(
            dict.fromkeys(
                f for m in metrics if "reference" in m.spec.needs or m.spec.kind == "set" for f in m.spec.features
            )
        )
        self._samples = {sample.id: sample for sample in plan.split.samples}
        self._jobs: dict[str, Job] = {job.key: job for job in plan.jobs}
        self._swaps = plan.swaps if self.swap_metrics else {}
        self._bases: dict[str, list[str]] = defaultdict(list)  # swapped clip -> the clips it is compared with
        for base, swaps in self._swaps.items():
            for swapped in swaps.values():
                self._jobs.setdefault(swapped.key, swapped)
                self._bases[swapped.key].append(base)
        self._cell_jobs: dict[Cell, list[Job]] = defaultdict(list)
        self._cells_of: dict[str, list[Cell]] = defaultdict(list)
        for job, cell in zip(plan.jobs, plan.cells, strict=True):
            self._cell_jobs[cell].append(job)
            self._cells_of[job.key].append(cell)
        self._open = {cell: {job.key for job in jobs} for cell, jobs in self._cell_jobs.items()}
        self._references_pending: set[str] = set()
        self._references_done: set[str] = set()
        self._held: dict[str, list[ScoreTask]] = defaultdict(list)
        self._retry = retry
        self._swaps_submitted: set[str] = set()
        self._initial = self._start(fresh)

    @property
    def initial(self) -> list[Task]:
        """Tasks that can be done at once."""
        return self._initial

    @property
    def settled(self) -> int:
        """Number of clips whose scores are all there, or that failed."""
        pending = {task.key for task in self._initial if isinstance(task, ScoreTask)}
        pending |= {task.key for tasks in self._held.values() for task in tasks}
        done = set(self.generated) & set(self._cells_of)
        return len(done - pending)

    @property
    def clips(self) -> int:
        """Number of clips to make in all, swapped ones included."""
        return len(self._jobs)

    def _counts(self, record: Record) -> bool:
        return not (self._retry and record["status"] == "error")

    def _start(self, fresh: bool) -> list[Task]:
        if not fresh:
            known = self.home.records.read("gen", self._jobs)
            self.generated = {k: r for k, r in known.items() if self._counts(r) and self._clip_is_there(r)}
        keys = {
            gen: [key for _, key, _ in self._score_keys(self._jobs[gen], record)]
            for gen, record in self.generated.items()
            if record["status"] == "ok"
        }
        swap_keys = [key for base in self._swaps for _, key, _ in self._swap_keys(base)]
        found = self.home.records.read("score", [*chain.from_iterable(keys.values()), *swap_keys])
        self.scores = {k: r for k, r in found.items() if self._counts(r)}
        tasks: list[Task] = []
        for job in self._jobs.values():
            if job.key not in self.generated:
                tasks.append(job)
            elif all(key in self.scores for key in keys.get(job.key, ())):
                tasks += self._close(job.key)
            else:
                tasks += self._after_clip(job)
        for base in self._swaps:
            tasks += self._swap_tasks(base)
        return _batched(tasks)

    def follow(self, task: Task, outcome: Outcome | None) -> Iterable[Task]:
        """Take in a settled task (`None`: given up on) and return what became possible."""
        records = outcome.records if outcome is not None else {}
        if isinstance(task, BatchTask):
            made = [job for job in task.jobs if job.key in records]
            alone: list[Task] = [job for job in task.jobs if job.key not in records]
            return alone + [t for job in made for t in self.follow(job, outcome)]
        if isinstance(task, (GenerateTask, IngestTask)):
            self.generated.update(records)
            tasks = self._after_clip(task) if task.key in self.generated else self._close(task.key)
            for base in (task.key, *self._bases.get(task.key, ())):
                tasks += self._swap_tasks(base)
            return tasks
        if isinstance(task, ScoreTask):
            self.scores.update(records)
            return self._close(task.key)
        if isinstance(task, FeatureTask):
            self._references_done.add(task.clip.sha256)
            return self._held.pop(task.clip.sha256, [])
        self.sets.update(records)
        return []

    def _after_clip(self, job: Job) -> list[Task]:
        record = self.generated[job.key]
        if job.key not in self._cells_of:  # a swapped clip: it is only compared, not scored
            return []
        if record["status"] != "ok":
            return self._close(job.key)
        missing = tuple(p for p in self._score_keys(job, record) if p[1] not in self.scores)
        if not missing:
            return self._close(job.key)
        reference = self.reference(job)
        task = ScoreTask(
            key=job.key,
            clip=self.clip_ref(job, record),
            reference=reference,
            protocols=missing,
            warm=self._warm,
            title=f"scores of {job.title}",
            cost=job.sample.frames * 0.02,
            limit=job.limit,
        )
        if reference is None or not self._reference_features or reference.sha256 in self._references_done:
            return [task]
        self._held[reference.sha256].append(task)
        if reference.sha256 in self._references_pending:
            return []
        self._references_pending.add(reference.sha256)
        return [FeatureTask(reference.sha256, reference, self._reference_features, limit=job.limit)]

    def _swap_tasks(self, base: str) -> list[Task]:
        """Return the task that compares a clip with its swapped ones, once all of them are there."""
        missing = tuple(p for p in self._swap_keys(base) if p[1] not in self.scores)
        if not missing or base in self._swaps_submitted:
            return []
        self._swaps_submitted.add(base)
        job = self._jobs[base]
        swapped = {
            control: self.clip_ref(other, self.generated[other.key])
            for control, other in self._swaps[base].items()
        }
        clip = self.clip_ref(job, self.generated[base])
        title = f"control independence of {job.title}"
        return [ScoreTask(_swap_task(base), clip, None, missing, swapped=swapped, title=title, limit=job.limit)]

    def _close(self, key: str) -> list[Task]:
        """A clip is finished, for better or worse; return the set tasks of cells that are complete now."""
        tasks: list[Task] = []
        for cell in self._cells_of.get(key, ()):
            if key in self._open[cell]:
                self._open[cell].remove(key)
                if not self._open[cell]:
                    tasks += self._set_tasks(cell)
        return tasks

    def _set_tasks(self, cell: Cell) -> list[Task]:
        pairs = self._pairs(cell)
        tasks: list[Task] = []
        for metric in self.set_metrics:
            key, fields = self._set_key(metric.spec, pairs)
            record = self.home.records.get("set", key)
            if record is not None and self._counts(record):
                self.sets[key] = record
            elif pairs:
                generated = tuple(self.clip_ref(job, self.generated[job.key]) for job in pairs)
                reference = tuple(ref for job in pairs if (ref := self.reference(job)) is not None)
                title = f"{metric.spec.id} of {cell[0]} ({cell[1]})"
                tasks.append(SetTask(key, metric.spec.id, generated, reference, fields, title))
        return tasks

    def is_hopeless(self, cell: Cell) -> bool:
        """Tell whether a cell is finished without a single clip that has a ground truth to compare it with."""
        return not self._open[cell] and not self._pairs(cell)

    def cell_sets(self, cell: Cell) -> Iterable[tuple[MetricSpec, str, Record | None]]:
        """Return each set metric with its task's key for the cell and the record, or None when it has none."""
        pairs = self._pairs(cell)
        for metric in self.set_metrics:
            key, _ = self._set_key(metric.spec, pairs)
            yield metric.spec, key, self.sets.get(key)

    def task_keys(self, job: Job, spec: MetricSpec) -> tuple[str, ...]:
        """Return the keys of the tasks that a clip metric's value of this job's clip rests on."""
        if "swapped" not in spec.needs:
            return (job.key,)
        return (job.key, *(swap.key for swap in self._swaps[job.key].values()), _swap_task(job.key))

    def _pairs(self, cell: Cell) -> list[Job]:
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
        keys = self._score_keys(job, record)
        for metric, (_, key, _) in zip(self.clip_metrics, keys, strict=True):
            yield metric.spec, self.scores.get(key)
        if job.key in self._swaps:
            swap_keys = {protocol: key for protocol, key, _ in self._swap_keys(job.key)}
            for metric in self.swap_metrics:
                yield metric.spec, self.scores.get(swap_keys.get(metric.spec.id, ""), self._swap_failure(job.key))

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

    def _set_key(self, spec: MetricSpec, pairs: Sequence[Job]) -> tuple[str, dict[str, Any]]:
        """Return the record key of a set metric over the clips of jobs, and the key's fields."""
        fields = {
            "kind": "set",
            "protocol": spec.id,
            "protocol_digest": self._protocol_digests[spec.id],
            "generated": [self.generated[job.key]["clip"]["sha256"] for job in pairs],
            "reference": [self.sample(job).digests["reference"] for job in pairs],
        }
        return digest(fields), fields

    def _score_keys(self, job: Job, record: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
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

    def _swap_keys(self, base: str) -> list[tuple[str, str, dict[str, Any]]]:
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

    def _clip_is_there(self, record: Mapping[str, Any]) -> bool:
        return record["status"] != "ok" or self.home.blobs.has(Blob(**record["clip"]))


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


def _swap_task(base: str) -> str:
    """Return the key of the task that compares a clip with its swapped ones."""
    return f"{base}-swapped"


def _picture(sample: Sample) -> Path | None:
    """Return the reference picture; a video scored on its own has none."""
    return sample.image if "image" in sample.digests else None
