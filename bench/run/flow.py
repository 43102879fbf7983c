"""What is missing and what follows: the set difference of plan and store, kept up to date while a run goes on.

Pure bookkeeping over records; the scheduler asks it what a settled task made possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from bench.core.spec import MetricSpec
from bench.core.views import ClipMetric, SetMetric
from bench.execute.tasks import BatchTask, GenerateTask, Lane, Outcome, Task
from bench.jobs.score import measured
from bench.run.artefacts import Artefacts, Cell
from bench.run.graph import Graph, Step
from bench.run.plan import REPEAT, Job, Plan
from bench.run.steps import Clip, FeatureSteps, Scores, SetValue, Swapped, swap_name, task_key
from bench.store.blobs import Blob
from bench.store.home import Home
from bench.store.records import Record


class Flow(Artefacts):
    """Progress of one run.

    Args:
        plan, metrics, home: see `Artefacts`.
        fresh: make every clip again, even those with a record (for noise floors).
        retry: treat records that say `error` as missing.
        gpu: the lane of workers that run metric networks on a GPU, or None when there is none: each clip is then
            scored in one task, and otherwise in one on a GPU and one on a CPU.
    """

    def __init__(
        self,
        plan: Plan,
        metrics: Sequence[ClipMetric | SetMetric],
        home: Home,
        fresh: bool = False,
        retry: bool = False,
        gpu: Lane | None = None,
    ) -> None:
        super().__init__(plan, metrics, home, gpu)
        self._retry = retry
        self._clips: dict[str, Clip] = {}
        self._graph = Graph(home.records, self.records, self._counting)
        self._initial = _batched(self._graph.advance(self._steps(fresh)))

    def _steps(self, fresh: bool) -> list[Step]:
        """Make the steps that the plan names; those of features come when somebody reads them."""
        features = FeatureSteps(self)
        for job in self.plan.jobs:
            self._clips.setdefault(job.key, Clip(self, job, fresh))
        scores = {key: Scores(self, clip.job, "cpu", features) for key, clip in self._clips.items()}
        on_gpus = []
        for key, step in scores.items():
            first: Step = self._clips[key]
            if self.gpu is not None:
                on_gpus.append(Scores(self, step.job, "gpu", features))
                self._graph.link(on_gpus[-1], [first])
                first = on_gpus[-1]
            self._graph.link(step, [first])
        swaps = []
        for base, others in self.swaps.items():
            made = [self._clips.setdefault(job.key, Clip(self, job, fresh)) for job in others.values()]
            swaps.append(Swapped(self, self._clips[base].job))
            self._graph.link(swaps[-1], dict.fromkeys([self._clips[base], *made]))
        sets = []
        for cell, jobs in self.cell_jobs.items():
            for metric in self.set_metrics:
                sets.append(SetValue(self, cell, metric.spec, features))
                self._graph.link(sets[-1], dict.fromkeys(scores[job.key] for job in jobs))
        return [*self._clips.values(), *on_gpus, *scores.values(), *swaps, *sets]

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
            return alone + [t for job in made for t in self._graph.settle(job, {job.key: records[job.key]})]
        return self._graph.settle(task, records)

    def _counting(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """Return the records to go by: those whose files are there, and no errors if these are tried again."""
        files = {key: Blob(**file) for key, r in records.items() if (file := r.get("clip") or r.get("blob"))}
        there = self.home.blobs.present(files.values())
        return {
            key: record
            for key, record in records.items()
            if not (self._retry and record["status"] == "error") and (key not in files or files[key] in there)
        }

    def is_hopeless(self, cell: Cell) -> bool:
        """Tell whether a cell is finished without a single clip that has a ground truth to compare it with."""
        jobs = self.cell_jobs[cell]
        return all(self._clips[job.key].settled for job in jobs) and not self.pairs(cell)

    def cell_sets(self, cell: Cell) -> Iterable[tuple[MetricSpec, str, Record | None]]:
        """Return each set metric with its task's key for the cell and the record, or None when it has none."""
        pairs = self.pairs(cell)
        for metric in self.set_metrics:
            key, _ = self.set_key(metric.spec, pairs)
            yield metric.spec, key, self.sets.get(key)

    def task_keys(self, job: Job, spec: MetricSpec) -> tuple[str, ...]:
        """Return the keys of the tasks that a clip metric's value of this job's clip rests on."""
        if not spec.remade:
            return (job.key, task_key(job.key, self.device(spec)))
        return (job.key, *(swap.key for swap in self.swaps[job.key].values()), swap_name(job.key))

    def clip_scores(self, job: Job) -> Iterable[tuple[MetricSpec, Record | None]]:
        """Return each clip metric with the record of this job's clip, or None when it has none."""
        record = self.generated.get(job.key)
        if record is None or record["status"] != "ok":
            swaps = self.swap_metrics if job.key in self.swaps else ()
            for metric in (*self.clip_metrics, *self.record_metrics, *swaps):
                if not metric.spec.remade or self.remade(metric.spec, job.key):
                    yield metric.spec, None
            return
        for metric in self.record_metrics:
            yield metric.spec, {"key": job.key, **measured(partial(metric.read, record))}
        keys = self.score_keys(job, record, self.clip_metrics)
        for metric, (_, key, _) in zip(self.clip_metrics, keys, strict=True):
            yield metric.spec, self.scores.get(key)
        if job.key in self.swaps:
            swap_keys = {protocol: key for protocol, key, _ in self.swap_keys(job.key)}
            for metric in self.swap_metrics:
                if names := self.remade(metric.spec, job.key):
                    failure = self._swap_failure(job.key, names)
                    yield metric.spec, self.scores.get(swap_keys.get(metric.spec.id, ""), failure)

    def _swap_failure(self, base: str, names: Iterable[str]) -> Record | None:
        """Return a record that says which of the clips made again failed, or None when none did."""
        for name in names:
            record = self.generated.get(self.swaps[base][name].key)
            if record is not None and record["status"] != "ok":
                how = (
                    name if name.startswith(REPEAT) else "silent sound" if name == "silence" else f"swapped {name}"
                )
                detail = f"the clip with {how} failed: {record['detail']}"
                return {"status": "error", "reason": record["cause"], "detail": detail}
        return None


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
