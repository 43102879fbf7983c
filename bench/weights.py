"""Weight files of the metrics: found by name, verified by content, fetched once.

`bench/weights.lock` says for every file where it comes from, how to recognise it and on what terms. Nothing
is loaded before its content matched: a truncated download or a look-alike never becomes a number.
Files are searched in `$BENCH_WEIGHTS` (`--weights DIR`), then in `<home>/weights`, then in the package.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bench.errors import BenchError, MissingError, UsageError, did_you_mean
from bench.spec import Reason, Unscored, WeightRef
from bench.store.files import staged, write_bytes
from bench.store.home import Home

EMBEDDED = Path(__file__).resolve().parent / "synthetic" / "weights"
EMBEDDED_MANIFEST = EMBEDDED / "manifest.json"
LOCK = Path(__file__).resolve().with_suffix(".lock")

_CHUNK = 1 << 20
_TRIES = 3

# Called with (file name, bytes so far, total bytes or None).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class LockedWeight:
    """One entry of the lock; see the comment at the top of `weights.lock` for the fields."""

    name: str
    file: str
    urls: tuple[str, ...]
    licence: str
    metrics: tuple[str, ...]
    size: int | None = None
    sha256: str = ""
    sha256_prefix: str = ""
    git_blob: str = ""
    archive: str = ""
    member: str = ""
    archive_sha256: str = ""
    needs_acceptance: bool = False
    by_hand: str = ""

    @property
    def pin(self) -> str:
        """What identifies the content: a sha256, `sha256:PREFIX*`, `git-blob:SHA1`, or empty if unpinned."""
        if self.sha256:
            return self.sha256
        if self.sha256_prefix:
            return f"sha256:{self.sha256_prefix}*"
        return f"git-blob:{self.git_blob}" if self.git_blob else ""

    @property
    def command(self) -> str:
        """The command that gets the file."""
        accept = " --accept-licences" if self.needs_acceptance else ""
        return f"bench prepare --metrics {self.metrics[0] if self.metrics else 'all'}{accept}"


@dataclass(frozen=True, slots=True)
class WeightStatus:
    """What `verify` found: `ok`, `missing` or `wrong` (present, but not the locked content)."""

    weight: LockedWeight
    state: Literal["ok", "missing", "wrong"]
    path: Path | None
    detail: str = ""


class WrongContent(BenchError):
    """A file or download whose content is not what the lock says."""


# --- the lock ---------------------------------------------------------------------------------------------


def use_lock(path: Path) -> None:
    """Read another lock file from now on, here and in child processes (`$BENCH_WEIGHTS_LOCK`)."""
    os.environ["BENCH_WEIGHTS_LOCK"] = str(path)


def use_folder(path: Path) -> None:
    """Search this folder first from now on, here and in child processes (`$BENCH_WEIGHTS`)."""
    os.environ["BENCH_WEIGHTS"] = str(path)


def lock() -> Mapping[str, LockedWeight]:
    """Return the lock's entries by name.

    Raises:
        UsageError: `$BENCH_WEIGHTS_LOCK` is not a readable lock file.
    """
    path = Path(os.environ.get("BENCH_WEIGHTS_LOCK") or LOCK)
    try:
        return _read_lock(path, path.stat().st_mtime_ns)
    except (OSError, tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is not a weights lock: {error}.", "Unset $BENCH_WEIGHTS_LOCK.") from error


@lru_cache(maxsize=4)
def _read_lock(path: Path, _modified: int) -> Mapping[str, LockedWeight]:
    known = {f.name for f in fields(LockedWeight)}
    entries = {}
    for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
        if unknown := set(table) - known:
            raise TypeError(f"[{name}] has unknown fields {sorted(unknown)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        entries[name] = LockedWeight(name=name, **values)
    return {**entries, **_embedded()}


def _embedded() -> dict[str, LockedWeight]:
    """Return the files that come with the package, as their training recorded them."""
    if not EMBEDDED_MANIFEST.is_file():
        return {}
    made = json.loads(EMBEDDED_MANIFEST.read_text(encoding="utf-8"))
    return {
        name: LockedWeight(
            name=name,
            file=entry["file"],
            urls=(),
            licence="Apache-2.0, part of this package",
            metrics=("synthetic",),  # of no family, so that `bench prepare --metrics fvd` leaves them alone
            size=entry["bytes"],
            sha256=entry["sha256"],
            by_hand="reinstall the package, or make it: python -m bench.synthetic.train",
        )
        for name, entry in made.items()
    }


def entry(name: str) -> LockedWeight:
    """Return one entry.

    Raises:
        UsageError: there is no entry of that name.
    """
    entries = lock()
    if name not in entries:
        raise UsageError(
            f"There is no weight file called '{name}'.{did_you_mean(name, list(entries))}",
            f"Known: {', '.join(entries)}",
        )
    return entries[name]


def needed(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the files that metrics read.

    Args:
        metrics: protocol ids (`fid/facecrop`), families (`fid`) or `all`; a suffix like `+bf16` is ignored.
    """
    wanted = [m.partition("+")[0] for m in metrics]
    return tuple(
        weight.name
        for weight in lock().values()
        if any(w == "all" or any(_covers(w, m) for m in weight.metrics) for w in wanted)
    )


