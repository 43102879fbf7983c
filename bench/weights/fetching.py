"""Downloading weight files: resumed, verified, then moved into place."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bench.core.errors import BenchError, MissingError, UsageError
from bench.store.files import staged
from bench.weights.digests import hash_of
from bench.weights.finding import difference, find, folders, inspect
from bench.weights.locked import LockedWeight, entry, lock

_CHUNK = 1 << 20
_TRIES = 3

# Called with (file name, bytes so far, total bytes or None).
Progress = Callable[[str, int, int | None], None]


class WrongContent(BenchError):
    """A file or download whose content is not what the lock says."""


def fetch(
    name: str, *, accept_licence: bool = False, offline: bool = False, progress: Progress | None = None
) -> Path:
    """Return the verified file, downloading it into the weights folder if it is missing.

    An interrupted download resumes. The target is `$BENCH_WEIGHTS` if set, else `<home>/weights`.

    Args:
        name: entry of the lock.
        accept_licence: the user accepted the terms of files that need it.
        offline: only verify what is there.
        progress: called while bytes arrive.

    Raises:
        MissingError: offline, not accepted, only available by hand, or no source answered.
        WrongContent: what is there or what arrived is not what the lock says.
    """
    weight = entry(name)
    status = inspect(weight)
    if status.state == "ok" and status.path is not None:
        return status.path
    if status.state == "wrong":
        raise WrongContent(f"{weight.file} is not the locked file: {status.detail}", f"rm {status.path}")
    if offline:
        raise MissingError(status.detail, f"Without --offline: {weight.command}")
    if not weight.urls:
        raise MissingError(
            f"{weight.file} must be supplied by hand: {weight.by_hand}.", f"Put it into {folders()[0]}."
        )
    if weight.needs_acceptance and not accept_licence:
        raise MissingError(
            f"{weight.file} comes under terms you must accept first: {weight.licence}.",
            f"If you do: {weight.command}",
        )
    folder = folders()[0]
    folder.mkdir(parents=True, exist_ok=True)
    if weight.member:
        return _fetch_member(weight, folder, progress)
    target = folder / weight.file
    part = _download(weight.file, weight.urls, folder, lambda p: difference(weight, p), progress)
    part.replace(target)
    return target


def _fetch_member(weight: LockedWeight, folder: Path, progress: Progress | None) -> Path:
    """Download a zip, take every locked file it holds, and drop the zip."""

    def archive_differs(path: Path) -> str:
        found = hash_of(path, "sha256", 0)
        return (
            "" if found == weight.archive_sha256 else f"has digest {found}, the lock says {weight.archive_sha256}"
        )

    part = _download(weight.archive, weight.urls, folder, archive_differs, progress)
    with zipfile.ZipFile(part) as archive:
        for other in lock().values():
            if other.archive != weight.archive or find(other):
                continue
            # Written under the lock's name, never under the zip's own path.
            with staged(folder / other.file) as temporary:
                with archive.open(other.member) as source, temporary.open("wb") as sink:
                    while block := source.read(_CHUNK):
                        sink.write(block)
                if wrong := difference(other, temporary):
                    raise WrongContent(
                        f"{other.member} in {weight.archive} {wrong}.", "The source is not the locked one."
                    )
    part.unlink()
    return folder / weight.file


def _download(
    file: str,
    urls: tuple[str, ...],
    folder: Path,
    differs: Callable[[Path], str],
    progress: Progress | None,
) -> Path:
    """Fill `<file>.part` from the first source that delivers the right content and return its path."""
    part = folder / f"{file}.part"
    failures = []
    with part.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"Another process is downloading {file}.", "Wait for it, then repeat the command."
            ) from error
        wrong = ""
        for url in urls:
            for _ in range(_TRIES):
                try:
                    resumed = _transfer(url, handle, file, progress)
                except (OSError, http.client.HTTPException) as error:
                    failures.append(f"{url}: {error}")
                    if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                        break
                    continue
                handle.flush()
                wrong = differs(part)
                if not wrong:
                    return part
                # Old bytes of another version may sit in front: once more from zero. A fresh copy that is
                # wrong stays wrong.
                handle.truncate(0)
                if not resumed:
                    failures.append(f"{url}: what arrived {wrong}")
                    break
    if part.stat().st_size == 0:
        part.unlink()
    if wrong:
        raise WrongContent(
            f"{file} could not be verified: {'; '.join(failures)}.", "Nothing was kept. Try again later."
        )
    raise MissingError(
        f"{file} could not be downloaded: {'; '.join(failures)}.",
        f"Check the connection and repeat the command (it resumes), or put the file into {folder} yourself.",
    )


def _transfer(url: str, handle: BinaryIO, file: str, progress: Progress | None) -> bool:
    """Append the rest of `url` to the open file; return whether earlier bytes were kept.

    Raises:
        OSError: no answer, an error status, or the connection broke off (what arrived is kept).
    """
    start = handle.seek(0, os.SEEK_END)
    headers = {"User-Agent": "actalker-bench", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={start}-"} if start else {}))
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing after the last byte: it is complete, or it is something else
            raise
        error.close()
        return True
    with answer:
        resumed = bool(start) and answer.status == 206
        if not resumed:
            handle.truncate(0)
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        done = start
        while block := answer.read(_CHUNK):
            handle.write(block)
            done += len(block)
            if progress:
                progress(file, done, total)
        handle.flush()
        if total is not None and done < total:
            raise OSError(f"the connection broke off after {done} of {total} bytes")
    return resumed
