"""What a file contains, hashed once and remembered."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Literal

from bench.store.files import write_bytes
from bench.store.home import Home

_CHUNK = 1 << 20


def content(path: Path) -> str:
    """Return a file's sha256, hashed once per size and modification time and remembered in `<home>`."""
    return digest_of(path, "sha256")


_digests: dict[tuple[str, str, int, int], str] = {}


def digest_of(path: Path, kind: Literal["sha256", "git"]) -> str:
    """Hash a file once per size and modification time, remembered across processes in `<home>`."""
    stat = path.stat()
    key = (kind, str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key in _digests:
        return _digests[key]
    memory = Home().weights / ".digests.json"
    text = "|".join(map(str, key))
    try:
        remembered: dict[str, str] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        remembered = {}
    if text not in remembered:
        remembered[text] = hash_of(path, kind, stat.st_size)
        with suppress(OSError):  # a read-only home only costs hashing again
            write_bytes(memory, json.dumps(remembered).encode())
    return _digests.setdefault(key, remembered[text])


def hash_of(path: Path, kind: Literal["sha256", "git"], size: int) -> str:
    """Hash a file now: its sha256, or the id git gives a blob of `size` bytes."""
    # A git blob id is the SHA-1 of a short header and the content.
    state = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            state.update(block)
    return state.hexdigest()
