"""Writing files so that a half-written one is never seen."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.core.errors import BenchError, ExitCode, UsageError
from bench.core.spec import Cause


class StoreFull(BenchError):
    """The disk under the store is full. Nothing that was finished is lost."""


class StoreUnreachable(BenchError):
    """The object store does not answer, or not to us. Finished results are in it.

    Args:
        message, hint: see `BenchError`.
        answered: it did before; one that never did is an address that leads nowhere (exit code 2).
    """

    cause = Cause.INFRA  # of a job that met it: it is tried again

    def __init__(self, message: str, hint: str = "", answered: bool = True) -> None:
        super().__init__(message, hint)
        if not answered:
            self.exit_code = ExitCode.USAGE


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


# What the process keeps from others; asked once, because asking means setting it for a moment.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextmanager
def staged(final: Path, within: Path | None = None, lasting: bool = True) -> Iterator[Path]:
    """Yield a new empty file beside `final`; on success flush it to disk and rename it into place.

    The one way a file is written. The temporary file has a name nobody can guess and is made by this call, and
    the rename replaces a link instead of following it. It is atomic on one file system, so readers see the old
    file, no file, or the whole new one. The folder itself is not flushed: after a power cut a name may be missing,
    and its job is then simply done again.

    Args:
        final: the file's name; its folder is made when missing.
        within: the folder a user named, when `final` lies below folders that may have come from somebody else:
            links that lead out of it are refused.
        lasting: flush it; what nobody misses after a power cut is written ten times as fast without.

    Raises:
        StoreFull: no space is left.
        UsageError: `final` lies outside `within`, or is something else than a file.
    """
    temporary = final.with_name(f".{final.name[:100]}.{uuid.uuid4().hex}.part")
    with full_disk_explained(final):
        if within is not None:
            require_inside(final, within)
        if final.exists() and not final.is_file():
            raise UsageError(f"{final} is no file that could be replaced.", "Name another place.")
        make_folder(final.parent)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            os.close(os.open(temporary, flags, 0o600))
            yield temporary
            with temporary.open("rb") as file:
                os.fchmod(file.fileno(), file_mode(final.parent))  # the writer may have put another file here
                if lasting:
                    os.fsync(file.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(final: Path, data: bytes, within: Path | None = None, lasting: bool = True) -> None:
    """Write a whole file atomically; see `staged`."""
    with staged(final, within, lasting) as temporary:
        temporary.write_bytes(data)


def append_to(path: Path, fresh: bool = False) -> IO[bytes]:
    """Open a file that grows (a log, answers) or is held (a lock), never through a link, as private as its folder.

    Args:
        path: its folder is made when missing.
        fresh: begin with an empty file, in place of whatever has the name.

    Raises:
        UsageError: the name is a link's or a folder's.
    """
    make_folder(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe without reader: ENXIO
    try:
        if fresh:
            path.unlink(missing_ok=True)
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        # In folders like /tmp, kernels refuse to follow others' links by themselves.
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO) and not path.is_symlink():
            raise
        raise UsageError(f"{path} is a link or no file; nothing is written to it.", "Remove it.") from error
    with suppress(PermissionError):  # a colleague's, in a home that is shared
        os.fchmod(descriptor, file_mode(path.parent))
    return os.fdopen(descriptor, "ab")


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a path whose folder lies outside `folder`, by its words or through links.

    Raises:
        UsageError: it does.
    """
    place = path.parent.resolve()
    if path.name in ("", ".", "..") or not place.is_relative_to(folder.resolve()):
        raise UsageError(
            f"{path} leads out of {folder}, to {place}; nothing is written there.",
            "Remove the link, or name another folder.",
        )


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, as private as the one it is made in."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    mode = _shared(stat.S_IMODE(folder.parent.stat().st_mode), 0o777)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if mode != 0o700:
            folder.chmod(mode | folder.stat().st_mode & stat.S_ISGID)


def file_mode(folder: Path) -> int:
    """Return the permissions of a new file: what the folder allows, less what the user's umask takes."""
    return _shared(stat.S_IMODE(folder.stat().st_mode), 0o666)


def _shared(folder: int, wanted: int) -> int:
    mode = folder & wanted & ~_UMASK | wanted & 0o700
    # A folder with the set-group-id bit is Unix's sign for a group that works together.
    return mode | folder & wanted & 0o070 if folder & stat.S_ISGID else mode


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


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what changes whenever a file's content may have: size, times of content and inode, inode, device.

    Size and time of content alone are kept by `rsync -t`, `cp -p` and archives; the inode's time cannot be set.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
