"""Writes docs/reference.md, the public names of `bench`, from their docstrings: `make docs`."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bench

PAGE = Path(__file__).with_name("reference.md")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Running": ("run", "score", "load", "Run", "Execution"),
    "Methods": ("Method", "BatchMethod", "MethodSpec", "Option", "Sample", "Gate", "Video"),
    "Metrics": ("ClipMetric", "SetMetric", "MetricSpec", "Column", "Extractor", "ExtractorSpec", "ClipView"),
    "Data and weights": ("Split", "WeightRef"),
    "Reading media": ("read_image", "read_audio", "chunks"),
    "Failures": ("Unscored", "Reason", "GenerationFailed", "Cause", "BenchError", "UsageError", "MissingError"),
}


def page() -> str:
    """Return the text of the page."""
    lines = [
        "# Public names",
        "",
        "Everything here is imported from `bench`; `GATES` holds the gates by name, `Features` is what an",
        "extractor returns. Written from the docstrings by `make docs`.",
    ]
    for title, names in GROUPS.items():
        lines += ["", f"## {title}"]
        for name in names:
            value = _of(name)
            lines += ["", f"### {name}", "", *_thing(name, value)]
    return "\n".join(lines) + "\n"


def _of(name: str) -> Any:
    if name == "run":  # the room of that name can be called, and shows the function's text
        from bench.run.session import run

        return run
    return getattr(bench, name)


def _thing(name: str, value: Any) -> Iterator[str]:
    said, sections = _parts(inspect.getdoc(value) or "")
    if inspect.isfunction(value):
        yield from _signature(name, value)
    yield said
    if isinstance(value, type) and issubclass(value, enum.Enum):
        yield from ("", ", ".join(f"`{member.value}`" for member in value) + ".")
        return
    defaults = _defaults(value)
    for title in ("Attributes", "Args"):
        if title in sections:
            yield ""
            yield from _table(sections[title], defaults)
    for title in ("Returns", "Raises"):
        if title in sections:
            yield ""
            yield f"{title}: " + " ".join(_entries(sections[title]))
    if isinstance(value, type) and not issubclass(value, BaseException):
        yield from _members(value)


def _signature(name: str, function: Any) -> Iterator[str]:
    words: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(parameter.name + ("" if parameter.default is parameter.empty else "=..."))
    yield from (f"`{name}({', '.join(words)})`", "")


def _members(kind: type) -> Iterator[str]:
    """Yield the public methods and properties with their own text."""
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        said, sections = _parts(inspect.getdoc(function) or "")
        call = "" if isinstance(member, property) else _call(function)
        yield from ("", f"`.{name}{call}`: {said}")
        if "Args" in sections:
            yield ""
            yield from _table(sections["Args"], _defaults(function))


def _call(function: Any) -> str:
    names = list(inspect.signature(function).parameters)[1:]
    return f"({', '.join(names)})"


def _defaults(value: Any) -> dict[str, str]:
    """Return what fields or parameters are unless they are given, as text."""
    if dataclasses.is_dataclass(value):
        return {
            f.name: _shown(f.default if f.default_factory is dataclasses.MISSING else f.default_factory())
            for f in dataclasses.fields(value)
            if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        }
    if inspect.isfunction(value):
        found = inspect.signature(value).parameters.values()
        return {p.name: _shown(p.default) for p in found if p.default is not p.empty}
    return {}


def _shown(value: Any) -> str:
    return f"`{value!r}`"


def _parts(text: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's prose and its sections by title."""
    pieces = re.split(r"^(Args|Attributes|Returns|Raises):\n", text, flags=re.M)
    sections = dict(zip(pieces[1::2], map(inspect.cleandoc, pieces[2::2]), strict=True))
    return _flow(pieces[0]), {title: _until_prose(body) for title, body in sections.items()}


def _until_prose(body: str) -> str:
    return body.partition("\n\n")[0]


def _entries(body: str) -> list[str]:
    """Return a section's entries, each in one line."""
    return [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", body)]


def _table(body: str, defaults: Mapping[str, str]) -> Iterator[str]:
    yield from ("| name | default | meaning |", "|---|---|---|")
    for entry in _entries(body):
        names, _, meaning = entry.partition(": ")
        given = [n.strip(" `") for n in names.split(",")]
        known = ", ".join(dict.fromkeys(defaults[n] for n in given if n in defaults))
        yield f"| {', '.join(f'`{n}`' for n in given)} | {_cell(known)} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _flow(text: str) -> str:
    """Join the lines of each paragraph; indented ones are code."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(p if p.startswith("    ") else " ".join(p.split()) for p in paragraphs)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
