"""Where named bytes lie: a folder, or a bucket of an object store (`bench.store.bucket`) behind a local cache.

Names are relative, with `/` between their parts, and the same everywhere: `records/gen/ab/ab12.json` is that file
below a local home, and that object below a bucket's prefix.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.store.files import staged, write_bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a stored file without reading it.

    Attributes:
        name: see the module.
        size: bytes.
        modified: seconds since the epoch.
    """

    name: str
    size: int
    modified: float


class Storage(Protocol):
    """Named bytes that all workers of a run see. Every write is atomic: readers see the old, nothing, or the new.

    Attributes:
        address: what another process on another machine opens it by.
        root: the folder itself, or this machine's cache of the bucket.
        near: asking costs microseconds, not a round trip over the network.
    """

    address: str
    root: Path
    near: bool

    def read(self, name: str) -> bytes | None:
        """Return the content, or None when there is none."""

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of those that exist."""

    def write(self, name: str, data: bytes, lasting: bool = True) -> None:
        """Write, over what is there; `lasting`: so that it outlives a power cut."""

    def create(self, name: str, data: bytes, lasting: bool = True) -> bool:
        """Write if there is none yet; of several at the same time one succeeds. False: there is one."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the bytes of those that exist."""

    def adopt(self, path: Path, name: str) -> None:
        """Take a finished local file, which is gone from `path` afterwards."""

    def share(self, files: Mapping[Path, str], again: bool = False) -> None:
        """Let every machine have these local files by name; those there with their size stay, unless `again`."""

    def fetch(self, names: Iterable[str], again: bool = False) -> None:
        """Bring files below `root` that are not there, or all; those that do not exist are left out."""

    def in_use(self) -> AbstractContextManager[None]:
        """Keep what is fetched, or was there when it was to be, until this ends."""

    def drop(self, name: str) -> None:
        """Remove, if it is there."""

    def names(self, prefix: str) -> Iterator[Stored]:
        """Yield everything below a prefix that ends at a `/`. For housekeeping: may cost minutes."""


class Folder:
    """A folder as `Storage`.

    Args:
        root: made on first write.
    """

    near = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = str(root)

    def read(self, name: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            with open(f"{self.root}/{name}", "rb") as file:  # noqa: PTH123  asked 40,000 times at a start
                return file.read()
        except OSError:
            return None

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `Storage.read_many`."""
        return {name: data for name in names if (data := self.read(name)) is not None}

    def write(self, name: str, data: bytes, lasting: bool = True) -> None:
        """See `Storage.write`."""
        write_bytes(self.root / name, data, lasting=lasting)

    def create(self, name: str, data: bytes, lasting: bool = True) -> bool:
        """See `Storage.create`."""
        final = self.root / name
        if final.exists():
            return False
        part = final.with_name(f".{final.name[:100]}.{uuid.uuid4().hex}.part")
        write_bytes(part, data, lasting=lasting)
        try:
            os.link(part, final)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)
        return True

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """See `Storage.sizes`."""
        found = {}
        for name in names:
            with suppress(OSError):
                found[name] = os.stat(f"{self.root}/{name}").st_size  # noqa: PTH116  as above
        return found

    def adopt(self, path: Path, name: str) -> None:
        """See `Storage.adopt`."""
        with staged(self.root / name) as temporary:
            path.replace(temporary)

    def share(self, files: Mapping[Path, str], again: bool = False) -> None:
        """See `Storage.share`: machines that see this folder see its files, and others lie where they lie."""

    def fetch(self, names: Iterable[str], again: bool = False) -> None:
        """See `Storage.fetch`: they are there."""

    def in_use(self) -> AbstractContextManager[None]:
        """See `Storage.in_use`: nothing goes."""
        return nullcontext()

    def drop(self, name: str) -> None:
        """See `Storage.drop`."""
        (self.root / name).unlink(missing_ok=True)

    def names(self, prefix: str) -> Iterator[Stored]:
        """See `Storage.names`."""
        for path in (self.root / prefix).rglob("*"):
            with suppress(OSError):
                if path.is_file():
                    status = path.stat()
                    yield Stored(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)
