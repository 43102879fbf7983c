"""This machine's copies of what lies in a bucket, kept within a size: what was used longest ago goes first.

A copy goes only when the bucket has it, nobody used it for a quarter of an hour, and no job that began before its
last use still runs. Use is a file's access time, set by hand because few file systems keep it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.core.errors import UsageError
from bench.store.files import StoreUnreachable, append_to, full_disk_explained

LIMIT = "BENCH_CACHE_GB"
_DEFAULT = 100.0  # GB
_FOLDERS = ("blobs", "inputs", "data")  # the rest is small, or of this machine alone
_RECENT = 900.0  # seconds
_LEFT = 0.9  # of the limit, after files had to go
_LOOKS = 500  # for each time that the limit is filled; many workers of a machine look on their own


class Cache:
    """The copies in one folder, which all processes of this machine share.

    Args:
        root: the folder.
        sizes: tells which files the bucket has, by name, and their bytes.

    Raises:
        UsageError: `$BENCH_CACHE_GB` is not a size.
    """

    def __init__(self, root: Path, sizes: Callable[[Iterable[str]], Mapping[str, int]]) -> None:
        self._root, self._sizes = root, sizes
        self._limit = _limit()
        self._grown = self._limit  # look when the first copy comes

    def has(self, name: str) -> bool:
        """Tell whether a copy is there; that counts as its use."""
        path = self._root / name
        try:
            found = path.stat()
        except OSError:
            return False
        with suppress(OSError):  # another user's
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
        return stat.S_ISREG(found.st_mode)

    def added(self, name: str) -> None:
        """Take notice of a new copy; let others go when they are too many."""
        if self.has(name):
            self._grown += (self._root / name).stat().st_size
        if self._grown * _LOOKS >= self._limit:
            self._grown = 0
            self._trim()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep everything that is used from now until this ends."""
        mark = self._root / "in-use" / uuid.uuid4().hex
        with full_disk_explained(mark):
            file = append_to(mark)
        with file:
            fcntl.flock(file, fcntl.LOCK_SH)  # ends with this process, however that ends
            try:
                yield
            finally:
                mark.unlink(missing_ok=True)

    def _trim(self) -> None:
        with append_to(self._root / "in-use" / ".trim") as alone, suppress(BlockingIOError, StoreUnreachable):
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
            copies = sorted(self._copies())
            excess = sum(size for _, size, _ in copies) - self._limit
            if excess <= 0:
                return
            excess += int((1 - _LEFT) * self._limit)
            since, chosen = self._needed_since(), {}
            for used, size, name in copies:
                if excess <= 0 or used >= since:
                    break
                chosen[name] = (used, size)
                excess -= size
            there = self._sizes(chosen)
            for name, (used, size) in chosen.items():
                with suppress(OSError):
                    if there.get(name) == size and (self._root / name).stat().st_atime_ns == used:
                        (self._root / name).unlink()

    def _copies(self) -> Iterator[tuple[int, int, str]]:
        """Yield when each copy was used, in nanoseconds, its size and its name."""
        for top in _FOLDERS:
            for folder, below, names in os.walk(self._root / top):
                if "scratch" in below:
                    below.remove("scratch")
                for name in names:
                    path = Path(folder, name)
                    with suppress(OSError):
                        if not name.startswith("."):  # not yet whole
                            found = path.stat()
                            yield found.st_atime_ns, found.st_size, path.relative_to(self._root).as_posix()

    def _needed_since(self) -> int:
        """Return the time in nanoseconds since when used copies are needed."""
        since = time.time_ns() - int(_RECENT * 1e9)
        for mark in (self._root / "in-use").glob("[!.]*"):
            with suppress(OSError), mark.open("rb") as file:
                began = os.fstat(file.fileno()).st_mtime_ns
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    since = min(since, began)
                else:
                    if began < since:  # its process was killed; a young one is about to be locked
                        mark.unlink()
        return since


def _limit() -> int:
    """Return the bytes that copies may have."""
    said = os.environ.get(LIMIT, "")
    try:
        size = float(said or _DEFAULT)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise UsageError(
            f"${LIMIT} is '{said}', which is no size.",
            f"Give the GB that copies of a bucket's files may take on a machine: export {LIMIT}={_DEFAULT:g}",
        )
    return int(size * 1e9)
