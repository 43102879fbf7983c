"""The report as one self-contained page: no network, works from a folder, a zip or a web server."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.core.resources import data_folder
from bench.report import build, copies, decide, latex, page, recipes
from bench.report.table import (
    SECTION_TITLES,
    Column,
    Row,
    Table,
    all_reasons,
    commands,
    lead,
    shared_notes,
    text,
)
from bench.results import statistics
from bench.results.runs import distinct, plain
from bench.results.summary import Summary

STYLES = ("base", "tables", "plots", "clips", "narrow")
SCRIPTS = ("core", "tables", "plots")
CLIP_SCRIPTS = ("spread", "players", "clips", "compare", "along", "viewer")
"""Parts of the page's style and script, in order; they are joined, so later ones may use earlier ones."""

STACKED = 6
"""Tables with this many columns, and narrow ones with long intervals, print the interval under its number."""


def document(
    title: str,
    summary: Summary,
    tables: Sequence[Table],
    out: Path,
    media_root: Path | None,
    copy_media: bool,
) -> str:
    """Return the page.

    Args:
        title: heading and window title.
        summary: the estimates, for plots and single samples.
        tables: what to print first.
        out: the folder the page will lie in (links are relative to it).
        media_root: folder that relative paths in the rows are relative to.
        copy_media: copy clips into `out/media` and link to those.
    """
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    folder = data_folder("reports") / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=ChainableUndefined,  # a run folder from anybody may say less than ours
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = build.slug
    shown = dict.fromkeys((c.protocol, c.key) for t in tables for c in t.columns)
    known: decide.Known = {}
    data = page.payload(summary, page.Media(out, media_root, copy_media), list(shown), known)
    data["first"] = len(tables[0].columns)
    data["copies"] = [copies.pieces(t) for t in tables]
    data["preamble"] = latex.HEAD
    script = _script(folder, bool(data["samples"]))
    provenance = summary.results.provenance
    lost = page.failures(summary.results)
    return environment.get_template("report.html").render(
        title=title,
        css="".join((folder / "css" / f"{name}.css").read_text(encoding="utf-8") for name in STYLES),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=page.to_json(data),
        tables=[_table(t) for t in tables],
        notes=shared_notes(tables) if len(tables) > 1 else (),
        reasons=[str(r) for r in all_reasons(tables)],
        matrices=_matrices(summary, list(shown)),
        standings=_standings(summary, tables[0], known),
        failures=lost,
        commands=commands(f.detail for f in lost),
        has_samples=bool(data["samples"]),
        has_numbers=bool(data["metrics"]),
        about=provenance,
        facts=_facts(summary),
        protocols=_protocols(provenance),
        pretty=_pretty,
        plain=plain,
    )


