"""The one way files come from the network: whole, in bounds, and under the name they are meant to have.

What arrives is foreign until it is complete. It grows in a file of its own that no reader looks at, and a server
that breaks off, lies or sends nonsense is a sentence about that server.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from bench.core.errors import BenchError, MissingError, UsageError

TRIES = 3
_CHUNK = 1 << 20
_SILENCE = 60.0  # seconds without a byte
_SLOWEST = 10_000  # bytes per second over a whole download, after a first hour
_MOST = 200 * 2**30  # bytes, where nothing says how large a file is

# Called with (file name, bytes so far, total bytes or None).
Progress = Callable[[str, int, int | None], None]


class WrongContent(BenchError):
    """A file or download whose content is not what was announced."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is fetched.

    Attributes:
        urls: tried in order.
        size: bytes, when known; anything else is refused, and nothing beyond it is taken.
        insecure: whoever listed the urls allows http.
        tries: per address, when connections break.
    """

    urls: Sequence[str]
    size: int | None = None
    insecure: bool = False
    tries: int = TRIES


def download(
    source: Source,
    target: Path,
    within: Path,
    differs: Callable[[Path], str] = lambda path: "",
    progress: Progress | None = None,
) -> Path:
    """Download a file, going on where an earlier try stopped, and return it.

    Args:
        source: where from, and how large.
        target: appears under its name when it is complete and right.
        within: the folder it has to lie in.
        differs: says how a complete file differs from the wanted one, or nothing.
        progress: called while bytes arrive.

    Raises:
        MissingError: no source delivered it; what arrived is kept for the next try.
        WrongContent: what arrived is something else; nothing is kept.
        UsageError: the name leads elsewhere, or somebody else is downloading it.
    """
    require_name(target.name)
    if not target.parent.resolve().is_relative_to(within.resolve()):
        raise UsageError(f"{target} does not lie in {within}; nothing is downloaded.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(part, flags, 0o600)
    except OSError as error:
        raise UsageError(f"{part} cannot be written: {error.strerror}.", "Remove it.") from error
    with os.fdopen(descriptor, "r+b") as handle:
        found = os.fstat(descriptor)
        if found.st_uid != os.getuid() or found.st_nlink != 1 or not stat.S_ISREG(found.st_mode):
            # Whoever made it can write to it still, also when it has its final name.
            raise UsageError(f"{part} was made by somebody else.", "Remove it.")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"Another process is downloading {target.name}.", "Wait for it, then repeat the command."
            ) from error
        try:
            _from_any(source, target, part, handle, differs, progress)
            os.fsync(handle.fileno())
            part.replace(target)
        finally:
            if part.exists() and not handle.seek(0, os.SEEK_END):
                part.unlink()
    return target


def require_name(name: str) -> None:
    """Refuse a file name from a list or a lock that is a path.

    Raises:
        UsageError: it is one, or is hidden.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+=,@ -]*", name):
        raise UsageError(f"{name!r} is no name for a downloaded file.", "Use letters, digits, '.', '_' and '-'.")


def _from_any(
    source: Source,
    target: Path,
    part: Path,
    handle: IO[bytes],
    differs: Callable[[Path], str],
    progress: Progress | None,
) -> None:
    failures = []
    wrong = ""
    for url in source.urls:
        for _ in range(source.tries):
            try:
                resumed = _transfer(url, source, handle, target.name, progress)
            except _Refused as error:
                failures.append(f"{url}: {error}")
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(f"{url}: {_in_words(error)}")
                continue
            handle.flush()
            wrong = differs(part)
            if not wrong:
                return
            # Old bytes of another version may sit in front: once more from zero. A fresh copy that is wrong stays
            # wrong.
            handle.truncate(0)
            if not resumed:
                failures.append(f"{url}: what arrived {wrong}")
                break
    said = "; ".join(dict.fromkeys(failures)) or "it has no address"
    if wrong:
        raise WrongContent(f"{target.name} could not be verified: {said}.", "Nothing was kept. Try again later.")
    raise MissingError(
        f"{target.name} could not be downloaded: {said}.",
        f"Check the connection and repeat the command (it resumes), or put the file into {target.parent}"
        " yourself.",
    )


class _Refused(Exception):
    """A source that need not be asked again."""


def _transfer(url: str, source: Source, handle: IO[bytes], name: str, progress: Progress | None) -> bool:
    """Append the rest of `url` to the open file; return whether earlier bytes were kept.

    Raises:
        OSError, HTTPException, ValueError: no answer, or it broke off or makes no sense; what arrived may be kept.
        _Refused: the source has not got it, or sends something else.
    """
    _require_secure(url, source)
    start = handle.seek(0, os.SEEK_END)
    if source.size is not None and start > source.size:
        start = handle.truncate(0)
        handle.seek(0)
    if start and start == source.size:
        return True
    headers = {"User-Agent": "actalker-bench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer = _opener(source).open(urllib.request.Request(url, headers=headers), timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # nothing after the last byte: it is complete, or something else
                if _total(error.headers.get("Content-Range")) in (start, None) and source.size is None:
                    return True
                handle.truncate(0)
                raise OSError("it has fewer bytes than an earlier try brought; beginning again") from error
            if error.code < 500 and error.code not in (408, 425, 429):
                raise _Refused(f"the server answers {error.code} {error.reason}") from error
            raise
    with answer:
        resumed = bool(start) and answer.status == 206
        total = _length(answer.headers.get("Content-Length"))
        if resumed:
            first = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
            if first is None or int(first[1]) != start:
                handle.truncate(0)
                raise OSError("it sends another part of the file than was asked for; beginning again")
        elif answer.status != 200:
            raise _Refused(f"the server answers {answer.status}")
        else:
            start = handle.truncate(0)
            handle.seek(0)
        if total is not None:
            total += start
        most = source.size if source.size is not None else _MOST if total is None else min(total, _MOST)
        if total is not None and (total > _MOST or source.size not in (None, total)):
            handle.truncate(0)
            raise _Refused(f"it announces {total} bytes where {most} are expected")
        done = start
        until = time.monotonic() + 3600 + most / _SLOWEST
        while block := answer.read(_CHUNK):
            done += len(block)
            if done > most:
                handle.truncate(0)
                raise _Refused(f"it sends more than {most} bytes")
            if time.monotonic() > until:
                raise _Refused("it sends too slowly to ever end")
            handle.write(block)
            if progress:
                progress(name, done, total)
        handle.flush()
        wanted = source.size if total is None else total
        if wanted is not None and done < wanted:
            raise OSError(f"the connection broke off after {done} of {wanted} bytes")
    return resumed


def _require_secure(url: str, source: Source) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and (source.insecure or local)):
        raise _Refused("only https is fetched, unless whoever listed the address allows http")


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address, but not to one that would not have been asked itself."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def redirect_request(self, *arguments: object) -> urllib.request.Request | None:
        """See the base class."""
        _require_secure(str(arguments[-1]), self._source)
        return super().redirect_request(*arguments)  # type: ignore[arg-type]


def _opener(source: Source) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SecureRedirects(source))


def _length(text: str | None) -> int | None:
    if text is not None and not re.fullmatch(r"\s*\d{1,18}\s*", text):
        raise ValueError(f"its Content-Length is {text[:40]!r}")
    return None if text is None else int(text)


def _total(text: str | None) -> int | None:
    """Return the size that a Content-Range of a 416 states."""
    found = re.fullmatch(r"bytes \*/(\d{1,18})", (text or "").strip())
    return int(found[1]) if found else None


def _in_words(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke off"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
