"""Writing files so that a half-written one is never seen."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.core.errors import BenchError


class StoreFull(BenchError):
    """The disk under the store is full. Nothing that was finished is lost."""


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn "no space left on device" into a `StoreFull` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"The disk is full: could not write {path}. Finished results are safe.",
                "Free some space (or pass --home on a larger disk) and run the same command again to resume.",
            ) from error
        raise


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; on success flush it to disk and rename it into place.

    The rename is atomic on one file system, so readers see the old file, no file, or the whole new one. The folder
    itself is not flushed: after a power cut a name may be missing, and its job is then simply done again.

    Raises:
        StoreFull: no space is left.
    """
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.part")
    with full_disk_explained(final):
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(final: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with staged(final) as temporary:
        temporary.write_bytes(data)


def sweep(root: Path, older_than: float) -> int:
    """Remove temporary files left by killed processes; return how many.

    Args:
        root: the store; parts (`.*.part`) and scratch files below it are looked at.
        older_than: modification time (seconds since the epoch) before which a file is abandoned.
    """
    removed = 0
    for folder, _, names in os.walk(root):
        scratch = Path(folder).name == "scratch"
        for name in names:
            if not scratch and not (name.startswith(".") and name.endswith(".part")):
                continue
            path = Path(folder) / name
            try:
                if path.stat().st_mtime < older_than:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
    return removed
