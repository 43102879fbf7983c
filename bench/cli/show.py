"""`bench show`: everything about one thing."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Annotated, Any

import typer

from bench.cli import options


class Kind(StrEnum):
    """What can be shown."""

    METHOD = "method"
    METRIC = "metric"
    SPLIT = "split"
    RUN = "run"


def show(
    kind: Annotated[Kind, typer.Argument(help="What kind of thing.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    home: options.Home = None,
) -> None:
    """Show a method, a metric (protocol, parameters, weights), a split's samples, or a run's provenance."""
    from bench.cli.display import emit_json
    from bench.store.home import Home

    look_up = {Kind.METHOD: _method, Kind.METRIC: _metric, Kind.SPLIT: _split, Kind.RUN: _run}[kind]
    emit_json(look_up(name, Home(home)))


def _method(name: str, home: Any) -> dict[str, Any]:
    from bench.catalogue import CONTRACT, find_method, state
    from bench.systems.contract import find

    entry = find_method(name)
    shown = {**dataclasses.asdict(entry.spec), "target": entry.target, "code": entry.code}
    shown["state"] = state(entry.target)
    if entry.target.startswith(CONTRACT):
        shown["contract"] = dataclasses.asdict(find(entry.target.removeprefix(CONTRACT)))
    return shown


def _metric(name: str, home: Any) -> dict[str, Any]:
    from bench.catalogue import match_metrics, metric_code, metrics, unavailable
    from bench.core.errors import UsageError

    found = match_metrics([name])[name]
    if len(found) > 1:
        raise UsageError(f"'{name}' stands for {len(found)} metrics: {', '.join(found)}.", "Name one of them.")
    metric = metrics()[found[0]]
    missing = unavailable(metric)
    state = "ready" if missing is None else f"{missing.reason}: {missing.detail}"
    return {**dataclasses.asdict(metric.spec), "code": metric_code(metric), "state": state}


def _split(name: str, home: Any) -> dict[str, Any]:
    from bench.data.splits import load_split

    return dataclasses.asdict(load_split(name, home))


def _run(name: str, home: Any) -> dict[str, Any]:
    from bench.results.runs import load

    return dict(load(name, home.path).provenance)
