"""Identity of results: canonical JSON, sha256, and the digest of code that matters.

Everything that can change a result goes into a key; transport (host, GPU type, worker count, batch size,
paths, retries) never does. This module imports nothing of the project's own.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no blanks, ASCII.

    Accepts None, bool, int, finite float, str, mappings with string keys, sequences, sets of strings and
    dataclasses. Paths are refused: a key must not depend on where a file lies.

    Raises:
        TypeError: a type that has no canonical form.
        ValueError: NaN or infinity.
    """
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    """Bring what JSON does not know into a form it knows; called by the encoder for such values only."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain
)


def digest(value: Any) -> str:
    """Return the sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}(?!/)")


def is_address(path: str) -> bool:
    """Tell whether what should be a path is an address (`s3://bucket/x`), also one that `Path` has shortened."""
    return _ADDRESS.match(path) is not None


def file_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_digest(modules: tuple[str, ...]) -> str:
    """Return the digest of modules' code, blind to comments, docstrings and formatting.

    Args:
        modules: dotted names; a package stands for every module below it. A name ending in `.py` is a
            file path, which stands for whatever it imports from its own folder too, see `imported_files`.
    """
    parts = []
    for module in sorted(modules):
        for name, path in _sources(module):
            parts.append((name, _digest_of_source(path, _stamp(path))))
    return digest(parts)


@cache
def package_digest() -> str:
    """Return the digest of the installed package itself: equal on machines that compute alike."""
    root = Path(__file__).resolve().parents[1]
    parts = [(str(p.relative_to(root)), file_digest(p)) for p in sorted(root.rglob("*.py"))]
    return digest(parts)


def imported_files(path: Path) -> list[Path]:
    """Return a file and the files that it and they import from its own folder, or from its package, sorted.

    `import` statements are followed wherever they stand; what a program imports by a name it makes up is not seen.
    """
    root = path.resolve().parent
    while (root / "__init__.py").is_file():
        root = root.parent
    found: dict[Path, None] = {}
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found[file] = None
        for name in _imports(file, root, _stamp(file)):
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                place = root.joinpath(*parts[:depth])
                waiting += [p for p in (place.with_name(place.name + ".py"), place / "__init__.py") if p.is_file()]
    return [path.resolve(), *sorted(found.keys() - {path.resolve()})]


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes with a file, so that methods that share code do not parse it again each."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@cache
def _digest_of_source(path: Path, _at: tuple[int, int, int]) -> str:
    return source_digest(path.read_text(encoding="utf-8"))


@cache
def _imports(file: Path, root: Path, _at: tuple[int, int, int]) -> tuple[str, ...]:
    """Return the dotted names, seen from `root`, of everything a file may import."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8-sig"))
    except (SyntaxError, UnicodeDecodeError):  # whoever runs the file says so
        return ()
    package = file.parent.relative_to(root).parts
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*base, *([node.module] if node.module else [])))
            found |= dict.fromkeys(".".join(filter(None, (start, alias.name))) for alias in node.names)
    return tuple(found)


def source_digest(source: str) -> str:
    """Return the digest of Python source, blind to comments, docstrings and formatting."""
    tree = _without_docstrings(ast.parse(source))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _sources(module: str) -> Iterable[tuple[str, Path]]:
    """Return the files a name stands for, each with what it is called in the digest."""
    if module.endswith(".py"):
        own, *others = imported_files(Path(module))
        return [(own.name, own), *((os.path.relpath(p, own.parent), p) for p in others)]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for module {module!r}")
    if spec.submodule_search_locations:
        below = sorted(p for root in spec.submodule_search_locations for p in Path(root).rglob("*.py"))
        return [(p.name, p) for p in below]
    return [(Path(spec.origin).name, Path(spec.origin))]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def sample_seed(base: int, dataset: str, sample: str, repeat: int) -> int:
    """Return the seed of one job, in [0, 2**31).

    It depends on the base seed, the sample and the repeat, never on the method's code, the order of work or
    the worker: two commits, or two methods, draw the same noise.
    """
    text = f"{base}/{dataset}/{sample}/{repeat}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1