def _covers(wanted: str, declared: str) -> bool:
    # Either may name a whole family.
    return wanted == declared or wanted.startswith(declared + "/") or declared.startswith(wanted + "/")


def ref(name: str) -> WeightRef:
    """Return name and content id of a file, without reading it when the lock pins it.

    An unpinned file is identified by the sha256 of the copy that is found, or `absent`.
    """
    weight = entry(name)
    if weight.pin:
        return WeightRef(name, weight.pin)
    path = _find(weight)
    return WeightRef(name, _digest(path, "sha256") if path else "absent")


# --- finding and verifying --------------------------------------------------------------------------------


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
    status = _inspect(weight)
    if status.state == "ok" and status.path is not None:
        return status.path
    raise Unscored(Reason.MISSING_WEIGHTS, f"{status.detail} Run: {weight.command}")


def verify(names: Iterable[str]) -> list[WeightStatus]:
    """Look at files without downloading anything."""
    return [_inspect(entry(name)) for name in names]


def _find(weight: LockedWeight) -> Path | None:
    return next((p for folder in folders() if (p := folder / weight.file).is_file()), None)


def _inspect(weight: LockedWeight) -> WeightStatus:
    path = _find(weight)
    if path is None:
        where = f" It is not fetched automatically: {weight.by_hand}." if weight.by_hand else ""
        searched = " or ".join(str(f) for f in folders()[:-1])
        return WeightStatus(weight, "missing", None, f"{weight.file} is not in {searched}.{where}")
    difference = _difference(weight, path)
    if difference:
        return WeightStatus(weight, "wrong", path, f"{path} {difference}; delete it.")
    return WeightStatus(weight, "ok", path)


def _difference(weight: LockedWeight, path: Path) -> str:
    """Say how a file differs from the lock, or return an empty string."""
    size = path.stat().st_size
    if weight.size is not None and size != weight.size:
        return f"has {size} bytes, the lock says {weight.size}"
    if weight.sha256:
        found, expected = _digest(path, "sha256"), weight.sha256
    elif weight.sha256_prefix:
        found, expected = _digest(path, "sha256")[: len(weight.sha256_prefix)], weight.sha256_prefix
    elif weight.git_blob:
        found, expected = _digest(path, "git"), weight.git_blob
    else:
        return ""
    return "" if found == expected else f"has digest {found}, the lock says {expected}"


def content(path: Path) -> str:
    """Return a file's sha256, hashed once per size and modification time and remembered in `<home>`."""
    return _digest(path, "sha256")


_digests: dict[tuple[str, str, int, int], str] = {}


def _digest(path: Path, kind: Literal["sha256", "git"]) -> str:
    """Hash a file once per size and modification time, remembered across processes in `<home>`."""
    stat = path.stat()
    key = (kind, str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key in _digests:
        return _digests[key]
    memory = Home().weights / ".digests.json"
    text = "|".join(map(str, key))
    try:
        remembered: dict[str, str] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        remembered = {}
    if text not in remembered:
        remembered[text] = _hash(path, kind, stat.st_size)
        with suppress(OSError):  # a read-only home only costs hashing again
            write_bytes(memory, json.dumps(remembered).encode())
    return _digests.setdefault(key, remembered[text])


def _hash(path: Path, kind: Literal["sha256", "git"], size: int) -> str:
    # A git blob id is the SHA-1 of a short header and the content.
    state = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            state.update(block)
    return state.hexdigest()


# --- fetching ---------------------------------------------------------------------------------------------


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
    status = _inspect(weight)
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
    part = _download(weight.file, weight.urls, folder, lambda p: _difference(weight, p), progress)
    part.replace(target)
    return target


def _fetch_member(weight: LockedWeight, folder: Path, progress: Progress | None) -> Path:
    """Download a zip, take every locked file it holds, and drop the zip."""

    def difference(path: Path) -> str:
        found = _hash(path, "sha256", 0)
        return (
            "" if found == weight.archive_sha256 else f"has digest {found}, the lock says {weight.archive_sha256}"
        )

    part = _download(weight.archive, weight.urls, folder, difference, progress)
    with zipfile.ZipFile(part) as archive:
        for other in lock().values():
            if other.archive != weight.archive or _find(other):
                continue
            # Written under the lock's name, never under the zip's own path.
            with staged(folder / other.file) as temporary:
                with archive.open(other.member) as source, temporary.open("wb") as sink:
                    while block := source.read(_CHUNK):
                        sink.write(block)
                if wrong := _difference(other, temporary):
                    raise WrongContent(
                        f"{other.member} in {weight.archive} {wrong}.", "The source is not the locked one."
                    )
    part.unlink()
    return folder / weight.file


def _download(
    file: str,
    urls: tuple[str, ...],
    folder: Path,
    difference: Callable[[Path], str],
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
                wrong = difference(part)
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
