"""`bench doctor`: does everything work here, and if not, what to type."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import options


def doctor(
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Also check every node of this Ray cluster, e.g. auto or host:6379."),
    ] = None,
    real: Annotated[
        bool,
        typer.Option("--real", help="Only what works on real videos, and what gets the rest."),
    ] = False,
    home: options.Home = None,
    json: options.Json = False,
) -> int:
    """Check Python, packages, codecs, GPU, disk, weights and (with --cluster) every node."""
    from bench.cli.display import emit_json, output, table
    from bench.core.errors import ExitCode
    from bench.run.doctor import check_cluster, check_machine, check_real
    from bench.store.home import Home

    store = Home(home).ready()
    checks = check_real() if real else check_machine(store)
    if cluster is not None:
        checks += check_cluster(cluster, store)
    if json:
        emit_json([{"check": c.name, "state": c.state, "detail": c.detail} for c in checks])
    else:
        table(("check", "state", "detail"), [(c.name, c.state, c.detail) for c in checks])
        if real and (lost := [c for c in checks if c.state != "ok"]):
            output.print(f"{len(checks) - len(lost)} of {len(checks)} work. To get the weights of the rest:")
            output.print("  bench prepare --metrics all")
    return ExitCode.MISSING if any(c.state == "failed" for c in checks) else ExitCode.OK