def _script(folder: Path, has_samples: bool) -> str:
    names = (*SCRIPTS, *(CLIP_SCRIPTS if has_samples else ()), "start")
    parts = "".join((folder / "js" / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _standings(summary: Summary, table: Table, known: decide.Known) -> list[dict[str, Any]]:
    """Return who is better than whom over the first table's columns, one entry per data set and split."""
    made = []
    rows = [(m, g) for m, g, control in page.rows_of(summary) if not control]
    columns = list(dict.fromkeys((c.protocol, c.key) for c in table.columns))
    names = {(c.protocol, c.key): c.label if not c.gate else c.group for c in table.columns}
    for section in summary.sections():
        found = decide.differences(summary, section, rows, columns, known)
        people = [p.identities for line in found.values() for p in line if p.identities]
        standings = decide.standings(found, rows)
        if len(standings) < 2:
            continue
        made.append({
            "set": " / ".join(section[1:]),
            "columns": [names[key] for key in found],
            "few": max(people) if people and max(people) < statistics.MIN_CLUSTERS else 0,
            "rows": [
                {"name": " · ".join(s.row), **{k: getattr(s, k) for k in ("better", "open", "worse", "apart")}}
                for s in standings
            ],
        })  # fmt: skip
    return made


def _table(table: Table) -> dict[str, Any]:
    """Return a table as the template draws it."""
    heads, firsts = lead(table)
    bodies: list[dict[str, Any]] = []
    for row, first in zip(table.rows, firsts, strict=True):
        if not bodies or bodies[-1]["section"] != row.section:
            bodies.append({"section": row.section, "title": SECTION_TITLES[row.section], "rows": []})
        cells = [_cell(row, i, column) for i, column in enumerate(table.columns)]
        bodies[-1]["rows"].append({"heads": first, "cells": cells, "gate": row.gate if row.gate in first else ""})
    groups: list[dict[str, Any]] = []
    for place, column in enumerate(table.columns, start=len(heads)):
        if groups and groups[-1]["name"] == column.group:
            groups[-1]["span"] += 1
        else:
            groups.append({"name": column.group, "span": 1, "start": place})
    methods = [row.values for row in table.rows if row.section == "method"]
    everywhere = range(len(table.columns))
    narrow = len(table.columns) <= 2
    addition = max((len(c["addition"]) for b in bodies for r in b["rows"] for c in r["cells"]), default=0)
    return {
        "id": table.id, "title": table.title, "caption": table.caption, "heads": heads, "bodies": bodies,
        "columns": table.columns, "groups": groups if any(g["name"] for g in groups) else [],
        "footnotes": table.footnotes, "notes": table.notes, "width": len(heads) + len(table.columns),
        "narrow": narrow, "addition": addition,
        "complete": [i for i in everywhere if all((v := line[i]) and v.scored for line in methods)],
        "decided": [i for i in everywhere if any((v := line[i]) and v.mark for line in methods)],
        "stacked": len(table.columns) >= STACKED or (narrow and addition > len("± 0.0123")),
    }  # fmt: skip


def _cell(row: Row, index: int, column: Column) -> dict[str, Any]:
    value = row.values[index]
    number, addition = text(row, index, column)
    cell = {"number": number, "addition": addition.strip(), "mark": "", "sort": "", "hint": ""}
    if value is None:
        return cell
    cell["mark"] = value.mark
    cell["sort"] = f"{value.value:.8g}" if value.scored else ""
    hints = []
    if math.isfinite(value.low):
        what = {"subsample": "half-size subsamples", "range": "range of identities"}.get(
            value.interval, "95 % interval"
        )
        hints.append(f"{what} {column.show(value.low)} to {column.show(value.high)}")
    if value.n_planned:
        hints.append(f"{value.n_ok} of {value.n_planned} scored")
    if value.n_identities:
        hints.append(f"{value.n_identities} identities")
    if math.isfinite(value.coverage) and value.coverage < 1:
        hints.append(f"{value.coverage:.0%} of the frames")
    if math.isfinite(value.floor):
        hints.append(f"floor {column.show(value.floor)}")
    hints += [f"{reason}: {count}" for reason, count in value.reasons]
    cell["hint"] = "; ".join(hints)
    return cell


def _matrices(summary: Summary, order: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return one small method x gate matrix per metric with two gates or more, in the given order of columns.

    Cells are tinted from worst (0) to best (1).
    """
    made: list[dict[str, Any]] = []
    for table in build.tables(summary, recipes.load("gates"), show_published=False):
        names = dict.fromkeys((c.protocol, c.key, c.group, c.direction) for c in table.columns)
        for protocol, key, label, direction in names:
            where = [i for i, c in enumerate(table.columns) if (c.protocol, c.key) == (protocol, key)]
            seen = [v.value for r in table.rows for i in where if (v := r.values[i]) is not None and v.scored]
            used = [i for i in where if any((v := r.values[i]) is not None and v.scored for r in table.rows)]
            if len(used) < 2:
                continue
            low, high = min(seen), max(seen)
            lines = []
            for row in table.rows:
                cells = []
                for i in where:
                    cell, value = _cell(row, i, table.columns[i]), row.values[i]
                    if value is not None and value.scored:
                        share = (value.value - low) / (high - low) if high > low else 0.5
                        cell["tint"] = round(1 - share if direction == "lower" else share, 2)
                    cells.append(cell)
                if any(c["number"] for c in cells):
                    lines.append({"name": row.label, "cells": cells})
            made.append({
                "key": (protocol, key), "label": label, "arrow": table.columns[where[0]].arrow,
                "protocol": protocol,
                "gates": [table.columns[i].gate for i in where], "rows": lines,
                "set": table.title.partition(" — ")[2],
            })  # fmt: skip
    rank = {pair: position for position, pair in enumerate(order)}
    return sorted(made, key=lambda m: rank.get(m["key"], len(rank)))


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """Return the short facts under the title."""
    provenance = summary.results.provenance
    known = [
        (k, _moment(str(provenance[k])) if k == "created" else str(provenance[k]))
        for k in ("split", "domain", "version", "commit", "created") if provenance.get(k)
    ]  # fmt: skip
    counts = provenance.get("counts") or {}
    shown = distinct(summary.results.rows, ["kind", "dataset", "split", "sample", "identity"])
    clips = shown[shown["kind"] == "clip"]
    known.append(("clips", str(len(clips[["dataset", "split", "sample"]].drop_duplicates()))))
    known.append(("identities", str(clips["identity"].nunique())))
    if counts.get("planned"):
        known.append(("results", f"{counts.get('ok', 0)} of {counts['planned']} scored"))
    return known


def _moment(raw: str) -> str:
    """Return an ISO time as `2026-01-02 03:04 UTC`, anything else unchanged."""
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        return raw
    return moment.strftime("%Y-%m-%d %H:%M ") + (moment.tzname() or "") if moment.tzinfo else raw


def _protocols(provenance: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": name, "anchor": build.slug(name), "summary": about.get("summary", ""),
            "source": about.get("source", ""),
            "params": about.get("params") or {}, "weights": sorted((about.get("weights") or {}).items()),
            "columns": about.get("columns") or [],
        }
        for name, about in (provenance.get("protocols") or {}).items()
    ]  # fmt: skip


def _pretty(value: object) -> str:
    """Return any provenance value as short text: JSON for containers, the text itself otherwise."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
