"""Where a weight file is, and whether it is what the lock says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from bench.core.spec import Reason, Unscored, WeightRef
from bench.store.files import identity
from bench.store.home import Home
from bench.weights.digests import digest_of
from bench.weights.locked import EMBEDDED, LockedWeight, entry


@dataclass(frozen=True, slots=True)
class WeightStatus:
    """What `verify` found: `ok`, `missing` or `wrong` (present, but not the locked content)."""

    weight: LockedWeight
    state: Literal["ok", "missing", "wrong"]
    path: Path | None
    detail: str = ""

    @property
    def remedy(self) -> str:
        """What is wrong and what to do about it, in a line; empty when nothing is."""
        if self.state == "ok":
            return ""
        if self.state == "missing" and not self.weight.urls:
            return f"{self.detail} Put it into {folders()[0]}."
        return f"{self.detail} Run: {self.weight.command}"


def use_folder(path: Path) -> None:
    """Search this folder first from now on, here and in child processes (`$BENCH_WEIGHTS`)."""
    os.environ["BENCH_WEIGHTS"] = str(path)


def ref(name: str) -> WeightRef:
    """Return name and content id of a file, without reading it when the lock pins it.

    An unpinned file is identified by the sha256 of the copy that is found, or `absent`.
    """
    weight = entry(name)
    if weight.pin:
        return WeightRef(name, weight.pin)
    path = find(weight)
    return WeightRef(name, digest_of(path, "sha256") if path else "absent")


def folders() -> tuple[Path, ...]:
    """Return the folders that are searched, in order."""
    chosen = os.environ.get("BENCH_WEIGHTS")
    return (*((Path(chosen).expanduser(),) if chosen else ()), Home().weights, EMBEDDED)


def locate(name: str) -> Path:
    """Return the verified file.

    Raises:
        Unscored: the file is not there, or is not what the lock says; the detail has the command to type.
    """
    weight = entry(name)
    status = inspect(weight)
    if status.state == "ok" and status.path is not None:
        return status.path
    raise Unscored(Reason.MISSING_WEIGHTS, status.remedy)


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Yield the verified file, open: what is read from it is what was compared with the lock.

    Another file that takes its name in between is not read, and what was done to the file in between is noticed.

    Raises:
        Unscored: as `locate` does, or the file changed while it was read.
    """
    weight = entry(name)
    path = locate(name)
    with path.open("rb") as file:
        before = identity(os.fstat(file.fileno()))
        if differs := difference(weight, path, file):
            raise Unscored(Reason.MISSING_WEIGHTS, f"{path} {differs}; delete it. Run: {weight.command}")
        file.seek(0)
        yield file
        if identity(os.fstat(file.fileno())) != before:
            raise Unscored(Reason.MISSING_WEIGHTS, f"{path} changed while it was read.")


def verify(names: Iterable[str]) -> list[WeightStatus]:
    """Look at files without downloading anything."""
    return [inspect(entry(name)) for name in names]


def find(weight: LockedWeight) -> Path | None:
    """Return the first file of that name in the folders, unchecked; a bucket is asked when there is none here."""

    def here() -> Path | None:
        return next((p for folder in folders() if (p := folder / weight.file).is_file()), None)

    if (found := here()) is None:
        home = Home()
        home.bring(home.weights / weight.file)
        found = here()
    return found


def inspect(weight: LockedWeight) -> WeightStatus:
    """Look for one file and compare it with the lock."""
    path = find(weight)
    if path is None:
        where = f" It is not fetched automatically: {weight.by_hand}." if weight.by_hand else ""
        searched = " or ".join(str(f) for f in folders()[:-1])
        return WeightStatus(weight, "missing", None, f"{weight.file} is not in {searched}.{where}")
    differs = difference(weight, path)
    if differs:
        return WeightStatus(weight, "wrong", path, f"{path} {differs}; delete it.")
    return WeightStatus(weight, "ok", path)


def difference(weight: LockedWeight, path: Path, file: IO[bytes] | None = None) -> str:
    """Say how a file, which may be open already, differs from the lock, or return an empty string."""
    size = (path.stat() if file is None else os.fstat(file.fileno())).st_size
    if weight.size is not None and size != weight.size:
        return f"has {size} bytes, the lock says {weight.size}"
    if weight.sha256:
        found, expected = digest_of(path, "sha256", file), weight.sha256
    elif weight.sha256_prefix:
        found, expected = digest_of(path, "sha256", file)[: len(weight.sha256_prefix)], weight.sha256_prefix
    elif weight.git_blob:
        found, expected = digest_of(path, "git", file), weight.git_blob
    else:
        return ""
    return "" if found == expected else f"has digest {found}, the lock says {expected}"
