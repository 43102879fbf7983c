"""The folder a user's results live in."""

from __future__ import annotations

import os
from pathlib import Path

from bench.core.errors import UsageError
from bench.store.blobs import Blobs
from bench.store.records import Records


class Home:
    """Blobs, records, runs, prepared data and downloaded weights under one folder.

    Args:
        path: `None` takes `$BENCH_HOME`, else `.bench` in the current folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = Path(path or os.environ.get("BENCH_HOME") or ".bench").expanduser().resolve()
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

    def ready(self) -> Home:
        """Make the folder and check that it can be written; return self."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"Cannot write to {self.path}: {error.strerror}.",
                "Pass another folder with --home or $BENCH_HOME.",
            ) from error
        return self
