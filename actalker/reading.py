"""What comes from files: JSON, TOML and tensors. Whatever is wrong with one is a sentence that names it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actalker.errors import ActalkerError, CheckpointError


@contextmanager
def foreign(what: object, error: type[ActalkerError] = CheckpointError) -> Iterator[None]:
    """Turn whatever goes wrong while `what` is read into an error about it.

    A file can come from anybody, and the libraries that read it raise errors of many kinds, some of their own.

    Raises:
        ActalkerError: of the kind `error`, unless the block raised one itself.
    """
    try:
        yield
    except (ActalkerError, MemoryError):
        raise
    except Exception as cause:
        said = " ".join(str(cause).split())[:300]
        raise error(f"{what} cannot be read: {type(cause).__name__}{f': {said}' if said else ''}") from cause


def parse_json(text: str | bytes, where: object, error: type[ActalkerError] = CheckpointError) -> dict[str, Any]:
    """Return a JSON object; `where` names it in errors.

    Raises:
        ActalkerError: it is none.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"{where} is not JSON: {type(cause).__name__}: {cause}") from cause
    if not isinstance(values, dict):
        raise error(f"{where} holds {type(values).__name__} where a JSON object is expected")
    return values


def read_json(path: Path, error: type[ActalkerError] = CheckpointError) -> dict[str, Any]:
    """Read a file with one JSON object; see `parse_json`."""
    with foreign(path, error):
        text = path.read_bytes()
    return parse_json(text, path, error)


def read_toml(path: Path, error: type[ActalkerError] = CheckpointError) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ActalkerError: it cannot be read or is not TOML.
    """
    with foreign(path, error):
        data = path.read_bytes()
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is not valid TOML: {cause}") from cause


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file.

    Raises:
        CheckpointError: it is none.
    """
    from safetensors.torch import load_file

    with foreign(path):
        return load_file(path)


def shown(text: str) -> str:
    """Return text for a terminal: names in it can come from anybody, and neither colour it nor move its cursor."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
