"""What a file contains, hashed once and remembered."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from bench.core.declaration import known_json
from bench.store.files import identity, write_bytes
from bench.store.home import Home

_CHUNK = 1 << 20


def content(path: Path) -> str:
    """Return a file's sha256, hashed once per state of the file and remembered in `<home>`."""
    return digest_of(path, "sha256")


_digests: dict[tuple[str | int, ...], str] = {}


def digest_of(path: Path, kind: Literal["sha256", "git"], file: IO[bytes] | None = None) -> str:
    """Hash a file once per state of the file (see `identity`), remembered across processes in `<home>`.

    A memory that others may write is not believed.

    Args:
        path: the file.
        kind: of digest, see `hash_of`.
        file: the same, open already; whatever the name leads to by now, this is what is hashed.
    """
    if file is None:
        with path.open("rb") as opened:
            return digest_of(path, kind, opened)
    found = os.fstat(file.fileno())
    key = (kind, str(path.resolve()), *identity(found))
    if key in _digests:
        return _digests[key]
    memory = Home().weights / ".digests.json"
    text = "|".join(map(str, key))
    remembered = (known_json(memory, dict[str, str]) if _ours(memory) else None) or {}
    if text not in remembered:
        remembered[text] = hash_of(file, kind, found.st_size)
        with suppress(OSError):  # a read-only home only costs hashing again
            write_bytes(memory, json.dumps(remembered).encode("utf-8", "backslashreplace"))
    return _digests.setdefault(key, remembered[text])


def _ours(memory: Path) -> bool:
    """Tell whether only this user can have written a file."""
    try:
        found = [memory.stat(), memory.parent.stat()]
    except OSError:
        return False
    return all(f.st_uid == os.getuid() and not f.st_mode & 0o002 for f in found)


def hash_of(file: IO[bytes], kind: Literal["sha256", "git"], size: int) -> str:
    """Hash an open file now, from its beginning: its sha256, or the id git gives a blob of `size` bytes."""
    # A git blob id is the SHA-1 of a short header and the content.
    state = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {size}\0".encode())
    file.seek(0)
    while block := file.read(_CHUNK):
        state.update(block)
    return state.hexdigest()
