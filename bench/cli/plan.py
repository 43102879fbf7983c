"""`bench plan`: what a run would do, without doing it."""

from __future__ import annotations

from collections import Counter

from bench.cli import options


def plan(
    split: options.SplitName = "synthetic",
    subset: options.Subset = None,
    methods: options.Methods = None,
    settings: options.Settings = None,
    controls: options.Controls = None,
    gates: options.Gates = None,
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    seed: options.Seed = 0,
    repeats: options.Repeats = 1,
    job_limit: options.Limit = 3600.0,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show how many clips a run would make, what is already there, and how long it may take."""
    from bench.catalogue import unavailable
    from bench.cli.display import StepProgress, emit_json, output, table
    from bench.core.options import parse
    from bench.run.flow import Flow
    from bench.run.session import left_out
    from bench.run.setup import blocked_methods, prepare_run
    from bench.store.home import Home

    store = Home(home)
    prepared = prepare_run(
        store,
        split,
        subset,
        options.names(methods),
        options.gates(controls, gates),
        options.names(metrics),
        precision,
        seed,
        repeats,
        job_limit,
        plan_only=True,
        progress=StepProgress("split"),
        settings=parse(settings or ()),
    )
    stuck = blocked_methods(prepared.plan)
    missing = [u for m in prepared.metrics if (u := unavailable(m)) is not None]
    blocked = {u.spec.id for u in missing}
    flow = Flow(prepared.plan, [m for m in prepared.metrics if m.spec.id not in blocked], store)
    jobs = Counter((method, gate) for method, gate, _ in prepared.plan.cells)
    todo = Counter(
        (method, gate)
        for job, (method, gate, _) in zip(prepared.plan.jobs, prepared.plan.cells, strict=True)
        if job.key not in flow.generated
    )
    seconds = sum(job.cost for job in prepared.plan.jobs if job.key not in flow.generated)
    if json:
        emit_json(
            {
                "split": prepared.plan.split.name,
                "plan": prepared.plan.digest,
                "clips": len(prepared.plan.jobs),
                "clips_to_make": sum(todo.values()),
                "seconds_on_one_worker": round(seconds, 1),
                "metrics": [m.spec.id for m in prepared.metrics],
                "missing": {u.spec.id: u.detail for u in missing},
                "blocked": stuck,
                "left_out": dict(prepared.left_out),
                "notes": list(prepared.plan.split.notes),
                "cells": [
                    {"method": m, "gate": g, "clips": n, "to_make": todo[m, g]} for (m, g), n in jobs.items()
                ],
            }
        )
        return
    table(
        ("method", "gate", "clips", "to make"),
        [(m, g, str(n), str(todo[m, g])) for (m, g), n in jobs.items()],
        title=f"{prepared.plan.split.name}: {len(prepared.plan.split.samples)} samples",
    )
    output.print(f"Metrics: {', '.join(m.spec.id for m in prepared.metrics) or 'none'}")
    needs: dict[str, list[str]] = {}
    for name, what in ({u.spec.id: u.detail for u in missing} | stuck).items():
        needs.setdefault(what, []).append(name)
    for what, names in needs.items():
        output.print(f"  cannot run here: {', '.join(names)}: {what}", soft_wrap=True)
    for line in left_out(prepared.left_out):
        output.print(f"  {line}", soft_wrap=True)
    for note in prepared.plan.split.notes:
        output.print(f"  {note}", soft_wrap=True)
    clips = f"{sum(todo.values())} of {len(prepared.plan.jobs)} clips to make"
    output.print(f"{clips}, about {_duration(seconds)} on one worker; scoring comes on top.", soft_wrap=True)


def _duration(seconds: float) -> str:
    """Say a rough time as a person would."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
