"""What users write in TOML: read into frozen dataclasses, with errors that name the file, the line and the field.

The functions at the end check single keys, values and patterns of tables that are read by hand.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from bench.core.errors import UsageError, did_you_mean

T = TypeVar("T")


def read(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a dataclass.

    Fields may be str, int, float, bool, Literal, tuple[X, ...], Mapping[str, X], another dataclass, or an
    optional one of these. An int is accepted where a float is declared.

    Raises:
        UsageError: the file is not TOML, a field is unknown, missing or of the wrong type, or the
            dataclass itself refused the values (ValueError in `__post_init__`).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    return typing.cast(T, _Reader(path, text).build(kind, data, ()))


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def build(self, kind: type, data: Mapping[str, Any], where: tuple[str, ...]) -> Any:
        fields = {f.name: f for f in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        for key in data:
            if key not in fields:
                raise self.error(
                    (*where, key),
                    f"unknown field '{key}'.{did_you_mean(key, list(fields))}",
                    f"Known here: {', '.join(sorted(fields))}",
                )
        values = {key: self.convert(hints[key], value, (*where, key)) for key, value in data.items()}
        for name, field in fields.items():
            optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if name not in values and not optional:
                raise self.error(where, f"field '{name}' is missing.")
        try:
            return kind(**values)
        except ValueError as error:
            raise self.error(where, f"{error}") from error

    def convert(self, hint: Any, value: Any, where: tuple[str, ...]) -> Any:
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self.convert(next(a for a in get_args(hint) if a is not type(None)), value, where)
        if origin is Literal:
            allowed = get_args(hint)
            if value not in allowed:
                guess = did_you_mean(str(value), [str(a) for a in allowed])
                raise self.error(
                    where, f"{value!r} is not allowed.{guess}", f"One of: {', '.join(map(str, allowed))}"
                )
            return value
        if origin is tuple:
            if not isinstance(value, list):
                raise self.error(where, f"must be a list, not {_name(value)}.")
            return tuple(self.convert(get_args(hint)[0], item, (*where, str(i))) for i, item in enumerate(value))
        if origin is not None and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self.error(where, f"must be a table, not {_name(value)}.")
            return {key: self.convert(get_args(hint)[1], item, (*where, key)) for key, item in value.items()}
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise self.error(where, f"must be a table, not {_name(value)}.")
            return self.build(typing.cast(type, hint), value, where)
        if hint is Any:
            return value
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
            raise self.error(where, f"must be {_ARTICLE.get(hint, hint.__name__)}, not {_name(value)}.")
        return value

    def error(self, where: tuple[str, ...], what: str, hint: str = "") -> UsageError:
        field = ".".join(where)
        line = self.line_of(where)
        place = f"{self.path}:{line}" if line else str(self.path)
        return UsageError(f"{place}: {f'{field}: ' if field else ''}{what}", hint)

    def line_of(self, where: tuple[str, ...]) -> int:
        """Return the 1-based line where a field is set, or 0; tomllib itself forgets positions."""
        names = [part for part in where if not part.isdigit()]
        # The n-th entry of an array of tables is the n-th header of that name.
        entry = next((int(part) for part in where if part.isdigit()), 0)
        table: tuple[str, ...] = ()
        seen: dict[tuple[str, ...], int] = {}
        best = 0
        for number, line in enumerate(self.lines, 1):
            header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
            if header:
                table = tuple(part.strip("\"' ") for part in re.findall(r'"[^"]*"|\'[^\']*\'|[^.]+', header[1]))
                seen[table] = seen.get(table, -1) + 1
                if table == tuple(names) and (not line.lstrip().startswith("[[") or seen[table] == entry):
                    best = number
                continue
            key = re.match(r"""\s*("[^"]+"|'[^']+'|[A-Za-z0-9_\-]+)\s*=""", line)
            if key and (*table, key[1].strip("\"'")) == tuple(names) and seen.get(table, 0) in (0, entry):
                best = number
        return best


_ARTICLE: Mapping[Any, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def _name(value: Any) -> str:
    return _ARTICLE.get(type(value), type(value).__name__)


def check_keys(data: object, spec: type, where: str, hidden: Sequence[str] = ()) -> None:
    """Refuse keys that are not fields of the dataclass `spec`, naming the nearest known one."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} must be a table, not {data!r}.")
    known = [f.name for f in dataclasses.fields(spec) if f.name not in hidden]
    for key in data:
        if key not in known:
            raise UsageError(
                f"{where} has the unknown key '{key}'.{did_you_mean(key, known)}",
                f"Known keys: {', '.join(known)}.",
            )


def one_of(value: str, known: Sequence[str], where: str) -> None:
    """Refuse a value outside `known`."""
    if value not in known:
        raise UsageError(
            f"{where} is '{value}'.{did_you_mean(str(value), list(known))}", f"It can be {', '.join(known)}."
        )


def texts(data: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Refuse values of `keys` that are not text."""
    for key in keys:
        if not isinstance(data.get(key, ""), str):
            raise UsageError(f"{where}: {key} must be text in quotes, not {data[key]!r}.")


def tables(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """Return an array of tables, empty when it is not there."""
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f"{where}: '{key}' must be written as [[{key}]].")
    return value


def strings(value: object, where: str) -> tuple[str, ...]:
    """Return a string or a list of strings as a tuple; refuse anything else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise UsageError(f"{where} must be a string or a list of strings, not {value!r}.")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches any pattern and no `!` pattern; only `!` patterns means anything else."""
    wanted = [p for p in patterns if not p.startswith("!")]
    refused = [p[1:] for p in patterns if p.startswith("!")]
    return (not wanted or any(fnmatchcase(name, p) for p in wanted)) and not any(
        fnmatchcase(name, p) for p in refused
    )


def first_match(candidates: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the candidates that match the first pattern which matches any of them."""
    for pattern in patterns:
        found = [c for c in candidates if fnmatchcase(c, pattern)]
        if found:
            return found
    return []
