"""`bench list`: what there is."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from bench.cli import options


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    METRICS = "metrics"
    SPLITS = "splits"
    WEIGHTS = "weights"
    RUNS = "runs"


_WIDE = 110  # characters; a narrower terminal has no room for the last column


def list_things(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """List methods, metrics, splits, weights or runs, with what each still needs."""
    from bench.cli.display import emit_json, errors, output, table
    from bench.store.home import Home

    store = Home(home)
    columns, rows = {
        Kind.METHODS: _methods,
        Kind.METRICS: _metrics,
        Kind.SPLITS: _splits,
        Kind.WEIGHTS: _weights,
        Kind.RUNS: _runs,
    }[kind](store)
    if json:
        emit_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif not rows:
        errors.print(f"No {kind} under {store.address} yet. Make one: bench run", soft_wrap=True)
    elif kind is Kind.METHODS:
        _show_methods(rows)
    else:
        shown = len(columns) - (columns[-1] in ("summary", "command") and output.width < _WIDE)
        table(columns[:shown], [row[:shown] for row in rows])


Listing = tuple[tuple[str, ...], list[tuple[str, ...]]]
Rows = list[tuple[str, ...]]


def _methods(home: object) -> Listing:
    from bench.catalogue import CONTRACT, find_method, method_targets, state
    from bench.systems.contract import find
    from bench.systems.record import sentence

    rows: Rows = []
    for name, target in method_targets().items():
        spec = find_method(name).spec
        partial: list[str] = []
        licence = rehearsed = ""
        if target.startswith(CONTRACT):
            contract = find(name)
            licence = contract.source.licence if contract.source.repository else ""
            rehearsed = sentence(contract)
            partial = [gate for gate, commands in contract.gates.items() if commands.support == "partial"]
        gates = ", ".join(spec.gates) or "-"
        cells = (name, spec.kind, gates, ", ".join(partial), licence, state(target), rehearsed, spec.summary)
        rows.append(cells)
    return ("method", "kind", "gates", "partial", "licence", "state", "rehearsed", "summary"), rows


def _show_methods(rows: Rows) -> None:
    """Print methods so that a line each is enough on most screens; `--json` and `bench show` have everything."""
    from bench.cli.display import output, table

    table(
        ("method", "gates", "licence", "state"),
        [
            # The lines under the table give the command.
            (
                f"{name} ✓" if rehearsed.startswith("verified") else name,
                _starred(gates, partial),
                re.split(r" \(|;", licence)[0],
                state.partition(". Run: ")[0],
            )
            for name, _, gates, partial, licence, state, rehearsed, _ in rows
        ],
    )
    for name, *_, rehearsed, _ in rows:
        if rehearsed:
            output.print(f"{name}: {rehearsed}", soft_wrap=True)
    for line in (
        "✓ verified by rehearsal: its own program ran with stand-in weights and did what its contract says.",
        "* only approximated. A licence is the code's; weights may have another.",
        "not prepared: bench prepare --methods NAME (--dry-run says what that takes)",
        "videos only: bench score DIR --split SPLIT --as NAME",
        "All about one: bench show method NAME",
    ):
        output.print(line, soft_wrap=True)


def _starred(gates: str, partial: str) -> str:
    return ", ".join(f"{gate}*" if gate in partial.split(", ") else gate for gate in gates.split(", "))


def _metrics(home: object) -> Listing:
    from bench.catalogue import metrics, plain_protocols, unavailable

    rows: Rows = []
    for name in plain_protocols():
        metric = metrics()[name]
        spec = metric.spec
        missing = unavailable(metric)
        labels = ", ".join(
            c.label + {"higher": " ↑", "lower": " ↓", "none": ""}[c.direction] for c in spec.columns
        )
        state = "ready" if missing is None else str(missing.reason)
        rows.append((spec.id, labels, "/".join(spec.domains), state, spec.summary))
    return ("protocol", "columns", "domain", "state", "summary"), rows


def _splits(home: object) -> Listing:
    from bench.data.datasets import known
    from bench.store.home import Home

    assert isinstance(home, Home)
    rows: Rows = [
        ("synthetic", "synthetic", "ready", "24 clips of 3 s of drawn faces, made on first use"),
        ("synthetic-ci", "synthetic", "ready", "4 clips, for continuous integration"),
        ("synthetic-val", "synthetic", "ready", "other identities, for choosing between models"),
        ("folder:PATH", "real", "ready", "talking videos, or image + audio [+ video] files of one stem"),
    ]
    rows += [(d.name, d.domain, d.state, d.detail) for d in known(home)]
    return ("split", "domain", "state", "about"), rows


def _weights(home: object) -> Listing:
    from bench.weights import lock, verify

    rows: Rows = []
    for status in verify(lock()):
        weight = status.weight
        how = weight.command if weight.urls else f"by hand: {weight.by_hand}"
        where = str(status.path) if status.path else how
        rows.append((weight.name, status.state, weight.licence, where))
    return ("weights", "state", "licence", "file, or how to get it"), rows


def _runs(home: object) -> Listing:
    from bench.core.errors import UsageError
    from bench.results.runs import PROVENANCE_FILE, read_provenance, run_names
    from bench.store.home import Home

    assert isinstance(home, Home)
    rows: Rows = []
    for name in reversed(run_names(home.address)):
        try:
            about = read_provenance(home.runs / name / PROVENANCE_FILE)
        except UsageError as error:
            rows.append((name, "", "", "damaged", error.message))
            continue
        counts = about.get("counts", {})
        state = ", ".join(f"{counts.get(kind, 0)} {kind}" for kind in ("ok", "unscored", "error"))
        rows.append((name, about.get("created", ""), about.get("split", ""), state, about.get("command", "")))
    return ("run", "created", "split", "numbers", "command"), rows
