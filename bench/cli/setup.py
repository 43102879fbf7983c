"""From options to a plan and its metrics: shared by `run` and `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench import registry
from bench.catalogue import choose_metrics, find_method, match_metrics, require_available, require_ready, state
from bench.cli.options import names
from bench.data.splits import load_split
from bench.metrics.base import ClipMetric, SetMetric
from bench.plan import Plan, check_gates, plan_generation
from bench.spec import Split
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
    seed: int,
    repeats: int,
    limit: float,
) -> Prepared:
    """Load the split, find methods and metrics, and list the jobs.

    Raises:
        UnknownName, UsageError, MissingError: see the functions behind the options.
    """
    from bench.cli.display import StepProgress

    # Names are checked first: making a split takes seconds, and a typing error should not.
    wanted = [find_method(name) for name in names(methods) or ()]
    require_ready(names(methods) or ())
    match_metrics(names(metrics) or ())
    check_gates(names(gates) or ())
    loaded = load_split(split, home, subset, StepProgress("split"))
    entries = wanted or [find_method(name) for name in default_methods(loaded)]
    chosen = choose_metrics(loaded.domain, names(metrics))
    if metrics is not None:
        require_available(chosen)
    swaps = any("swapped" in m.spec.needs for m in chosen)
    plan = plan_generation(loaded, entries, names(gates), seed, repeats, limit, swaps)
    return Prepared(plan, chosen)


def default_methods(split: Split) -> list[str]:
    """Return the built-in methods that can run here and work on the split's domain, in registry order."""
    return [n for n in registry.METHODS if split.domain in find_method(n).spec.domains and state(n) == "ready"]
