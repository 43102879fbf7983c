"""The nouns of a benchmark: gates, samples, splits, methods, metrics, weights and outcomes.

All of them are frozen dataclasses without behaviour beyond validation, so they can be hashed into keys,
sent to workers and compared. This module imports nothing of the project's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

Domain = Literal["real", "synthetic"]
Direction = Literal["higher", "lower", "none"]
Device = Literal["cpu", "gpu"]

SAMPLES_PER_FRAME = 640
"""Of 16 kHz sound in one of a clip's 25 frames per second."""

REMADE: Mapping[str, tuple[str, ...]] = {
    "swapped": ("audio", "visual"),
    "silenced": ("silence",),
    "repeats": (),
}
"""What a metric may need beside a clip: the same sample made again. By need, the names of those clips in
`ClipView.swapped`; other seeds are called `repeat 1`, `repeat 2` ..."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Which control signals a method may see.

    Attributes:
        name: `audio`, `visual`, `audio+visual`, or `none` (control rows only).
        audio: the driving speech is passed on.
        visual: the driving video is passed on.
    """

    name: str
    audio: bool
    visual: bool


AUDIO = Gate("audio", True, False)
VISUAL = Gate("visual", False, True)
AUDIO_VISUAL = Gate("audio+visual", True, True)
NO_GATE = Gate("none", False, False)
GATES: Mapping[str, Gate] = {g.name: g for g in (AUDIO, VISUAL, AUDIO_VISUAL, NO_GATE)}


@dataclass(frozen=True, slots=True)
class Sample:
    """One generation task.

    Attributes:
        dataset: name of the data set, e.g. `celebv-hq`.
        split: name of the split inside it, e.g. `test`.
        id: unique within the split; letters, digits, `.`, `_`, `-` only (it becomes part of file names).
        identity: who is shown; samples of one identity are not independent and are clustered by it.
        image: reference picture (any format PyAV reads).
        audio: driving speech, or None.
        video: driving video, or None.
        reference: ground-truth video the result is compared with, or None (no-reference metrics only).
        frames: expected number of output frames at `fps`.
        fps: frame rate every method is asked for; 25 everywhere.
        digests: sha256 (hex) of the files above, keyed `image`, `audio`, `video`, `reference`.
        truth: path of a `.npz` with exact ground truth (synthetic world), or None.
        given: width and height of what methods are given, where the reference has another size; else None.
    """

    dataset: str
    split: str
    id: str
    identity: str
    image: Path
    audio: Path | None
    video: Path | None
    reference: Path | None
    frames: int
    fps: float = 25.0
    digests: Mapping[str, str] = field(default_factory=dict)
    truth: Path | None = None
    given: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file or item that could not become a sample, and why."""

    item: str
    reason: str


@dataclass(frozen=True, slots=True)
class Split:
    """A list of samples with the domain that decides which metric weights apply.

    Attributes:
        name: what the user typed after `--split`.
        domain: `real` uses the official metric weights, `synthetic` the embedded ones.
        samples: in a fixed order (by id).
        rejected: what was looked at and left out.
        notes: sentences a report must print beside numbers from this split.
    """

    name: str
    domain: Domain
    samples: tuple[Sample, ...]
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightRef:
    """A weight file by content, so that a result can say exactly which numbers produced it."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Option:
    """Something about a method that its users may set: `--set METHOD.NAME=VALUE`.

    Attributes:
        default: int, float, bool or str that it is unless it is set; None where the method decides by itself.
        kind: `int`, `float`, `bool` or `str`; that of the default where there is one.
        low, high: the smallest and the largest number allowed, both included.
        choices: the texts allowed; any if empty.
        summary: one line, with the unit.

    Raises:
        ValueError: there is neither default nor kind, or the default is not allowed.
    """

    default: Any = None
    kind: Literal["", "int", "float", "bool", "str"] = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    summary: str = ""

    def __post_init__(self) -> None:
        kind = self.kind or type(self.default).__name__
        if kind == "NoneType":
            raise ValueError("an option needs a default, or a kind: int, float, bool or str")
        object.__setattr__(self, "kind", kind)
        if self.default is not None and (wrong := self.refuses(self.default)):
            raise ValueError(f"the default {self.default!r} {wrong}")

    def refuses(self, value: object) -> str:
        """Say what is wrong with a value: `is not an integer`; empty when nothing is."""
        types: Mapping[str, tuple[type, ...]] = {
            "int": (int,), "float": (float, int), "bool": (bool,), "str": (str,)
        }  # fmt: skip
        if not isinstance(value, types[self.kind]) or (self.kind != "bool" and isinstance(value, bool)):
            return f"is not {_KINDS[self.kind]}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                return "is not finite"
            if self.low is not None and value < self.low:
                return f"is less than {self.low:g}"
            if self.high is not None and value > self.high:
                return f"is more than {self.high:g}"
        if self.choices and value not in self.choices:
            return f"is none of {', '.join(self.choices)}"
        return ""


_KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a text"}


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """What the harness must know about a method before it runs.

    Attributes:
        name: unique, e.g. `mouth-warp`.
        version: bumped by hand when the output changes for a reason no digest sees.
        gates: names of the gates it supports, see `GATES`.
        kind: `control` (a yardstick, never ranked), `classical`, `model`, `external`, or `stand-in` (an outside
            system with a rehearsal's random weights: never ranked, and no reference holds it).
        domains: which domains it can work on.
        settings: everything else that changes its output; part of the key.
        weights: weight files it loads; part of the key.
        cpus, gpus: what one worker is given.
        memory_gb: what it should find there. Asked of a cluster for methods with workers of their own, those that
            need a GPU or several CPUs.
        accelerator: type of GPU as Ray names it, e.g. `H100`; any if empty.
        labels: of nodes that may run it, as Ray's label selectors, e.g. `{"region": "in(eu,us)"}`.
        resources: a cluster's own resources it takes, e.g. `{"licence": 1}`.
        seconds_per_frame: rough cost for ordering and estimates, replaced by measured values.
        summary: one line for `bench list methods`.
        seeded: False when the output does not depend on the seed (repeats are then pointless).
        batch: clips to hand out at once, see `bench.methods.base.BatchMethod`; 1 for methods without batches.
        default: run by a plain `bench run` wherever it is ready.
        options: what a user may set. The values arrive as keyword arguments of the class, join `settings` and the
            row's name (`nod+strength=8`), and so are part of the key.
        note: what a reader of its numbers has to know; printed under tables, no part of the key.
    """

    name: str
    version: str
    gates: tuple[str, ...]
    kind: Literal["control", "classical", "model", "external", "stand-in"]
    domains: tuple[Domain, ...] = ("real", "synthetic")
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[WeightRef, ...] = ()
    cpus: int = 1
    gpus: float = 0.0
    memory_gb: float = 2.0
    seconds_per_frame: float = 0.02
    summary: str = ""
    seeded: bool = True
    batch: int = 1
    default: bool = True
    note: str = ""
    accelerator: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """One number a metric returns.

    Attributes:
        key: key in the mapping returned by the metric, e.g. `sync_c`.
        label: table heading, e.g. `Sync-C`.
        direction: whether higher or lower is better; `none` for descriptive numbers (never ranked).
        unit: e.g. `dB`, `deg`, `frames`; empty when unit-less.
        digits: decimals in tables.
        scale: factor applied for display only (papers print some columns x1e-2).
        identical: stands for "no difference at all", where the true value is infinite; printed in words.
    """

    key: str
    label: str
    direction: Direction
    unit: str = ""
    digits: int = 3
    scale: float = 1.0
    identical: float | None = None


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A protocol: the name of a number together with everything that decides it.

    Attributes:
        id: protocol id, `family/protocol`, e.g. `sync/longest_track`.
        version: bumped by hand when the numbers change.
        kind: `clip` (one value per clip, averaged over clips) or `set` (one value per set of clips).
        columns: what it returns.
        domains: which domains it applies to.
        needs: what a clip must offer: any of `audio`, `reference`, `image` (the sample's reference picture),
            `swapped` (clips of the sample made with another sample's audio or driving video), `silenced` (one made
            with silent sound), `repeats` (those of other seeds), `record` (what was recorded when the clip was
            made; the metric then has a method `read` that takes it).
        features: extractor names it reads; extracted once per clip and shared.
        params: every parameter of the protocol; part of the key.
        weights: weight files behind it; part of the key.
        default: computed by a plain `bench run`.
        summary: one line for `bench list metrics`.
        source: paper and section, or the reference implementation it reproduces.
        device: `gpu` when it works on pixels and a GPU does that faster. Never part of the key.
    """

    id: str
    version: str
    kind: Literal["clip", "set"]
    columns: tuple[Column, ...]
    domains: tuple[Domain, ...] = ("real", "synthetic")
    needs: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[WeightRef, ...] = ()
    default: bool = True
    summary: str = ""
    source: str = ""
    device: Device = "cpu"

    @property
    def remade(self) -> tuple[str, ...]:
        """What it needs of `REMADE`."""
        return tuple(need for need in self.needs if need in REMADE)


@dataclass(frozen=True, slots=True)
class ExtractorSpec:
    """A per-clip feature that several metrics share (faces, landmarks, network activations).

    Attributes:
        name: e.g. `faces`, `inception2048`.
        version: bumped by hand when the output changes.
        params, weights: part of the feature's key.
        packages: optional packages it imports, e.g. `("mediapipe",)`.
        device: `gpu` when it is a network that a GPU runs faster. Never part of the key.
        hears: whether it reads the sound. Features of pictures alone are shared by clips that differ in sound
            only, such as controls and variants with another sound track.
        meets: whether it looks for the person of the sample's reference picture, which is then part of the key.
    """

    name: str
    version: str
    params: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[WeightRef, ...] = ()
    packages: tuple[str, ...] = ()
    device: Device = "cpu"
    hears: bool = True
    meets: bool = False


class Cause(StrEnum):
    """Why a job failed; decides whether it is tried again."""

    INFRA = "infra"  # a worker or node died: tried again elsewhere, three times
    OOM = "oom"  # out of memory: tried once more, alone
    CRASH = "crash"  # the job took its process down: tried once more
    TIMEOUT = "timeout"  # wall limit: tried once more
    ENVIRONMENT = "environment"  # the method cannot be set up: the method is quarantined
    INPUT = "input"  # the sample is unusable: a result
    NOT_DELIVERED = "not_delivered"  # a folder of videos has none for this sample: a result
    METHOD = "method"  # the method failed or produced an invalid clip: a result


class Reason(StrEnum):
    """Why a clip has no value under a metric. A result, not a failure."""

    NO_FACE = "no_face"
    NO_AUDIO = "no_audio"
    NO_SPEECH = "no_speech"
    NO_SILENCE = "no_silence"
    NO_BACKGROUND = "no_background"
    NO_REFERENCE = "no_reference"
    TOO_SHORT = "too_short"
    LENGTH_MISMATCH = "length_mismatch"
    SHAPE_MISMATCH = "shape_mismatch"
    INSUFFICIENT_SAMPLES = "insufficient_samples"
    MISSING_WEIGHTS = "missing_weights"
    MISSING_PACKAGE = "missing_package"
    DECODE_ERROR = "decode_error"
    NOT_FINITE = "not_finite"


MISSING = frozenset({Reason.MISSING_WEIGHTS, Reason.MISSING_PACKAGE})
"""States of a machine, not results: never recorded, so that they are tried again once it has what it needs."""


class Unscored(Exception):
    """Raised by a metric or extractor that has no value for a clip.

    Args:
        reason: the code stored with the row.
        detail: what exactly, and for missing things the command that gets them.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)
