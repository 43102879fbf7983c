"""Content-addressed files: a clip or feature array is stored once under the sha256 of its bytes."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.keys import file_digest
from bench.core.spec import Cause
from bench.store.files import full_disk_explained
from bench.store.storage import Storage


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored file.

    Attributes:
        sha256: hex digest of the bytes.
        size: bytes.
        suffix: file name ending, e.g. `.mp4`.
    """

    sha256: str
    size: int
    suffix: str

    @property
    def name(self) -> str:
        """What the storage knows it by."""
        return f"blobs/{self.sha256[:2]}/{self.sha256}{self.suffix}"


class ChangedBlob(BenchError):
    """A file in the store is not what was put there."""

    cause = Cause.INPUT  # of a job that reads it: trying again is of no use


class Blobs:
    """The blobs of a home.

    Args:
        storage: where they lie.

    Attributes:
        root: their folder on this machine; made on first write.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.root = storage.root / "blobs"

    def path(self, blob: Blob) -> Path:
        """Return where a blob lies on this machine, or will when it is fetched."""
        return Path(f"{self._storage.root}/{blob.name}")

    def has(self, blob: Blob) -> bool:
        """Tell whether the blob is there with its recorded size. `verify` checks the digest too."""
        return bool(self.present([blob]))

    def present(self, blobs: Iterable[Blob]) -> set[Blob]:
        """Return those that are there with their recorded sizes."""
        wanted = {blob.name: blob for blob in blobs}
        return {wanted[name] for name, size in self._storage.sizes(wanted).items() if wanted[name].size == size}

    def local(self, blob: Blob) -> Path | None:
        """Return a blob's file on this machine, fetched when it has to be; None: it is not whole anywhere."""
        path = self.path(blob)
        self._storage.fetch([blob.name])
        try:
            return path if path.stat().st_size == blob.size else None
        except OSError:
            return None

    def verify(self, blob: Blob) -> bool:
        """Tell whether the blob is there and its bytes have the recorded digest."""
        if self._storage.near:
            return self.has(blob) and file_digest(self.path(blob)) == blob.sha256
        data = self._storage.read(blob.name)
        return data is not None and hashlib.sha256(data).hexdigest() == blob.sha256

    def require_unchanged(self, path: Path) -> None:
        """Check the digest of a blob's file, which is also its name; what differs is removed, to be made again.

        Raises:
            ChangedBlob: it is not what was stored.
        """
        if path.is_relative_to(self.root) and path.is_file() and file_digest(path) != path.name[:64]:
            self._storage.drop(path.relative_to(self._storage.root).as_posix())
            raise ChangedBlob(
                f"{path.name} was changed after it was stored, or its disk failed; it is removed.",
                "Type the same command again to make it anew.",
            )

    @contextmanager
    def scratch(self, suffix: str) -> Iterator[Path]:
        """Yield a path on the blobs' file system to write a new file to; removed afterwards if still there.

        Raises:
            StoreFull: the disk filled up while it was written.
        """
        folder = self.root / "scratch"
        with full_disk_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{uuid.uuid4().hex}{suffix}"
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def adopt(self, path: Path, suffix: str) -> Blob:
        """Move a finished scratch file into the store."""
        blob = Blob(file_digest(path), path.stat().st_size, suffix)
        self._storage.adopt(path, blob.name)
        return blob

    def copy_in(self, path: Path, suffix: str) -> Blob:
        """Copy a file from outside into the store."""
        with self.scratch(suffix) as scratch:
            shutil.copyfile(path, scratch)
            return self.adopt(scratch, suffix)
