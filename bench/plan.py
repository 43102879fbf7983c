"""From specs to jobs: methods x gates x samples x repeats, each with its key and nothing else decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.catalogue import MethodEntry
from bench.errors import UsageError
from bench.execute.tasks import CPU_LANE, GenerateTask, IngestTask, Lane
from bench.keys import digest, file_digest, sample_seed
from bench.spec import GATES, NO_GATE, Gate, MethodSpec, Sample, Split

Job = GenerateTask | IngestTask
DEFAULT_LIMIT = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run will make.

    Attributes:
        split: the samples.
        methods: specs by name, in the order asked for.
        jobs: one per clip, in a fixed order.
        cells: `(method, gate, repeat)` of each job, parallel to `jobs`.
        seed, repeats: what the jobs' seeds derive from.
    """

    split: Split
    methods: Mapping[str, MethodSpec]
    jobs: tuple[Job, ...]
    cells: tuple[tuple[str, str, int], ...]
    seed: int
    repeats: int
    digest: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest([self.split.name, [job.key for job in self.jobs]]))

    @property
    def seconds(self) -> float:
        """Expected time of all jobs on one worker."""
        return sum(job.cost for job in self.jobs)


def plan_generation(
    split: Split,
    methods: Sequence[MethodEntry],
    gates: Sequence[str] | None = None,
    seed: int = 0,
    repeats: int = 1,
    limit: float = DEFAULT_LIMIT,
) -> Plan:
    """List the clips to make.

    Args:
        split: samples and their domain.
        methods: in the order rows should appear.
        gates: names to keep, or None for all a method supports. Control rows are always kept.
        seed: base seed.
        repeats: clips per (method, gate, sample) with different seeds; 1 for methods that ignore the seed.
        limit: wall limit of one job in seconds.

    Raises:
        UsageError: a gate is unknown, or no method supports what was asked for.
    """
    for name in gates or ():
        if name not in GATES:
            raise UsageError(f"There is no gate called '{name}'.", f"Known: {', '.join(GATES)}")
    jobs: list[Job] = []
    cells: list[tuple[str, str, int]] = []
    contents: dict[tuple[str, str, bool], tuple[Sample, str]] = {}
    for entry in methods:
        spec = entry.spec
        if split.domain not in spec.domains:
            raise UsageError(
                f"Method '{spec.name}' works on {', '.join(spec.domains)} faces, and split '{split.name}' is"
                f" {split.domain}.",
                "Leave it out of --methods or choose another split.",
            )
        control = spec.kind == "control"
        identity = digest(
            ["gen/1", spec.name, spec.version, entry.code, spec.settings, [w.sha256 for w in spec.weights]]
        )
        lane = _lane(spec)
        partners = _partners(entry, split)
        for gate in (GATES[g] for g in spec.gates):
            if gates and gate.name not in gates and not control:
                continue
            for sample in split.samples:
                sample_in = partners.get(sample.id, sample)
                cached = contents.get((sample_in.id, gate.name, control)) if not partners else None
                shown, content = cached or _shown(sample_in, gate, control)
                if cached is None and not partners:
                    contents[sample_in.id, gate.name, control] = (shown, content)
                if not _feasible(shown, gate):
                    continue
                for repeat in range(repeats if spec.seeded else 1):
                    number = sample_seed(seed, sample.dataset, sample.id, repeat) if spec.seeded else 0
                    fields = {
                        "kind": "gen",
                        "method": spec.name,
                        "method_digest": identity,
                        "gate": gate.name,
                        "content": content,
                        "seed": number,
                    }
                    jobs.append(
                        GenerateTask(
                            key=digest(fields),
                            method=spec.name,
                            target=entry.target,
                            sample=shown,
                            sound=sample_in.audio,
                            gate=gate,
                            seed=number,
                            repeat=repeat,
                            fields=fields,
                            lane=lane,
                            cost=sample.frames * spec.seconds_per_frame,
                            limit=limit,
                        )
                    )
                    cells.append((spec.name, gate.name, repeat))
    if not jobs:
        raise UsageError(
            "Nothing to do: no chosen method supports the chosen gates on this split's samples.",
            "See: bench list methods",
        )
    return Plan(split, {e.spec.name: e.spec for e in methods}, tuple(jobs), tuple(cells), seed, repeats)


def plan_ingestion(split: Split, name: str, files: Mapping[str, Path], gate: str) -> Plan:
    """List clips made elsewhere that are to be taken in.

    Args:
        split: what they are compared with.
        name: row name.
        files: clip by sample id; samples without a file have no job.
        gate: which signals the maker says it used.
    """
    spec = MethodSpec(name, "1", (gate,), "external", seeded=False, summary="videos made elsewhere")
    jobs: list[Job] = []
    for sample in split.samples:
        if sample.id not in files:
            continue
        path = files[sample.id]
        fields = {
            "kind": "ingest",
            "method": name,
            "file": file_digest(path) if path.is_file() else "",
            "content": sample.digests.get("reference", ""),
        }
        jobs.append(IngestTask(digest(fields), name, path.resolve(), sample, fields))
    return Plan(split, {name: spec}, tuple(jobs), tuple((name, gate, 0) for _ in jobs), 0, 1)


def _shown(sample: Sample, gate: Gate, control: bool) -> tuple[Sample, str]:
    """Return the sample as a method may see it, and the digest of that content."""
    open_inputs = {"image"}
    if control:
        open_inputs |= {"audio", "video", "reference"}
    if gate.audio:
        open_inputs.add("audio")
    if gate.visual:
        open_inputs.add("video")
    shown = dataclasses.replace(
        sample,
        audio=sample.audio if "audio" in open_inputs else None,
        video=sample.video if "video" in open_inputs else None,
        reference=sample.reference if control else None,
        truth=sample.truth if control or gate.visual else None,
    )
    digests: dict[str, Any] = {k: v for k, v in sample.digests.items() if k in open_inputs}
    return shown, digest([digests, sample.frames, sample.fps, sample.dataset])


def _feasible(sample: Sample, gate: Gate) -> bool:
    if gate is NO_GATE:
        return sample.reference is not None
    return (not gate.audio or sample.audio is not None) and (not gate.visual or sample.video is not None)


def _partners(entry: MethodEntry, split: Split) -> dict[str, Sample]:
    """Return, for the shuffled-audio control, each sample with another sample's audio."""
    if entry.spec.settings.get("audio_from") != "partner":
        return {}
    from bench.methods.controls import partner

    partners = partner(split.samples)
    return {
        sample.id: dataclasses.replace(
            sample,
            audio=partners[sample.id].audio,
            digests={**sample.digests, "audio": partners[sample.id].digests["audio"]},
        )
        for sample in split.samples
        if sample.id in partners
    }


def _lane(spec: MethodSpec) -> Lane:
    if spec.gpus == 0 and spec.cpus == 1:
        return CPU_LANE
    return Lane(spec.name, spec.cpus, spec.gpus, spec.memory_gb)
