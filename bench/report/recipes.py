"""Recipes: TOML files that say which rows and columns make a table.

A recipe is a name (a file in `reports/recipes/`) or a path. Patterns are shell patterns (`sync/*`); a list of
patterns is tried in order and the first that matches anything wins, so one recipe serves the real and the
synthetic domain; a leading `!` excludes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.declaration import check_keys, one_of, read_toml, strings, tables, texts
from bench.core.errors import UsageError, did_you_mean
from bench.core.resources import data_folder


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One wanted column.

    Attributes:
        name: what papers call it; matches published numbers and names the column when it is missing.
        protocol, column: pattern lists; the first matching pattern decides.
        split: patterns the split must match, for tables that put several splits side by side.
        group: heading above neighbouring columns.
        optional: nobody is told when it was not measured.
    """

    name: str
    protocol: tuple[str, ...]
    column: tuple[str, ...] = ("*",)
    split: tuple[str, ...] = ()
    group: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class PublishedSpec:
    """Which paper's table is shown beside ours; `standalone` also prints its other data sets, apart.

    Attributes:
        paper: its name, or `*` for all papers and what they print of whole systems.
        table, standalone: see above.
    """

    paper: str
    table: str = ""
    standalone: bool = True


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of a recipe.

    Attributes:
        id, title, caption: as in `bench.report.table.Table`.
        layout: `rows` (method and gate down, metrics across) or `gates` (methods down, gates across).
        column: wanted columns, in order.
        columns: instead of `column`: protocol patterns; every matching column not taken by an earlier table.
        directed: with `columns`: only those that have a better and a worse.
        gates, methods: patterns of the rows to show.
        published: a paper's numbers, or None.
    """

    id: str
    title: str = ""
    caption: str = ""
    layout: str = "rows"
    column: tuple[ColumnSpec, ...] = ()
    columns: tuple[str, ...] = ()
    directed: bool = False
    gates: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    published: PublishedSpec | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named list of tables.

    Attributes:
        name: how it was asked for.
        title, caption: used for tables without their own.
        table: the tables, in order; those of included recipes come first.
        include: names of recipes whose tables are shown first.
        mark: which numbers are marked best: `interval` (only where the paired interval excludes a tie),
            `best` (by the mean alone) or `none`.
    """

    name: str
    title: str
    table: tuple[TableSpec, ...]
    caption: str = ""
    mark: str = "interval"
    include: tuple[str, ...] = ()
    origin: str = field(default="", compare=False)


LAYOUTS = ("rows", "gates")
MARKS = ("interval", "best", "none")


def names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(p.stem for p in (data_folder("reports") / "recipes").glob("*.toml"))


def load(recipe: str | Path) -> Recipe:
    """Read a recipe by name or path.

    Raises:
        UsageError: no such recipe, broken TOML, unknown keys or values (with the nearest known one).
    """
    path = Path(recipe)
    if path.suffix != ".toml":
        if str(recipe) not in names():
            raise UsageError(
                f"There is no recipe called '{recipe}'.{did_you_mean(str(recipe), names())}",
                f"Recipes: {', '.join(names())}; or give the path of your own .toml file.",
            )
        path = data_folder("reports") / "recipes" / f"{recipe}.toml"
    return parse(read_toml(path), path.stem, str(path))


def parse(data: Mapping[str, Any], name: str, origin: str = "recipe") -> Recipe:
    """Turn parsed TOML into a recipe; see `load` for the errors."""
    check_keys(data, Recipe, origin, hidden=("name", "origin"))
    texts(data, ("title", "caption", "mark"), origin)
    include = strings(data.get("include", []), f"{origin}: include")
    found = [table for other in include for table in load(other).table]
    for number, raw in enumerate(tables(data, "table", origin), start=1):
        where = f"{origin}, table {number}"
        check_keys(raw, TableSpec, where)
        texts(raw, ("id", "title", "caption", "layout"), where)
        columns = []
        for place, item in enumerate(tables(raw, "column", where), start=1):
            check_keys(item, ColumnSpec, f"{where}, column {place}")
            texts(item, ("name", "group"), f"{where}, column {place}")
            if "name" not in item or "protocol" not in item:
                raise UsageError(f"{where}: every column needs a name and a protocol.")
            if not isinstance(item.get("optional", False), bool):
                raise UsageError(f"{where}, column {place}: optional must be true or false.")
            patterns = {k: strings(item[k], f"{where}: {k}") for k in ("protocol", "column", "split") if k in item}
            columns.append(ColumnSpec(**{**item, **patterns}))
        if bool(columns) == bool(raw.get("columns")):
            raise UsageError(f"{where}: give either [[table.column]] entries or columns = [...].")
        published = raw.get("published")
        if published is not None:
            check_keys(published, PublishedSpec, f"{where}, published")
            texts(published, ("paper", "table"), f"{where}, published")
            if "paper" not in published:
                raise UsageError(f"{where}: published must name a paper.", 'For example: { paper = "actalker" }')
            published = PublishedSpec(**published)
        lists = {k: strings(raw[k], f"{where}: {k}") for k in ("columns", "gates", "methods") if k in raw}
        table = TableSpec(
            **{"id": f"table{number}", **raw, **lists, "column": tuple(columns), "published": published}
        )
        one_of(table.layout, LAYOUTS, f"{where}: layout")
        if not isinstance(table.directed, bool):
            raise UsageError(f"{where}: directed must be true or false, not {table.directed!r}.")
        found.append(table)
    if not found:
        raise UsageError(f"{origin} has no [[table]].")
    recipe = Recipe(
        name, data.get("title", name), tuple(found), data.get("caption", ""), data.get("mark", "interval"),
        include, origin,
    )  # fmt: skip
    one_of(recipe.mark, MARKS, f"{origin}: mark")
    return recipe
