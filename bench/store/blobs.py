"""Content-addressed files: a clip or feature array is stored once under the sha256 of its bytes."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.core.keys import file_digest
from bench.store.files import full_disk_explained, staged


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


class Blobs:
    """The blob folder.

    Args:
        root: where blobs lie; made on first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, blob: Blob) -> Path:
        """Return where a blob lies (whether or not it is there)."""
        return Path(self._place(blob))

    def _place(self, blob: Blob) -> str:
        return f"{self.root}/{blob.sha256[:2]}/{blob.sha256}{blob.suffix}"

    def has(self, blob: Blob) -> bool:
        """Tell whether the blob is there with its recorded size. `verify` checks the digest too."""
        try:
            return os.stat(self._place(blob)).st_size == blob.size  # noqa: PTH116  asked 40,000 times at a start
        except OSError:
            return False

    def verify(self, blob: Blob) -> bool:
        """Tell whether the blob is there and its bytes have the recorded digest."""
        return self.has(blob) and file_digest(self.path(blob)) == blob.sha256

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
        with staged(self.path(blob)) as temporary:
            path.replace(temporary)
        return blob

    def copy_in(self, path: Path, suffix: str) -> Blob:
        """Copy a file from outside into the store."""
        with self.scratch(suffix) as scratch:
            shutil.copyfile(path, scratch)
            return self.adopt(scratch, suffix)
