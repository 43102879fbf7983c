"""From specs to jobs: methods x gates x samples x repeats, each with its key and nothing else decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.catalogue import MethodEntry, is_control
from bench.core import registry
from bench.core.errors import UsageError
from bench.core.keys import digest, file_digest, sample_seed
from bench.core.spec import AUDIO_VISUAL, GATES, NO_GATE, REMADE, Gate, MethodSpec, Sample, Split
from bench.execute.tasks import CPU_LANE, GenerateTask, IngestTask, Lane
from bench.run.fit import check_fit

Job = GenerateTask | IngestTask
DEFAULT_LIMIT = 3600.0
SOUNDS = ("own", "driving")
REPEAT = "repeat "
"""Begins the name of a clip of another seed among those made again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run will make.

    Attributes:
        split: the samples.
        methods: specs by name, in the order asked for.
        jobs: one per clip, in a fixed order.
        cells: `(method, gate, repeat)` of each job, parallel to `jobs`.
        seed, repeats: what the jobs' seeds derive from.
        swaps: for the key of a job, the same sample made again, by name (see `bench.core.spec.REMADE`); only when
            a metric needs them.
        fit: how clips of another size than their reference's are compared, see `bench.run.fit`.
        sound: what clips made elsewhere are heard with: their `own`, or the sample's `driving` sound.
    """

    split: Split
    methods: Mapping[str, MethodSpec]
    jobs: tuple[Job, ...]
    cells: tuple[tuple[str, str, int], ...]
    seed: int
    repeats: int
    swaps: Mapping[str, Mapping[str, GenerateTask]] = field(default_factory=dict)
    fit: str = ""
    sound: str = "own"
    digest: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        asked = [v for v in (self.fit, self.sound) if v not in ("", "own")]
        object.__setattr__(self, "digest", digest([self.split.name, [job.key for job in self.jobs], *asked]))

    @property
    def targets(self) -> set[str]:
        """What workers load to generate, see `bench.catalogue.load_method`."""
        return {job.target for job in self.jobs if isinstance(job, GenerateTask)}

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
    swaps: Collection[str] = (),
    lossless: bool = False,
    fit: str = "",
    silence: Mapping[str, Sample] | None = None,
) -> Plan:
    """List the clips to make.

    Args:
        split: samples and their domain.
        methods: in the order rows should appear.
        gates: names to keep, or None for all a method supports. Control rows are always kept.
        seed: base seed.
        repeats: clips per (method, gate, sample) with different seeds; 1 for methods that ignore the seed.
        limit: wall limit of one job in seconds.
        swaps: what is made again, see `bench.core.spec.REMADE`: every audio+visual clip of a method with another
            sample's audio, and with another sample's driving video (`swapped`), or with silent sound
            (`silenced`); `repeats` makes nothing, but puts the seeds of a sample together.
        lossless: encode the clips without loss.
        fit: see `bench.run.fit`.
        silence: for each sample's id, the sample with silent sound; needed for `silenced`.

    Raises:
        UsageError: a gate or a fit is unknown, two methods share a name, or no method supports what was asked for.
    """
    check_gates(gates or ())
    check_fit(fit)
    methods = _distinct(methods)
    jobs: list[Job] = []
    cells: list[tuple[str, str, int]] = []
    swapped: dict[str, dict[str, GenerateTask]] = {}
    maker = _Maker(seed, limit, lossless)
    for entry in methods:
        spec = entry.spec
        if split.domain not in spec.domains:
            raise UsageError(
                f"Method '{spec.name}' works on {', '.join(spec.domains)} faces, and split '{split.name}' is"
                f" {split.domain}.",
                "Leave it out of --methods or choose another split.",
            )
        fed = _fed_by_partner(spec)
        others = _partners(split, fed != "audio") if "swapped" in swaps or fed else {}
        for gate in (GATES[g] for g in spec.gates):
            if gates and gate.name not in gates and spec.kind != "control":
                continue
            for sample in split.samples:
                other = others.get(sample.id)
                if fed:
                    if other is None:
                        continue
                    sample = swap(sample, other, fed)
                if not _feasible(sample, gate):
                    continue
                for repeat in range(repeats if spec.seeded else 1):
                    job = maker.job(entry, sample, gate, repeat)
                    jobs.append(job)
                    cells.append((spec.name, gate.name, repeat))
                    if spec.kind == "control":
                        continue
                    again = swapped.setdefault(job.key, {})
                    if gate is AUDIO_VISUAL:
                        if "swapped" in swaps and other is not None:
                            for control in REMADE["swapped"]:
                                again[control] = maker.job(entry, swap(sample, other, control), gate, repeat)
                        if "silenced" in swaps and silence is not None and sample.id in silence:
                            mute = swap(sample, silence[sample.id], "audio")
                            again["silence"] = maker.job(entry, mute, gate, repeat)
                    if "repeats" in swaps and repeat:
                        first = maker.job(entry, sample, gate, 0)
                        swapped[first.key][f"{REPEAT}{repeat}"] = job
    if not jobs:
        raise UsageError(
            "Nothing to do: no chosen method supports the chosen gates on this split's samples.",
            "See: bench list methods",
        )
    specs = {e.spec.name: e.spec for e in methods}
    remade = {key: made for key, made in swapped.items() if made}
    return Plan(split, specs, tuple(jobs), tuple(cells), seed, repeats, remade, fit)


def _distinct(methods: Sequence[MethodEntry]) -> list[MethodEntry]:
    """Return each method once.

    Raises:
        UsageError: two methods share a name, or one is called like a control it is not: rows would be pooled.
    """
    controls = {name: target for name, target in registry.METHODS.items() if is_control(name)}
    found: dict[str, MethodEntry] = {}
    for entry in methods:
        name = entry.spec.name
        if entry.target != controls.get(name, entry.target):
            raise UsageError(
                f"'{name}' is the name of a control row, and {entry.place} is not that control.",
                "Give it another name in its spec.",
            )
        known = found.setdefault(name, entry)
        if (known.target, known.code) != (entry.target, entry.code):
            raise UsageError(
                f"Two methods are called '{name}': {known.place} and {entry.place}. Their rows could not be told"
                " apart.",
                "Give one of them another name in its spec.",
            )
    return list(found.values())


def plan_ingestion(
    split: Split, name: str, files: Mapping[str, Path], gate: str, fit: str = "", sound: str = "own"
) -> Plan:
    """List clips made elsewhere that are to be taken in.

    Args:
        split: what they are compared with.
        name: row name.
        files: clip by sample id; a sample's clip that is not there is counted as not delivered.
        gate: which signals the maker says it used.
        fit: see `bench.run.fit`.
        sound: `own` or `driving`, see `Plan`.

    Raises:
        UsageError: the name belongs to a control row, or an option has no such value.
    """
    check_fit(fit)
    if sound not in SOUNDS:
        raise UsageError(f"--sound is {' or '.join(SOUNDS)}, not '{sound}'.")
    if is_control(name):
        raise UsageError(
            f"'{name}' is the name of a control row, so videos made elsewhere cannot be called that.",
            "Give another name: --as NAME",
        )
    spec = MethodSpec(name, "1", (gate,), "external", seeded=False, summary="videos made elsewhere")
    jobs: list[Job] = []
    for sample in split.samples:
        path = files.get(sample.id)
        fields = {
            "kind": "ingest",
            "method": name,
            "file": "" if path is None else file_digest(path),
            "content": sample.digests.get("reference", ""),
        }
        if path is None:  # of the sample, so that two that are missing are two
            fields["sample"] = sample.id
        jobs.append(IngestTask(digest(fields), name, None if path is None else path.resolve(), sample, fields))
    marked = (*split.notes, f"{name}: videos made elsewhere; submitted, not reproduced here.")
    if sound == "driving":
        marked += (f"{name}: heard with the samples' driving sound, not with the videos' own.",)
    split = dataclasses.replace(split, notes=marked)
    return Plan(split, {name: spec}, tuple(jobs), tuple((name, gate, 0) for _ in jobs), 0, 1, {}, fit, sound)


def check_gates(names: Iterable[str]) -> None:
    """Refuse unknown gates.

    Raises:
        UsageError: naming the known ones.
    """
    for name in names:
        if name not in GATES:
            raise UsageError(f"There is no gate called '{name}'.", f"Known: {', '.join(GATES)}")


class _Maker:
    """Makes jobs; digests that many jobs share are computed once."""

    def __init__(self, seed: int, limit: float, lossless: bool) -> None:
        self._lossless = lossless
        self._seed = seed
        self._limit = limit
        self._methods: dict[str, str] = {}

    def job(self, entry: MethodEntry, sample: Sample, gate: Gate, repeat: int) -> GenerateTask:
        spec = entry.spec
        shown = _shown(sample, gate, spec.kind == "control")
        number = sample_seed(self._seed, sample.dataset, sample.id, repeat) if spec.seeded else 0
        fields = {
            "kind": "gen",
            "method": spec.name,
            "method_digest": self._method(entry),
            "gate": gate.name,
            "content": digest([shown.digests, sample.frames, sample.fps, sample.dataset]),
            "seed": number,
        }
        if self._lossless:
            fields["clips"] = "lossless, sound too"
        return GenerateTask(
            key=digest(fields),
            method=spec.name,
            target=entry.target,
            sample=shown,
            sound=sample.audio,
            gate=gate,
            seed=number,
            repeat=repeat,
            fields=fields,
            lane=_lane(spec),
            cost=sample.frames * spec.seconds_per_frame,
            limit=self._limit,
            batch=spec.batch,
            method_code=entry.code,
            lossless=self._lossless,
        )

    def _method(self, entry: MethodEntry) -> str:
        spec = entry.spec
        if spec.name not in self._methods:
            weights = [w.sha256 for w in spec.weights]
            self._methods[spec.name] = digest(
                ["gen/1", spec.name, spec.version, entry.code, spec.settings, weights]
            )
        return self._methods[spec.name]


def swap(sample: Sample, other: Sample, control: str) -> Sample:
    """Return a sample driven by another sample's `audio` or driving video (`visual`).

    A swapped driving video has no ground truth of this sample to go with it, so `truth` follows the video.
    """
    role = "audio" if control == "audio" else "video"
    # Samples of a data set that is only planned, not prepared, have no digests.
    digests = {**sample.digests, **{k: v for k, v in other.digests.items() if k == role}}
    if control == "audio":
        return dataclasses.replace(sample, audio=other.audio, digests=digests)
    return dataclasses.replace(sample, video=other.video, truth=other.truth, digests=digests)


def _shown(sample: Sample, gate: Gate, control: bool) -> Sample:
    """Return the sample as a method may see it: digests too, so that a hidden file cannot change a key."""
    visible = {"image"}
    if control:
        visible |= {"audio", "video", "reference"}
    if gate.audio:
        visible.add("audio")
    if gate.visual:
        visible.add("video")
    return dataclasses.replace(
        sample,
        audio=sample.audio if "audio" in visible else None,
        video=sample.video if "video" in visible else None,
        reference=sample.reference if control else None,
        truth=sample.truth if control or gate.visual else None,
        digests={k: v for k, v in sample.digests.items() if k in visible},
    )


def _feasible(sample: Sample, gate: Gate) -> bool:
    if gate is NO_GATE:
        return sample.reference is not None
    return (not gate.audio or sample.audio is not None) and (not gate.visual or sample.video is not None)


def _fed_by_partner(spec: MethodSpec) -> str:
    """Return what of another sample a control is fed: `audio`, the `visual`, or nothing."""
    controls = {"audio_from": "audio", "video_from": "visual"}
    return next((control for key, control in controls.items() if spec.settings.get(key) == "partner"), "")


def _partners(split: Split, need_video: bool) -> Mapping[str, Sample]:
    """Return for each sample's id another one that has what is to be swapped."""
    from bench.methods.controls import partner

    return partner([s for s in split.samples if s.video is not None or not need_video])


def _lane(spec: MethodSpec) -> Lane:
    if spec.gpus == 0 and spec.cpus == 1 and not (spec.accelerator or spec.labels or spec.resources):
        return CPU_LANE
    labels, resources = tuple(sorted(spec.labels.items())), tuple(sorted(spec.resources.items()))
    return Lane(spec.name, spec.cpus, spec.gpus, spec.memory_gb, spec.accelerator, labels, resources)
