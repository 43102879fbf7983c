"""Recipe + summary -> tables: which cells go where, what is marked, what has to be said beneath."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from bench.core.declaration import first_match, matches, parse_json
from bench.core.errors import UsageError
from bench.report.published import rows as published_rows
from bench.report.recipes import ColumnSpec, Recipe, TableSpec
from bench.report.table import Column, Footnote, Mark, Reason, Row, Section, Table, Value, told
from bench.results import published, statistics
from bench.results.runs import gate_order
from bench.results.summary import Cell, Estimate, Summary

SectionKey = tuple[str, str, str]
"""(domain, dataset, split); the split is empty where a table puts several splits side by side."""


def tables(summary: Summary, recipe: Recipe, show_published: bool = True, mark: str = "") -> list[Table]:
    """Return the recipe's tables, one per data set and split; a table never mixes domains.

    Args:
        summary: the estimates.
        recipe: what to show.
        show_published: add the papers' numbers the recipe asks for.
        mark: `interval`, `best` or `none`, overriding the recipe.
    """
    built: list[Table] = []
    taken: set[tuple[SectionKey, str, str]] = set()
    for spec in recipe.table:
        keys = _section_keys(summary, spec)
        for key in keys:
            table = _build(summary, spec, key, taken, mark or recipe.mark, show_published)
            if table is not None:
                built.append(_named(table, recipe, spec, key, len(keys) > 1))
        if show_published and spec.published and spec.published.standalone:
            built += _standalone(spec, recipe, {dataset for _, dataset, _ in keys})
    return built


def _section_keys(summary: Summary, spec: TableSpec) -> list[SectionKey]:
    if any(c.split for c in spec.column):
        return sorted({(domain, dataset, "") for domain, dataset, _ in summary.sections()})
    return summary.sections()


def _named(table: Table, recipe: Recipe, spec: TableSpec, key: SectionKey, several: bool) -> Table:
    title = spec.title or recipe.title
    suffix = ""
    if several:
        title += " — " + " / ".join(part for part in key[1:] if part)
        suffix = "-" + slug("-".join(part for part in key[1:] if part))
    return replace(table, id=slug(spec.id) + suffix, title=title, caption=spec.caption or recipe.caption)


def slug(text: str) -> str:
    """Return a text as a file-name-safe identifier."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def _build(
    summary: Summary,
    spec: TableSpec,
    key: SectionKey,
    taken: set[tuple[SectionKey, str, str]],
    mark: str,
    show_published: bool,
) -> Table | None:
    named, absent = _columns(summary, spec, key, taken)
    pairs = [
        (method, gate)
        for method, gate in summary.rows_of()
        if matches(method, spec.methods) and matches(gate, spec.gates)
        and any(_estimate(summary, key, method, gate, column) for _, column in named)
    ]  # fmt: skip
    if spec.layout == "gates":
        named, pairs = _matrix(named, pairs)
    if not pairs or not named:
        return None
    grid = {(m, g): [_estimate(summary, key, m, c.gate or g, c) for _, c in named] for m, g in pairs}
    estimates = [e for line in grid.values() for e in line if e is not None]
    filled = [i for i in range(len(named)) if any(_scored(line[i]) for line in grid.values())]
    dropped = dict.fromkeys(c.label for i, (_, c) in enumerate(named) if filled and i not in filled and not c.gate)
    if filled:
        named = [named[i] for i in filled]
        grid = {pair: [line[i] for i in filled] for pair, line in grid.items()}
    numbers: dict[str, int] = {}
    named = [(n, replace(c, footnote=numbers.setdefault(c.protocol, len(numbers) + 1))) for n, c in named]
    columns = [c for _, c in named]
    section: dict[tuple[str, str], Section] = {
        (m, g): "method"
        if summary.results.competes(m, g)
        else "stand-in"
        if summary.results.method_kind(m) == "stand-in"
        else "control"
        for m, g in pairs
    }
    marks, unranked = _marks(summary, columns, grid, section, mark)
    rows = [
        Row(m, g, section[m, g], tuple(_value(e, marks.get((m, g, i), "")) for i, e in enumerate(line)))
        for (m, g), line in grid.items()
    ]
    rows.sort(key=lambda row: ("method", "control", "stand-in").index(row.section))
    competing = sum(row.section == "method" for row in rows) > 1
    notes = _notes(summary, columns, estimates, unranked, mark if competing else "none")
    if dropped:
        notes.append(f"Columns without any value are left out: {', '.join(dropped)}.")
    if absent:
        notes.append(f"Not measured here: {', '.join(absent)}.")
    if show_published and spec.published:
        cells = [c for c in published.load(spec.published.paper, spec.published.table) if c.dataset == key[1]]
        extra = published_rows(cells, [(_paper_name(name, c, cells), c) for name, c in named])
        rows += extra
        notes += published.sources(cells) if extra else []
    footnotes = {c.footnote: _footnote(summary, c) for c in columns}
    return Table(
        id="", title="", caption="", columns=tuple(columns), rows=tuple(rows),
        footnotes=tuple(footnotes[n] for n in sorted(footnotes)), notes=tuple(notes),
        reasons=tuple(_reasons(summary, estimates)),
        row_heads=("Method",) if spec.layout == "gates" else ("Method", "Gate"),
    )  # fmt: skip


