"""From what a user asks for to a plan and its metrics: shared by running and planning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from bench.catalogue import (
    MethodEntry,
    choose_metrics,
    find_method,
    match_metrics,
    require_available,
    require_ready,
    state,
)
from bench.core import registry
from bench.core.errors import MissingError, UsageError, did_you_mean
from bench.core.spec import Domain, Split
from bench.core.views import ClipMetric, SetMetric
from bench.data.silence import silenced
from bench.data.splits import load_split
from bench.execute.tasks import GenerateTask
from bench.metrics.precision import Precision
from bench.run.plan import DEFAULT_LIMIT, Plan, check_gates, plan_generation
from bench.store.home import Home
from bench.weights import lock, verify

CLIPS = ("canonical", "lossless")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the metrics to compute on it.

    Attributes:
        plan: the clips.
        metrics: the numbers.
        left_out: default methods that cannot run here, with what they need; nobody asked for them by name.
    """

    plan: Plan
    metrics: Sequence[ClipMetric | SetMetric]
    left_out: Mapping[str, str] = field(default_factory=dict)


def prepare_run(
    home: Home,
    split: str,
    subset: str | None = None,
    methods: Sequence[object] | None = None,
    gates: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    precision: Precision = Precision.FP32,
    seed: int = 0,
    repeats: int = 1,
    limit: float = DEFAULT_LIMIT,
    plan_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
    clips: str = "canonical",
    fit: str = "",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Prepared:
    """Load the split, find methods and metrics, and list the jobs.

    Args:
        home: the store.
        split, subset: see `bench.data.splits.load_split`.
        methods: names or objects, see `bench.catalogue.find_method`; None or none of them for the defaults.
        gates: names to keep, None for all.
        metrics: protocol ids, families or patterns; None for the defaults of the split's domain.
        precision: arithmetic of the metrics' networks.
        seed, repeats, limit: see `bench.run.plan.plan_generation`.
        plan_only: nothing will be made, so methods and data sets need not be prepared.
        progress: called with (done, total) while a split is made.
        clips: `canonical` or `lossless`.
        fit: see `bench.run.fit`.
        settings: values of methods' options, by method and name.

    Raises:
        UnknownName, UsageError, MissingError: something asked for does not exist, or cannot run here.
    """
    # Names are checked first: making a split takes seconds, and a typing error should not.
    wanted = _with_settings(methods or (), settings or {})
    for entry in wanted:
        if not entry.spec.gates:
            raise MissingError(
                f"{entry.spec.name} cannot be run: {state(entry.target)}",
                f"Score a folder of its videos: bench score DIR --split {split} --as {entry.spec.name}",
            )
    if not plan_only:
        require_ready(wanted)
    match_metrics(metrics or ())
    if clips not in CLIPS:
        raise UsageError(f"--clips is {' or '.join(CLIPS)}, not '{clips}'.")
    check_gates(gates or ())
    loaded = load_split(split, home, subset, progress, media=not plan_only)
    left_out: dict[str, str] = {}
    entries = wanted or _with_settings(default_methods(loaded, left_out), settings or {})
    chosen = choose_metrics(loaded.domain, metrics, precision)
    if metrics is not None:
        require_available(chosen, metrics)
    again = {need for m in chosen for need in m.spec.remade}
    silence = silenced(loaded.samples, home.ready().data / "silence") if "silenced" in again else None
    plan = plan_generation(loaded, entries, gates, seed, repeats, limit, again, clips == "lossless", fit, silence)
    return Prepared(plan, chosen, left_out)


def _with_settings(methods: Sequence[object], settings: Mapping[str, Mapping[str, Any]]) -> list[MethodEntry]:
    """Return methods with their settings; both what a user typed and the name in its spec call one.

    Raises:
        UsageError: settings are for none of them.
    """
    found, used = [], set()
    for method in methods:
        entry = find_method(method)
        names = [name for name in settings if name in (method, entry.spec.name)]
        used.update(names)
        values = {key: value for name in names for key, value in settings[name].items()}
        found.append(find_method(method, values) if values else entry)
    names = [entry.spec.name for entry in found]
    for name in settings:
        if found and name not in used:
            raise UsageError(
                f"Settings are given for '{name}', which this run does not make.{did_you_mean(name, names)}",
                f"Its methods: {', '.join(names)}",
            )
    return found


def blocked_methods(plan: Plan) -> dict[str, str]:
    """Return what each method of a plan still needs before it can run here."""
    targets = {job.method: job.target for job in plan.jobs if isinstance(job, GenerateTask)}
    entries = {name: MethodEntry(target, plan.methods[name], "") for name, target in targets.items()}
    return {name: needs for name, e in entries.items() if (needs := lacking(e, plan.split.domain))}


def default_methods(split: Split, left_out: dict[str, str] | None = None) -> list[str]:
    """Return the built-in default methods that can run here and work on the split's domain, in registry order.

    Args:
        split: what they are to run on.
        left_out: takes those that cannot run, with what they need.
    """
    known = [(name, find_method(name)) for name in registry.METHODS]
    fitting = [(name, e) for name, e in known if e.spec.default and split.domain in e.spec.domains]
    needs = {name: lacking(e, split.domain) for name, e in fitting}
    if left_out is not None:
        left_out |= {name: what for name, what in needs.items() if what}
    return [name for name, what in needs.items() if not what]


def lacking(entry: MethodEntry, domain: Domain) -> str:
    """Return what a method still needs to run on a domain, or nothing.

    Locked weights are those of real faces; on synthetic ones the embedded networks take their place.
    """
    if (needs := state(entry.target)) != "ready":
        return needs
    if domain != "real":
        return ""
    for status in verify(w.name for w in entry.spec.weights if w.name in lock()):
        if status.state != "ok":
            return status.remedy
        if status.weight.name == "face_landmarker" and find_spec("mediapipe") is None:
            return "MediaPipe is not installed. Run: pip install 'actalker-bench[faces]'"
    return ""
