"""Downloading weight files: resumed, verified, then moved into place."""

from __future__ import annotations

import zipfile
from pathlib import Path

from bench.core.download import Progress, Source, WrongContent, download, require_name
from bench.core.errors import MissingError
from bench.store.files import staged
from bench.store.home import Home
from bench.weights.digests import hash_of
from bench.weights.finding import difference, find, folders, inspect
from bench.weights.locked import LockedWeight, entry, lock

_CHUNK = 1 << 20


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
    if not weight.urls:
        raise MissingError(status.detail, f"Put it into {folders()[0]}.")
    if offline:
        raise MissingError(status.detail, f"Without --offline: {weight.command}")
    if weight.needs_acceptance and not accept_licence:
        raise MissingError(
            f"{weight.file} comes under terms you must accept first: {weight.licence}.",
            f"If you do: {weight.command}",
        )
    folder = folders()[0]
    folder.mkdir(parents=True, exist_ok=True)
    if weight.member:
        found = _fetch_member(weight, folder, progress)
    else:
        source = Source(weight.urls, weight.size, weight.insecure)
        found = download(source, folder / weight.file, folder, lambda part: difference(weight, part), progress)
    Home().give([found])
    return found


def _fetch_member(weight: LockedWeight, folder: Path, progress: Progress | None) -> Path:
    """Download a zip, take every locked file it holds, and drop the zip."""

    def archive_differs(path: Path) -> str:
        with path.open("rb") as file:
            found = hash_of(file, "sha256", 0)
        return (
            "" if found == weight.archive_sha256 else f"has digest {found}, the lock says {weight.archive_sha256}"
        )

    source = Source(weight.urls, weight.archive_size, weight.insecure)
    fetched = download(source, folder / weight.archive, folder, archive_differs, progress)
    with zipfile.ZipFile(fetched) as archive:
        for other in lock().values():
            if other.archive != weight.archive or find(other):
                continue
            require_name(other.file)
            # Written under the lock's name, never under the zip's own path.
            with staged(folder / other.file, within=folder) as temporary:
                if other.member not in archive.namelist():
                    raise WrongContent(
                        f"{weight.archive} has no {other.member}.", "The source is not the locked one."
                    )
                with archive.open(other.member) as member, temporary.open("wb") as sink:
                    while (block := member.read(_CHUNK)) and sink.tell() <= (other.size or sink.tell()):
                        sink.write(block)
                if wrong := difference(other, temporary):
                    raise WrongContent(
                        f"{other.member} in {weight.archive} {wrong}.", "The source is not the locked one."
                    )
    fetched.unlink()
    return folder / weight.file