def _matrix(
    named: Sequence[tuple[str, Column]], pairs: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, Column]], list[tuple[str, str]]]:
    """Turn gates into columns: one group per metric, one row per method; controls have no gate."""
    gates = list(dict.fromkeys(sorted((g for _, g in pairs if g != "none"), key=gate_order)))
    columns = [
        (name, replace(column, gate=gate, group=column.heading, label=gate))
        for name, column in named
        if column.direction != "none"
        for gate in gates
    ]
    return columns, [(method, "") for method in dict.fromkeys(m for m, g in pairs if g != "none")]


def _scored(estimate: Estimate | None) -> bool:
    return estimate is not None and math.isfinite(estimate.value)


def _estimate(summary: Summary, key: SectionKey, method: str, gate: str, column: Column) -> Estimate | None:
    domain, dataset, split = key
    return summary.get(Cell(domain, dataset, column.split or split, method, gate, column.protocol, column.key))


def _columns(
    summary: Summary, spec: TableSpec, key: SectionKey, taken: set[tuple[SectionKey, str, str]]
) -> tuple[list[tuple[str, Column]], list[str]]:
    """Return (name, column) pairs of a table and the names of wanted columns nothing was measured for."""
    domain, dataset, split = key
    found: list[tuple[str, Column]] = []
    absent: list[str] = []
    if spec.columns:
        for protocol, column in summary.columns_of(key if split else None):
            directed = summary.results.column(protocol, column)["direction"] != "none"
            if spec.directed and not directed:
                continue
            if matches(protocol, spec.columns) and (key, protocol, column) not in taken:
                taken.add((key, protocol, column))
                found.append(("", _column(summary, protocol, column)))
        return found, absent
    splits = sorted({c.split for c in summary.estimates if c[:2] == (domain, dataset)})
    for wanted in spec.column:
        places = [s for s in splits if matches(s, wanted.split)] if wanted.split else [split]
        hits = _resolve(summary, wanted, (domain, dataset), places)
        if not hits and not wanted.optional:
            absent.append(wanted.name)
        for place, protocol, column in hits:
            made = _column(summary, protocol, column)
            side = place if wanted.split else ""
            group = wanted.group if len(places) == 1 else f"{wanted.group} ({place})".strip()
            found.append((wanted.name, replace(made, split=side, group=group)))
    return found, absent


