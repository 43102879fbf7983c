"""The place a user's results live in: a folder, or a bucket with a cache folder on every machine."""

from __future__ import annotations

import os
import stat
import tempfile
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.core.errors import UsageError
from bench.store.blobs import Blobs
from bench.store.bucket import address_of, bucket
from bench.store.files import make_folder
from bench.store.records import Records
from bench.store.storage import Folder, Storage, Stored


class Home:
    """Blobs, records, runs, prepared data and downloaded weights under one folder, or under a prefix of a bucket.

    It is its user's alone: clips show people and prepared data holds vectors that identify them. A home that has
    Unix's sign of a shared folder (`chgrp GROUP HOME; chmod 2770 HOME`) is open to that group.

    What lies in a bucket is read and written through a folder on this machine (see `bench.store.bucket`), with the
    same names below it. Blobs and records are looked for in the bucket; other files are there once they were given
    (`give`) and here once they were brought (`bring`). Environments of outside systems, and logs, stay on their
    machine.

    Args:
        place: a folder or an address such as `s3://bucket/prefix`; `None` takes `$BENCH_HOME`, else `.bench` in
            the current folder.

    Attributes:
        path: the folder, or this machine's cache of the bucket.
        address: what another process opens it by.
        chosen: somebody named the folder; otherwise it may have come with whatever lies here.

    Raises:
        UsageError: it is a file, or an address that cannot hold results.
        MissingError: the package that reads buckets is not installed.
    """

    def __init__(self, place: str | Path | None = None) -> None:
        named = str(place or os.environ.get("BENCH_HOME") or "")
        self.chosen = bool(named)
        self.storage: Storage
        if address := address_of(named):
            self.storage = bucket(address)
        else:
            self.storage = Folder(Path(named.removeprefix("file://") or ".bench").expanduser().resolve())
        self.path = self.storage.root
        self.address = self.storage.address
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(
                f"{self.path} is a file; results need a folder.",
                "Pass another one with --home or $BENCH_HOME.",
            )
        self.blobs = Blobs(self.storage)
        self.records = Records(self.storage)
        self.runs = self.path / "runs"
        self.data = self.path / "data"
        self.weights = self.path / "weights"
        self.logs = self.path / "logs"
        self.methods = self.path / "methods"

    def ready(self) -> Home:
        """Make the folder and check that it, and the bucket, can be written; return self."""
        try:
            make_folder(self.path.parent)
            is_new = not self.path.exists()
            self.path.mkdir(mode=0o700, exist_ok=True)
            # Clips and weights belong into nobody's repository.
            if is_new and any((folder / ".git").exists() for folder in self.path.parents):
                (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
            for folder in (self.blobs.root, self.records.root, self.runs, self.data, self.logs, self.methods):
                self._close(folder)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise UsageError(
                f"Cannot write to {self.path}: {error.strerror}.",
                "Pass another folder with --home or $BENCH_HOME (and $BENCH_CACHE for the cache of a bucket).",
            ) from error
        if not self.storage.near:
            with self.witness():
                pass
        return self

    @contextmanager
    def witness(self) -> Iterator[str]:
        """Yield the name of a small file that whoever sees this home can see, as long as this lasts.

        Raises:
            UsageError: the object store takes a write that it had to refuse: two workers could make one result.
        """
        name = f"blobs/scratch/{uuid.uuid4().hex}.probe"
        self.storage.create(name, name.encode())
        try:
            if self.storage.create(name, b""):
                raise UsageError(
                    f"{self.address} does not honour conditional writes (If-None-Match).",
                    "Use a store that does: Amazon S3, Google Cloud Storage, Azure, MinIO, Ceph from version 19.",
                )
            yield name
        finally:
            self.storage.drop(name)

    def sees(self, name: str) -> bool:
        """Tell whether what `witness` made elsewhere is in this home."""
        return self.storage.read(name) == name.encode()

    def give(self, files: Iterable[Path], again: bool = True) -> None:
        """Let other machines have files, whole folders too. What lies outside of `path` stays.

        Args:
            files: of this machine.
            again: also those that are there with the same size.
        """
        if not self.storage.near:
            mine = (path for path in files if path.is_relative_to(self.path))
            whole = [f for path in mine for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file()]
            self.storage.share({path: path.relative_to(self.path).as_posix() for path in whole}, again)

    def bring(self, *files: Path) -> None:
        """Fetch files below `path` that are not on this machine; those that nobody gave are left out."""
        if not self.storage.near:
            below = [path for path in files if path.is_relative_to(self.path)]
            self.storage.fetch([path.relative_to(self.path).as_posix() for path in below])

    def bring_folder(self, folder: Path, only: Collection[str] = ()) -> None:
        """Fetch what was given below a folder and is newer there: files of these names, or all."""
        if self.storage.near:
            return
        found = self.storage.names(f"{folder.relative_to(self.path).as_posix()}/")
        chosen = [s for s in found if not only or s.name.rpartition("/")[2] in only]
        newer = [s for s in chosen if not self._has_latest(s)]
        self.storage.fetch([s.name for s in newer], again=True)
        for stored in newer:  # the newest run is the one that was written last, not the one fetched last
            os.utime(self.path / stored.name, (time.time(), stored.modified))

    def _has_latest(self, stored: Stored) -> bool:
        try:
            here = (self.path / stored.name).stat()
        except OSError:
            return False
        return here.st_size == stored.size and here.st_mtime >= stored.modified

    def _close(self, folder: Path) -> None:
        """Make a folder of ours, or close an existing one, to everybody but the user or the home's group."""
        folder.mkdir(mode=0o700, exist_ok=True)
        home, found = self.path.stat().st_mode, folder.lstat()
        mode = 0o2770 if home & stat.S_ISGID and home & stat.S_IWGRP else 0o700
        # A link leads to a place the user arranged himself.
        if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) != mode:
            folder.chmod(mode)


def is_store(folder: Path) -> bool:
    """Tell whether a folder holds results: it is then never read as an input."""
    return (folder / "records").is_dir() and (folder / "blobs").is_dir()
