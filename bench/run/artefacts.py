"""What a run is about, by name: clips, features, scores and set values of a plan, and the keys of their records.

A key is known once what it is made from is: scores are named by the content of the clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.catalogue import extractors, protocol_digest
from bench.core.keys import digest
from bench.core.spec import REMADE, Device, ExtractorSpec, MetricSpec, Sample
from bench.core.views import ClipMetric, SetMetric
from bench.execute.tasks import CPU_LANE, ClipRef, Lane
from bench.run.fit import Fitting, Look, fitting
from bench.run.plan import REPEAT, Job, Plan
from bench.store.blobs import Blob
from bench.store.home import Home
from bench.store.records import Kind, Record

Cell = tuple[str, str, int]
KeyedProtocol = tuple[str, str, dict[str, Any]]  # protocol id, record key, the key's fields


class Artefacts:
    """The names of everything a run makes.

    Args:
        plan: the clips to make.
        metrics: those that can run here.
        home: the store.
        gpu: the lane of workers that run metric networks on a GPU, or None when there is none.

    Attributes:
        generated, scores, sets: the records that are there, by key.
        settled: number of the plan's clips whose scores are all there, or that failed.
    """

    def __init__(
        self, plan: Plan, metrics: Sequence[ClipMetric | SetMetric], home: Home, gpu: Lane | None = None
    ) -> None:
        self.plan = plan
        self.home = home
        self.gpu = gpu
        self.clip_metrics: list[Any] = [
            m for m in metrics if m.spec.kind == "clip" and not m.spec.remade and "record" not in m.spec.needs
        ]
        self.record_metrics: list[Any] = [m for m in metrics if "record" in m.spec.needs]
        self.swap_metrics = [m for m in metrics if m.spec.remade]
        self.set_metrics = [m for m in metrics if m.spec.kind == "set"]
        self.features = _extractors(metrics)
        self.set_features = _extractors(self.set_metrics)
        self.reference_features = _extractors(
            m for m in metrics if "reference" in m.spec.needs or m.spec.kind == "set"
        )
        self.swaps = plan.swaps if self.swap_metrics else {}
        self.cell_jobs: dict[Cell, list[Job]] = defaultdict(list)
        for job, cell in zip(plan.jobs, plan.cells, strict=True):
            self.cell_jobs[cell].append(job)
        self.records: dict[Kind, dict[str, Record]] = {"gen": {}, "score": {}, "set": {}, "feature": {}}
        self.generated = self.records["gen"]
        self.scores = self.records["score"]
        self.sets = self.records["set"]
        self.settled = 0
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._protocol_digests = {m.spec.id: protocol_digest(m) for m in metrics}
        self._samples = {sample.id: sample for sample in plan.split.samples}

    @property
    def specs(self) -> list[MetricSpec | ExtractorSpec]:
        """What the run's metrics and the extractors they read say about themselves."""
        known = extractors()
        metrics = [m.spec for m in (*self.clip_metrics, *self.swap_metrics, *self.set_metrics)]
        return [*metrics, *(known[name].spec for name in self.features)]

    def device(self, spec: MetricSpec | ExtractorSpec) -> Device:
        """Return where a metric or extractor is computed in this run."""
        return spec.device if self.gpu is not None else "cpu"

    def extractors_on(self, device: Device, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the named extractors that are computed on a device."""
        known = extractors()
        return tuple(name for name in names if self.device(known[name].spec) == device)

    def lane(self, device: Device) -> Lane:
        """Return the lane of metric tasks on a device."""
        return self.gpu if self.gpu is not None and device == "gpu" else CPU_LANE

    def sample(self, job: Job) -> Sample:
        """Return the job's sample with nothing closed by a gate."""
        return self._samples[job.sample.id]

    def reference(self, job: Job) -> ClipRef | None:
        """Return the ground truth a job's clip is compared with, at the size at which they are compared."""
        sample = self.sample(job)
        if sample.reference is None:
            return None
        whole = ClipRef(
            sample.digests["reference"],
            sample.reference,
            _picture(sample),
            sample.truth,
            frames=sample.frames,
            picture=sample.digests.get("image", ""),
        )
        return self._looked_at(whole, self.fit(job).reference)

    def stored(self, job: Job, record: Mapping[str, Any]) -> ClipRef:
        """Return the stored clip of a job as it is."""
        blob = Blob(**record["clip"])
        sample = self.sample(job)
        path, picture = self.home.blobs.path(blob), sample.digests.get("image", "")
        return ClipRef(blob.sha256, path, _picture(sample), sample.truth, picture=picture)

    def clip_ref(self, job: Job, record: Mapping[str, Any]) -> ClipRef:
        """Return the stored clip of a job as it is scored: at a size, and with a sound."""
        sample = self.sample(job)
        whole = self.stored(job, record)
        driving = sample.audio if self.plan.sound == "driving" else None
        if driving is not None:
            heard = digest([whole.sha256, "heard with", sample.digests.get("audio", "")])
            whole = replace(whole, sha256=heard, sound=driving)
        return self._looked_at(whole, self.fit(job).clip)

    def fit(self, job: Job) -> Fitting:
        """Return how a job's clip and its ground truth are brought to one size."""
        record = self.generated.get(job.key)
        sample = self.sample(job)
        if record is None or record["status"] != "ok" or sample.reference is None:
            return Fitting()
        made = int(record["width"]), int(record["height"])
        if not self.plan.fit and sample.given in (None, made):
            return fitting("", made, made, sample.given)
        if sample.reference not in self._sizes:
            from bench.media.probe import probe

            found = probe(sample.reference)
            self._sizes[sample.reference] = found.width, found.height
        return fitting(self.plan.fit, made, self._sizes[sample.reference], sample.given)

    def adapted(self, job: Job) -> str:
        """Return what was done to a clip or its ground truth before they were compared; empty: nothing."""
        heard = "heard with the driving sound" if self.plan.sound == "driving" else ""
        return "; ".join(filter(None, (self.fit(job).words, heard)))

    @staticmethod
    def _looked_at(clip: ClipRef, look: Look | None) -> ClipRef:
        if look is None:
            return clip
        name = digest([clip.sha256, look.size, look.cropped])
        return replace(clip, sha256=name, size=look.size, cropped=look.cropped)

    def swapped(self, base: str) -> dict[str, ClipRef]:
        """Return the clips of a sample made again that are there."""
        made = {name: (job, self.generated.get(job.key)) for name, job in self.swaps[base].items()}
        return {
            name: self.stored(job, record)
            for name, (job, record) in made.items()
            if record is not None and record["status"] == "ok"
        }

    def remade(self, spec: MetricSpec, base: str) -> tuple[str, ...]:
        """Return the names of the clips made again that a metric reads of a job; none where it does not apply."""
        there = self.swaps.get(base, {})
        names = [name for need in spec.remade for name in REMADE[need]]
        if "repeats" in spec.remade:
            names += [name for name in there if name.startswith(REPEAT)]
        return tuple(names) if set(names) <= set(there) else ()

    def pairs(self, cell: Cell) -> list[Job]:
        """Return the cell's jobs that have a clip in the store and a ground truth to compare it with."""
        return [
            job
            for job in self.cell_jobs[cell]
            if (record := self.generated.get(job.key)) is not None
            and record["status"] == "ok"
            and self.sample(job).reference is not None
        ]

    def set_key(self, spec: MetricSpec, pairs: Sequence[Job]) -> tuple[str, dict[str, Any]]:
        """Return the record key of a set metric over the clips of jobs, and the key's fields."""
        fields = {
            "kind": "set",
            "protocol": spec.id,
            "protocol_digest": self._protocol_digests[spec.id],
            "generated": [self.clip_ref(job, self.generated[job.key]).sha256 for job in pairs],
            "reference": [ref.sha256 for job in pairs if (ref := self.reference(job)) is not None],
        }
        if _sees_picture(spec):
            fields["images"] = [self.sample(job).digests.get("image", "") for job in pairs]
        return digest(fields), fields

    def score_keys(
        self, job: Job, record: Mapping[str, Any], metrics: Iterable[ClipMetric]
    ) -> list[KeyedProtocol]:
        """Return protocol, record key and the key's fields of clip metrics of a job's clip."""
        sample = self.sample(job)
        clip, truth = self.clip_ref(job, record), self.reference(job)
        keys = []
        for metric in metrics:
            spec = metric.spec
            fields = {
                "kind": "score",
                "protocol": spec.id,
                "protocol_digest": self._protocol_digests[spec.id],
                "clip": clip.sha256,
                "reference": truth.sha256 if truth is not None and "reference" in spec.needs else "",
                "image": sample.digests.get("image", "") if _sees_picture(spec) else "",
            }
            keys.append((spec.id, digest(fields), fields))
        return keys

    def swap_keys(self, base: str) -> list[KeyedProtocol]:
        """Return the score keys that need a clip and others of its sample, of metrics for which all are there."""
        own = self.generated.get(base)
        if base not in self.swaps or own is None or own["status"] != "ok":
            return []
        made = self.swapped(base)
        keys = []
        for metric in self.swap_metrics:
            names = self.remade(metric.spec, base)
            if not names or not set(names) <= set(made):
                continue
            fields = {
                "kind": "score",
                "protocol": metric.spec.id,
                "protocol_digest": self._protocol_digests[metric.spec.id],
                "clip": own["clip"]["sha256"],
                "swapped": {name: made[name].sha256 for name in names},
            }
            if _sees_picture(metric.spec):
                fields["image"] = made[names[0]].picture
            keys.append((metric.spec.id, digest(fields), fields))
        return keys


def _extractors(metrics: Iterable[ClipMetric | SetMetric]) -> tuple[str, ...]:
    """Return the extractors that metrics read."""
    return tuple(dict.fromkeys(name for metric in metrics for name in metric.spec.features))


def _sees_picture(spec: MetricSpec) -> bool:
    """Return whether a metric, or an extractor that it reads, looks at the sample's reference picture."""
    return "image" in spec.needs or any(extractors()[name].spec.meets for name in spec.features)


def _picture(sample: Sample) -> Path | None:
    """Return the reference picture; a video scored on its own has none."""
    return sample.image if "image" in sample.digests else None