def _resolve(
    summary: Summary, wanted: ColumnSpec, place: tuple[str, str], splits: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Return (split, protocol, column) of what a recipe asks for.

    A protocol that nobody could score (missing weights) must not hide one that was scored, so those come
    first; if none was, the unscored one is returned and the table explains it.
    """
    hits = []
    for split in splits:
        for scored in (True, False):
            available = summary.columns_of((*place, split), scored)
            protocols = first_match(list(dict.fromkeys(p for p, _ in available)), wanted.protocol)
            keys = {p: first_match([c for q, c in available if q == p], wanted.column) for p in protocols}
            found = [(split, p, k) for p in protocols for k in keys[p]]
            if found:
                hits += found
                break
    return hits


def _column(summary: Summary, protocol: str, key: str) -> Column:
    about = summary.results.column(protocol, key)
    return Column(
        protocol, key, str(about["label"]), str(about["direction"]), str(about["unit"]),
        int(about["digits"]), float(about["scale"]), identical=about.get("identical"),
    )  # fmt: skip


def _value(estimate: Estimate | None, mark: Mark) -> Value | None:
    if estimate is None:
        return None
    low, high, interval = estimate.low, estimate.high, estimate.interval
    if estimate.kind == "clip" and 0 < estimate.n_identities < statistics.MIN_CLUSTERS:
        (low, high), interval = estimate.cluster_range(), "range"
    reasons: Counter[str] = Counter()
    for why, count in estimate.missing.items():
        reasons[why.reason or why.status] += count
    return Value(
        estimate.value, low, high, interval, estimate.n_ok, estimate.n_planned, estimate.n_identities,
        estimate.coverage, estimate.floor, mark,
        reasons=tuple(sorted(reasons.items(), key=lambda r: (-r[1], r[0]))),
    )  # fmt: skip


def _marks(
    summary: Summary,
    columns: Sequence[Column],
    found: Mapping[tuple[str, str], Sequence[Estimate | None]],
    section: Mapping[tuple[str, str], Section],
    rule: str,
) -> tuple[dict[tuple[str, str, int], Mark], bool]:
    """Decide best and second of every column; also tell whether unequal coverage kept rows out."""
    marks: dict[tuple[str, str, int], Mark] = {}
    unranked = False
    if rule == "none":
        return marks, unranked
    # In a method x gate matrix all gates of one metric compete with each other.
    fields: dict[tuple[str, str, str], list[int]] = {}
    for index, column in enumerate(columns):
        if column.direction != "none":
            fields.setdefault((column.protocol, column.key, column.split), []).append(index)
    for indices in fields.values():
        entries = [
            (e, (m, g, i))
            for (m, g), line in found.items() if section[m, g] == "method"
            for i in indices if (e := line[i]) is not None and math.isfinite(e.value)
        ]  # fmt: skip
        if not entries:
            continue
        fullest = max(entries, key=lambda x: (x[0].n_ok, sum(e.covers == x[0].covers for e, _ in entries)))[0]
        ranked = [x for x in entries if x[0].covers == fullest.covers]
        unranked |= len(ranked) < len(entries)
        sign = -1 if columns[indices[0]].direction == "higher" else 1
        ranked.sort(key=lambda x: (sign * x[0].value, x[1]))
        if len(ranked) < 2:
            continue
        apart = [rule == "best" or summary.separates(a, b) for (a, _), (b, _) in pairwise(ranked[:3])]
        if apart[0]:
            marks[ranked[0][1]] = "best"
            if len(apart) == 1 or apart[1]:
                marks[ranked[1][1]] = "second"
    return marks, unranked


def _notes(
    summary: Summary,
    columns: Sequence[Column],
    estimates: Sequence[Estimate],
    unranked: bool,
    mark: str,
) -> list[str]:
    notes = []
    clip = [e for e in estimates if e.kind == "clip" and e.n_ok]
    counts = sorted({e.n_identities for e in clip})
    if any(c >= statistics.MIN_CLUSTERS for c in counts):
        enough = [c for c in counts if c >= statistics.MIN_CLUSTERS]
        span = str(enough[0]) if len(enough) == 1 else f"{enough[0]} to {enough[-1]}"
        notes.append(f"±: half of the 95 % interval, {statistics.RESAMPLES:,} resamples of {span} identities.")
    if counts and counts[0] < statistics.MIN_CLUSTERS:
        notes.append(
            f"Too few identities for an interval ({counts[0]}, fewer than {statistics.MIN_CLUSTERS}): "
            "brackets give the range of the identity means, and nothing is marked."
        )
    sets = [e for e in estimates if e.kind == "set" and math.isfinite(e.value)]
    if any(math.isfinite(e.half) for e in sets):
        notes.append("± of set metrics: half of the spread over half-size subsamples without replacement.")
    notes += _floors(columns, sets)
    notes += _sensitivity(summary, columns)
    if mark == "interval":
        notes.append("Bold is best, underlined second; only where the paired 95 % interval excludes a tie.")
    elif mark == "best":
        notes.append("Bold is best, underlined second, by the mean alone.")
    if unranked and mark != "none":
        notes.append("Rows with other samples are not ranked; --intersection ranks on the common ones.")
    if summary.intersection:
        notes.append("Restricted to the samples that every method has scored (--intersection).")
    low = sorted({f"{e.cell.method} ({e.cell.gate})" for e in estimates if e.coverage < 0.8})
    if low:
        notes.append(f"Less than 80 % of the frames could be measured for {', '.join(low)}.")
    methods = summary.results.provenance.get("methods", {})
    shown = dict.fromkeys(e.cell.method for e in estimates)
    notes += [f"{m}: {methods[m]['note']}" for m in shown if methods.get(m, {}).get("note")]
    machines = len({_kind_of_machine(str(h)) for h in summary.results.provenance.get("hardware", ())})
    if machines > 1:
        notes.append(f"Made on {machines} kinds of machine, which may round differently; see the provenance.")
    return notes


def _kind_of_machine(host: str) -> str:
    """Return what a record says of a machine without its name: nodes of one kind round alike."""
    try:
        known = parse_json(host, dict[str, str], "a host")
    except UsageError:
        return host
    return ", ".join(f"{k}={v}" for k, v in sorted(known.items()) if k != "node")


def _sensitivity(summary: Summary, columns: Sequence[Column]) -> list[str]:
    """Say how large a difference must be, where `bench sensitivity` has measured it on this split."""
    kept = summary.results.provenance.get("floors") or {}
    said = []
    clips = set()
    for column in columns:
        floor = kept.get(f"{column.protocol}|{column.key}")
        clips |= {str(floor["clips"])} if floor and floor.get("clips") else set()
        if floor and not column.gate and column.direction != "none":
            said.append(f"{column.label} {column.show(floor['same'])} ({column.show(floor['cross'])})")
    if not said:
        return []
    measured = f"; measured on {' or '.join(sorted(clips))} clips, the more the smaller" if clips else ""
    return [
        f"Smaller differences are within re-encoding noise on this split: {', '.join(said)}; in brackets: between "
        f"files of different encoders{measured}."
    ]


def _floors(columns: Sequence[Column], sets: Sequence[Estimate]) -> list[str]:
    """Say how far two halves of the ground truth lie apart, where that is below some row's value.

    On a few people the halves, which show different ones, are further apart than a frozen picture is from the
    clips it comes from: such a floor bounds nothing, and stands in the CSV file only.
    """
    said = []
    for column in columns:
        shown = [e for e in sets if (e.cell.protocol, e.cell.column) == (column.protocol, column.key)]
        floor = max((e.floor for e in shown if math.isfinite(e.floor)), default=math.inf)
        if any(floor <= e.value for e in shown) and not column.gate:
            said.append(f"{column.label} {column.show(floor)}")
    if not said:
        return []
    return [
        f"Ground truth against itself, half against half: {', '.join(said)}. "
        "A method that follows these very clips may come closer."
    ]


def _reasons(summary: Summary, estimates: Sequence[Estimate]) -> Iterator[Reason]:
    """Group what is missing by reason, most frequent first."""
    said = told(
        (why.reason or why.status, e.cell.method, why.detail, count)
        for e in summary.estimates.values()
        for why, count in e.missing.items()
    )
    counts: dict[tuple[str, str], Counter[tuple[str, str, str]]] = {}
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for estimate in estimates:
        cell = estimate.cell
        totals: Counter[tuple[str, str]] = Counter()
        for why, count in estimate.missing.items():
            code = why.reason or why.status
            totals[code, said[code, cell.method, why.detail]] += count
        for key, count in totals.items():
            so_far = counts.setdefault(key, Counter())
            place = (cell.method, cell.gate, cell.protocol)
            so_far[place] = max(so_far[place], count)
            label = str(summary.results.column(cell.protocol, cell.column)["label"])
            labels.setdefault(key, {})[label] = None
    for key in sorted(counts, key=lambda k: (-sum(counts[k].values()), k)):
        yield Reason(*key, dict(sorted(counts[key].items())), tuple(labels[key]))


def _footnote(summary: Summary, column: Column) -> Footnote:
    about = summary.results.protocol(column.protocol)
    details = [str(about["source"]).rstrip(".")] if about.get("source") else []
    weights = about.get("weights") or {}
    if weights:
        details.append("weights " + ", ".join(f"{n} ({str(d)[:12]})" for n, d in sorted(weights.items())))
    words = str(about.get("summary", "")).rstrip(".")
    return Footnote(column.footnote, column.protocol, words, "; ".join(details))


def _paper_name(name: str, column: Column, cells: Sequence[published.PublishedCell]) -> str:
    """Return which of the paper's columns a column of ours stands for: by recipe, else by its label."""
    if name:
        return name
    known = {c.measure for c in cells}
    return next((k for k in known if re.match(rf"{re.escape(k)}( \(|$)", column.label)), "")


def _standalone(spec: TableSpec, recipe: Recipe, shown: set[str]) -> list[Table]:
    """Return the paper's own tables for the data sets ours does not cover."""
    assert spec.published is not None
    cells = [c for c in published.load(spec.published.paper, spec.published.table) if c.dataset not in shown]
    made = []
    for dataset in dict.fromkeys(c.dataset for c in cells):
        part = [c for c in cells if c.dataset == dataset]
        settings = list(dict.fromkeys(c.setting for c in part))
        seen = dict.fromkeys((c.setting, c.column, c.direction, c.scale) for c in part)
        columns = [
            Column(
                "",
                name,
                name,
                direction,
                scale=scale,
                group=setting.split("-")[0].capitalize() if len(settings) > 1 else "",
            )
            for setting, name, direction, scale in seen
        ]
        rows = published_rows(part, [(c.key, c) for c in columns])
        made.append(
            Table(
                id=f"{slug(spec.id)}-published-{slug(dataset)}",
                title=f"{spec.title or recipe.title} — published numbers on {dataset}",
                caption="For orientation only: nothing here was measured by this benchmark.",
                columns=tuple(columns), rows=rows, notes=tuple(published.sources(part)),
            )
        )  # fmt: skip
    return made
