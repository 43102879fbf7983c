"""The folder a user's results live in."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.keys import is_address
from bench.store.blobs import Blobs
from bench.store.files import make_folder
from bench.store.records import Records


class Home:
    """Blobs, records, runs, prepared data and downloaded weights under one folder.

    It is its user's alone: clips show people and prepared data holds vectors that identify them. A home that has
    Unix's sign of a shared folder (`chgrp GROUP HOME; chmod 2770 HOME`) is open to that group.

    Args:
        path: `None` takes `$BENCH_HOME`, else `.bench` in the current folder.

    Attributes:
        chosen: somebody named the folder; otherwise it may have come with whatever lies here.
    """

    def __init__(self, path: Path | None = None) -> None:
        named = path or os.environ.get("BENCH_HOME")
        require_folder(str(named or ""))
        self.chosen = bool(named)
        self.path = Path(named or ".bench").expanduser().resolve()
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(
                f"{self.path} is a file; results need a folder.",
                "Pass another one with --home or $BENCH_HOME.",
            )
        self.blobs = Blobs(self.path / "blobs")
        self.records = Records(self.path / "records")
        self.runs = self.path / "runs"
        self.data = self.path / "data"
        self.weights = self.path / "weights"
        self.logs = self.path / "logs"
        self.methods = self.path / "methods"

    def ready(self) -> Home:
        """Make the folder and check that it can be written; return self."""
        try:
            make_folder(self.path.parent)
            is_new = not self.path.exists()
            self.path.mkdir(mode=0o700, exist_ok=True)
            if is_new:  # clips and weights belong into nobody's repository
                (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
            for folder in (self.blobs.root, self.records.root, self.runs, self.data, self.logs, self.methods):
                self._close(folder)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise UsageError(
                f"Cannot write to {self.path}: {error.strerror}.",
                "Pass another folder with --home or $BENCH_HOME.",
            ) from error
        return self

    def _close(self, folder: Path) -> None:
        """Make a folder of ours, or close an existing one, to everybody but the user or the home's group."""
        folder.mkdir(mode=0o700, exist_ok=True)
        home, found = self.path.stat().st_mode, folder.lstat()
        mode = 0o2770 if home & stat.S_ISGID and home & stat.S_IWGRP else 0o700
        # A link leads to a place the user arranged himself.
        if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) != mode:
            folder.chmod(mode)


def require_folder(home: str) -> None:
    """Refuse an address where a folder is needed: it would quietly become a local folder of that name.

    Raises:
        UsageError: with what to do instead.
    """
    if is_address(home):
        raise UsageError(
            f"{home} is an address, and results need a folder.",
            "Mount the bucket or share and pass its mount point (every node of a cluster under the same path),"
            " or pass a local folder with --home or $BENCH_HOME.",
        )


def is_store(folder: Path) -> bool:
    """Tell whether a folder holds results: it is then never read as an input."""
    return (folder / "records").is_dir() and (folder / "blobs").is_dir()
