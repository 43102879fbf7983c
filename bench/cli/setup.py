"""From options to a plan and its metrics: shared by `run` and `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.catalogue import (
    choose_metrics,
    find_method,
    match_metrics,
    require_available,
    require_ready,
    state,
)
from bench.cli.options import names
from bench.core import registry
from bench.core.errors import MissingError
from bench.core.spec import Split
from bench.core.views import ClipMetric, SetMetric
from bench.data.splits import load_split
from bench.execute.tasks import GenerateTask
from bench.metrics.precision import Precision
from bench.run.plan import Plan, check_gates, plan_generation
from bench.store.home import Home


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the metrics to compute on it."""

    plan: Plan
    metrics: Sequence[ClipMetric | SetMetric]


def prepare_run(
    home: Home,
    split: str,
    subset: str | None,
    methods: str | None,
    gates: str | None,
    metrics: str | None,
    precision: Precision,
    seed: int,
    repeats: int,
    limit: float,
    plan_only: bool = False,
    quiet: bool = False,
) -> Prepared:
    """Load the split, find methods and metrics, and list the jobs.

    Args:
        plan_only: nothing will be made, so methods and data sets need not be prepared.
        quiet: draw no progress.

    Raises:
        UnknownName, UsageError, MissingError: see the functions behind the options.
    """
    from bench.cli.display import StepProgress

    # Names are checked first: making a split takes seconds, and a typing error should not.
    wanted = [find_method(name) for name in names(methods) or ()]
    for entry in wanted:
        if not entry.spec.gates:
            raise MissingError(
                f"{entry.spec.name} cannot be run: {state(entry.target)}",
                f"Score a folder of its videos: bench score DIR --split {split} --as {entry.spec.name}",
            )
    if not plan_only:
        require_ready(names(methods) or ())
    asked = None if gates == "all" else names(gates)
    match_metrics(names(metrics) or ())
    check_gates(asked or ())
    progress = None if quiet else StepProgress("split")
    loaded = load_split(split, home, subset, progress, media=not plan_only)
    entries = wanted or [find_method(name) for name in default_methods(loaded)]
    chosen = choose_metrics(loaded.domain, names(metrics), precision)
    if metrics is not None:
        require_available(chosen, names(metrics) or ())
    swaps = any("swapped" in m.spec.needs for m in chosen)
    plan = plan_generation(loaded, entries, asked, seed, repeats, limit, swaps)
    return Prepared(plan, chosen)


def blocked_methods(plan: Plan) -> dict[str, str]:
    """Return what each method of a plan still needs before it can run here."""
    targets = {job.method: job.target for job in plan.jobs if isinstance(job, GenerateTask)}
    return {name: needs for name, target in targets.items() if (needs := state(target)) != "ready"}


def default_methods(split: Split) -> list[str]:
    """Return the built-in default methods that can run here and work on the split's domain, in registry order."""
    known = [(name, find_method(name)) for name in registry.METHODS]
    fitting = [(name, e) for name, e in known if e.spec.default and split.domain in e.spec.domains]
    return [name for name, e in fitting if state(e.target) == "ready"]
