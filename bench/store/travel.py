"""Paths in tasks, on machines that do not share a disk.

A home in an object store has a cache folder on every machine, each somewhere else. A task leaves with the names
that its files have in the home; a worker puts in where they lie on its own disk, and fetches those it lacks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench.core.declaration import parse_json
from bench.core.keys import digest, file_digest, imported_files
from bench.store.storage import Storage

_FILES = "files.json"  # names of a method's files, its own first
_ANYWHERE = Path("/home-of-this-task")  # stands for the cache folder while a task travels

T = TypeVar("T")


class Luggage:
    """The files that tasks read, put where every machine gets them.

    Args:
        storage: of the home.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._names: dict[Path, str] = {}  # of files that lie outside of the home

    def pack(self, tasks: Iterable[Any]) -> None:
        """Send the files of tasks that are to be done, many at a time, unless they are there."""
        if self._storage.near:
            return
        paths = {path for task in tasks for path in _paths(task) if path not in self._names}
        files = {path: self._name(path) for path in paths if path.is_file()}
        self._storage.share(files)
        self._names.update(files)

    def away(self, task: T) -> T:
        """Return a task as it travels."""
        if self._storage.near:
            return task
        return _with_paths(task, self._travelling)

    def _travelling(self, path: Path) -> Path:
        name = self._names.get(path)
        if name is None and path.is_relative_to(self._storage.root):
            name = path.relative_to(self._storage.root).as_posix()
        return path if name is None else _ANYWHERE / name

    def _name(self, path: Path) -> str:
        if path.is_relative_to(self._storage.root):
            return path.relative_to(self._storage.root).as_posix()
        name = path.name.encode("utf-8", "backslashreplace").decode()
        place = digest([file_digest(path), name])
        return f"inputs/{place[:2]}/{place}/{name}"


def unpacked(task: T, storage: Storage) -> T:
    """Return a task whose files lie on this machine."""
    if storage.near:
        return task

    def here(path: Path) -> Path:
        return storage.root / path.relative_to(_ANYWHERE) if path.is_relative_to(_ANYWHERE) else path

    arrived = _with_paths(task, here)
    below = (path for path in _paths(arrived) if path.is_relative_to(storage.root))
    storage.fetch(dict.fromkeys(path.relative_to(storage.root).as_posix() for path in below))
    return arrived


def send_code(storage: Storage, target: str, code: str) -> None:
    """Put a method that is a user's file, with what it imports from beside it, where every node gets it.

    Args:
        storage: of the home.
        target: what a worker loads, `file.py:Class` among others.
        code: digest of the method's code.
    """
    file = _file_of(target)
    if file is None:
        return
    files = imported_files(file)
    root = Path(os.path.commonpath([path.parent for path in files]))
    names = [path.relative_to(root).as_posix() for path in files]
    for path, name in zip(files, names, strict=True):
        storage.create(f"{_code_folder(code)}/{name}", path.read_bytes())
    storage.create(f"{_code_folder(code)}/{_FILES}", json.dumps(names).encode())


def arrived_code(storage: Storage, target: str, code: str) -> str:
    """Return what to load for a method on this machine: the target, or what was sent where its file is not there.

    A file that is there is the user's to place; whoever loads it compares its digest.
    """
    file = _file_of(target)
    if file is None or file.is_file():
        return target
    sent = storage.read(f"{_code_folder(code)}/{_FILES}")
    if sent is None:
        return target
    names = parse_json(sent, list[str], _FILES)
    storage.fetch([f"{_code_folder(code)}/{name}" for name in names])
    folder = storage.root / _code_folder(code)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # for what the file imports from beside it
    return f"{folder / names[0]}{target[len(str(file)) :]}"


def _file_of(target: str) -> Path | None:
    name, colon, _ = target.partition(".py:")
    return Path(f"{name}.py") if colon else None


def _code_folder(code: str) -> str:
    return f"inputs/code/{code}"


def _paths(value: Any) -> Iterator[Path]:
    """Yield every path in a task."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, dict):
        yield from _paths(tuple(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name))


def _with_paths(value: Any, change: Callable[[Path], Path]) -> Any:
    """Return a copy of a task with its paths changed; what holds none is not copied."""
    if isinstance(value, Path):
        return change(value)
    if isinstance(value, (tuple, list)):
        items = [_with_paths(item, change) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    if isinstance(value, dict):
        changed = {key: _with_paths(item, change) for key, item in value.items()}
        return value if all(changed[key] is item for key, item in value.items()) else changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        new = {n: now for n in fields if (now := _with_paths(old := getattr(value, n), change)) is not old}
        return dataclasses.replace(value, **new) if new else value
    return value
