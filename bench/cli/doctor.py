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
    home: options.Home = None,
    json: options.Json = False,
) -> int:
    """Check Python, packages, codecs, GPU, disk, weights and (with --cluster) every node."""
    from bench.cli.display import emit_json, table
    from bench.core.errors import ExitCode
    from bench.run.doctor import check_cluster, check_machine
    from bench.store.home import Home

    store = Home(home).ready()
    checks = check_machine(store)
    if cluster is not None:
        checks += check_cluster(cluster, store)
    if json:
        emit_json([{"check": c.name, "state": c.state, "detail": c.detail} for c in checks])
    else:
        table(("check", "state", "detail"), [(c.name, c.state, c.detail) for c in checks])
    return ExitCode.MISSING if any(c.state == "failed" for c in checks) else ExitCode.OK
