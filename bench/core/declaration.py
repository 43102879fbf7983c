"""What comes from files in TOML or JSON: read into types, with errors that name the file, the line and the field.

The functions at the end check single keys, values and patterns of tables that are read by hand.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

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
    text = _text(path)
    return typing.cast(T, _Reader(path, text).build(kind, _parse_toml(text, path), ()))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file whose tables are then checked by hand, with the functions at the end.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    return _parse_toml(_text(path), path)


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")  # Windows editors write a mark first
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also dates and numbers that do not exist
        said = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path} is not valid TOML: {said}.") from error


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file into a type.

    Args:
        path: the file.
        kind: as the fields of `read`, or a `TypedDict`, whose keys are checked and whose unknown keys are kept:
            files written by another version stay readable.

    Raises:
        UsageError: it cannot be read, is not JSON, or has another shape; the message names file and field.
    """
    return parse_json(_bytes(path), kind, path)


def read_json_lines(path: Path, kind: type[T]) -> tuple[T, ...]:
    """Read a file with one JSON value a line; see `read_json`."""
    lines = _bytes(path).splitlines()
    return tuple(parse_json(line, kind, f"{path}:{number}") for number, line in enumerate(lines, 1))


def known_json(path: Path, kind: type[T]) -> T | None:
    """Read a file of ours that can be made again: None when it is missing or damaged; see `read_json`."""
    try:
        return read_json(path, kind)
    except UsageError:
        return None


def parse_json(data: bytes | str, kind: type[T], where: Path | str) -> T:
    """Return JSON text as a type; `where` names it in errors. See `read_json`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: also bytes that are no text, and numbers too long
        said = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{where} is not valid JSON: {said}.") from error
    return as_type(value, kind, where)


def as_type(value: object, kind: type[T], where: Path | str) -> T:
    """Return a value that JSON text held as a type; see `read_json`."""
    return typing.cast(T, _Reader(where, "", "an object").convert(kind, value, ()))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error


def line_of(path: Path, *where: str) -> int:
    """Return the 1-based line of a TOML file where a field is set, or 0.

    Args:
        path: the file.
        where: tables and field, from outside in; entries of an array by their number.
    """
    return _Reader(path, path.read_text(encoding="utf-8")).line_of(where)


@lru_cache(maxsize=512)
def _has_fields(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or typing.is_typeddict(hint)


@lru_cache(maxsize=512)
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


class _Reader:
    """Builds values of declared types.

    Args:
        path: file or place named in errors.
        text: of the file, where lines are looked for.
        table: what the format calls a mapping.
    """

    def __init__(self, path: Path | str, text: str, table: str = "a table") -> None:
        self.path = path
        self.lines = text.splitlines()
        self.table = table

    def build(self, kind: type, data: Mapping[str, Any], where: tuple[str, ...]) -> Any:
        fields = {f.name: f for f in dataclasses.fields(kind)}
        hints = _hints(kind)
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
        if type(value) is hint:  # most values are what they should be
            return value
        # Attributes, because `typing.get_origin` and `get_args` are slow and asked for every record of a run.
        origin = types.UnionType if isinstance(hint, types.UnionType) else getattr(hint, "__origin__", None)
        of: tuple[Any, ...] = getattr(hint, "__args__", ())
        if origin in (Union, types.UnionType):
            if type(value) in of:
                return value
            return self.convert(next(a for a in of if a is not type(None)), value, where)
        if origin is Literal:
            allowed = of
            if value not in allowed:
                guess = did_you_mean(str(value), [str(a) for a in allowed])
                raise self.error(
                    where, f"{value!r} is not allowed.{guess}", f"One of: {', '.join(map(str, allowed))}"
                )
            return value
        if origin in (tuple, list):
            if not isinstance(value, list):
                raise self.error(where, f"must be a list, not {self.name(value)}.")
            return origin(self.convert(of[0], item, (*where, str(i))) for i, item in enumerate(value))
        if origin is not None and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self.error(where, f"must be {self.table}, not {self.name(value)}.")
            inner = of[1]
            return {
                key: item if type(item) is inner else self.convert(inner, item, (*where, key))
                for key, item in value.items()
            }
        if _has_fields(hint):
            if not isinstance(value, dict):
                raise self.error(where, f"must be {self.table}, not {self.name(value)}.")
            if dataclasses.is_dataclass(hint):
                return self.build(typing.cast(type, hint), value, where)
            return self.checked(hint, value, where)
        if hint is Any:
            return value
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError as error:
                raise self.error(where, "is too large a number.") from error
        if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
            wanted = self.table if hint is dict else _ARTICLE.get(hint, hint.__name__)
            raise self.error(where, f"must be {wanted}, not {self.name(value)}.")
        return value

    def checked(self, kind: Any, data: Mapping[str, Any], where: tuple[str, ...]) -> dict[str, Any]:
        """Return a mapping whose declared keys have their types; others stay as they are."""
        hints = _hints(kind)
        if not kind.__required_keys__ <= data.keys():
            key = sorted(kind.__required_keys__ - set(data))[0]
            raise self.error(where, f"field '{key}' is missing.")
        return {k: self.convert(hints[k], v, (*where, k)) if k in hints else v for k, v in data.items()}

    def name(self, value: Any) -> str:
        """Say what a value is."""
        return self.table if isinstance(value, dict) else _ARTICLE.get(type(value), type(value).__name__)

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
    list: "a list",
    type(None): "null",
}


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
