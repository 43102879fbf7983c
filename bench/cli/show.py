"""`bench show`: everything about one thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
    DOC = "doc"


def show(
    kind: Annotated[Kind, typer.Argument(help="What kind of thing.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show a method, a metric (protocol, parameters, weights), a split's samples, a run's provenance, or a page of
    the documents that came with the package."""
    from bench.cli.display import emit_json, output
    from bench.store.home import Home

    if kind is Kind.DOC:
        _print_document(name)
        return
    look_up = {Kind.METHOD: _method, Kind.METRIC: _metric, Kind.SPLIT: _split, Kind.RUN: _run}[kind]
    found = look_up(name, Home(home))
    # A split is a list of files: into a pipe it goes as before, for programs.
    if json or (kind is Kind.SPLIT and not output.is_terminal):
        emit_json(found)
        return
    for line in outline(found):
        output.print(line, soft_wrap=True)


def _print_document(name: str) -> None:
    """Print a page: laid out on a terminal, as it is (Markdown) elsewhere."""
    from bench.cli.display import output
    from bench.core.registry import UnknownName
    from bench.core.resources import data_folder

    pages = {path.stem: path for path in sorted(data_folder("docs").glob("*.md"))}
    page = pages.get(name.removesuffix(".md"))
    if page is None:
        raise UnknownName("document", name, list(pages))
    text = page.read_text(encoding="utf-8")
    if not output.is_terminal:
        output.print(text, soft_wrap=True, end="")
        return
    from rich.markdown import Markdown

    output.print(Markdown(text))


def outline(value: Any, depth: int = 0) -> list[str]:
    """Return nested data as indented lines: `key  value`, lists of records as blocks; empty parts are left out."""
    indent = "  " * depth
    if isinstance(value, Mapping):
        kept = {str(k).replace("_", " "): v for k, v in value.items() if v not in (None, "", [], {}, ())}
        width = max((len(k) for k, v in kept.items() if _short(v)), default=0)
        lines = []
        for key, part in kept.items():
            if _short(part):
                lines.append(f"{indent}{key:<{width}}  {_in_line(part)}")
            else:
                lines += [f"{indent}{key}", *outline(part, depth + 1)]
        return lines
    if isinstance(value, list | tuple):
        blocks = [outline(part, depth + 1) if isinstance(part, Mapping) else [f"{indent}{part}"] for part in value]
        return [f"{indent}- {line.strip()}" if not n and block[1:] else line for block in blocks
                for n, line in enumerate(block)]  # fmt: skip
    return [f"{indent}{line}" for line in str(value).splitlines()]


def _short(value: Any) -> bool:
    """Whether a value fits on its key's line."""
    if isinstance(value, Mapping):
        return False
    if isinstance(value, list | tuple):
        return len(_in_line(value)) <= 100 and not any(isinstance(v, Mapping) for v in value)
    return "\n" not in str(value)


def _in_line(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


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

    return dict(load(name, home.address).provenance)
