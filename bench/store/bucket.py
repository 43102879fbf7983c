"""A home in an object store: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Content lies in the bucket and is read through a cache on this machine's disk. Nothing there changes under its
name (clips and features are named by their content), so what was fetched is not asked for again while it stays
there (`bench.store.cache`). Records
are small and always asked for: many at a time, by name; the bucket is never listed while a run goes on.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from bench.core.errors import MissingError, UsageError
from bench.store.cache import Cache
from bench.store.files import StoreUnreachable, staged
from bench.store.storage import Stored

SCHEMES = {
    "s3": "Amazon S3 and compatible: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the machine's role,"
    " AWS_REGION, AWS_ENDPOINT_URL for other servers",
    "gs": "Google Cloud Storage: GOOGLE_APPLICATION_CREDENTIALS or the machine's account",
    "az": "Azure Blob Storage, az://ACCOUNT/CONTAINER/PREFIX: AZURE_STORAGE_ACCOUNT_KEY or the machine's identity",
}
"""Kinds of addresses, and where credentials come from. Each node needs its own; none travels with a task."""

_ALIASES = {"s3a": "s3", "gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az"}
_AT_ONCE = 64  # requests under way: a round trip is some 20 ms, so 40,000 names take seconds
_RETRIES = {
    "max_retries": 8,
    "retry_timeout": datetime.timedelta(seconds=60),
    "backoff": {
        "init_backoff": datetime.timedelta(milliseconds=200),
        "max_backoff": datetime.timedelta(seconds=10),
        "base": 2,
    },
}

T = TypeVar("T")


def address_of(text: str) -> str:
    """Return the address that `--home` names, or an empty string when it is a folder's path.

    `Path` shortens `s3://bucket` to `s3:/bucket`, which is understood as well.

    Raises:
        UsageError: it is an address of another kind.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?:/+(.*)|$)", text)
    if found is None or found[1] == "file":
        return ""
    scheme, rest = _ALIASES.get(found[1].lower(), found[1].lower()), (found[2] or "").strip("/")
    if scheme not in SCHEMES:
        raise UsageError(
            f"{text} is an address of a kind that cannot hold results: '{found[1]}'.",
            f"Results lie in a folder, or in a bucket: {', '.join(f'{s}://BUCKET/PREFIX' for s in SCHEMES)}.",
        )
    if not rest or (scheme == "az" and "/" not in rest):
        raise UsageError(
            f"{text} names no bucket.", "For example: --home s3://BUCKET/PREFIX, or az://ACCOUNT/CONTAINER"
        )
    return f"{scheme}://{rest}"


def cache_folder(address: str) -> Path:
    """Return this machine's folder for what was read from a bucket: below `$BENCH_CACHE` or the user's cache."""
    chosen = os.environ.get("BENCH_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "actalker-bench"
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", address)[:60]
    return base.expanduser().resolve() / f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


class Bucket:
    """A prefix of a bucket as `bench.store.storage.Storage`.

    Args:
        address: `s3://bucket/prefix` or the like, see `SCHEMES`.
        store: what talks to it; opened from the address by default.

    Raises:
        MissingError: the package for it is not installed.
        UsageError: the address, or what the environment says about it or its cache, makes no sense.
    """

    near = False

    def __init__(self, address: str, store: Any = None) -> None:
        self.address = address
        self.root = cache_folder(address)
        self._store = _opened(address) if store is None else store
        self._answered = False
        self._cache = Cache(self.root, self.sizes)

    def read(self, name: str) -> bytes | None:
        """See `Storage.read`."""
        return self.read_many([name]).get(name)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """See `Storage.read_many`."""
        return self._each(names, self._get)

    def write(self, name: str, data: bytes, lasting: bool = True) -> None:
        """See `Storage.write`."""
        with self._explained():
            _obstore().put(self._store, name, data)

    def create(self, name: str, data: bytes, lasting: bool = True) -> bool:
        """See `Storage.create`: a conditional write (`If-None-Match: *`), decided by the object store."""
        try:
            with self._explained():
                _obstore().put(self._store, name, data, mode="create")
        except _obstore().exceptions.AlreadyExistsError:
            return False
        return True

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """See `Storage.sizes`."""
        return self._each(names, self._size)

    def adopt(self, path: Path, name: str) -> None:
        """See `Storage.adopt`: it is in the bucket first, and in the cache from then on."""
        with self._explained():
            _obstore().put(self._store, name, path)
        with staged(self.root / name) as temporary:
            path.replace(temporary)
        self._cache.added(name)

    def share(self, files: Mapping[Path, str], again: bool = False) -> None:
        """See `Storage.share`."""
        by_name = {name: path for path, name in files.items()}
        there = {} if again else self.sizes(by_name)
        missing = [name for name, path in by_name.items() if there.get(name) != path.stat().st_size]

        self._each(missing, lambda name: _obstore().put(self._store, name, by_name[name]))

    def fetch(self, names: Iterable[str], again: bool = False) -> None:
        """See `Storage.fetch`."""

        self._each((name for name in names if again or not self._cache.has(name)), self._bring)

    def in_use(self) -> AbstractContextManager[None]:
        """See `Storage.in_use`."""
        return self._cache.in_use()

    def drop(self, name: str) -> None:
        """See `Storage.drop`."""
        with self._explained(), suppress(FileNotFoundError):
            _obstore().delete(self._store, name)
        (self.root / name).unlink(missing_ok=True)

    def names(self, prefix: str) -> Iterator[Stored]:
        """See `Storage.names`."""
        with self._explained():
            for batch in _obstore().list(self._store, prefix.rstrip("/") or None):
                for found in batch:
                    yield Stored(found["path"], found["size"], found["last_modified"].timestamp())

    def _get(self, name: str) -> bytes:
        return bytes(_obstore().get(self._store, name).bytes())

    def _size(self, name: str) -> int:
        return int(_obstore().head(self._store, name)["size"])

    def _bring(self, name: str) -> None:
        found = _obstore().get(self._store, name)
        with staged(self.root / name) as temporary, temporary.open("wb") as file:
            for chunk in found:
                file.write(chunk)
        self._cache.added(name)

    def _each(self, names: Iterable[str], ask: Callable[[str], T]) -> dict[str, T]:
        """Ask about names, many at a time; return the answers about those that exist."""

        def answer(name: str) -> tuple[str, T] | None:
            try:
                return name, ask(name)
            except FileNotFoundError:
                return None

        wanted = list(names)
        with self._explained():
            if len(wanted) < 2:
                return dict(found for name in wanted if (found := answer(name)) is not None)
            with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as threads:
                return dict(found for found in threads.map(answer, wanted) if found is not None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        errors = _obstore().exceptions
        try:
            yield
            self._answered = True
        except errors.AlreadyExistsError:
            raise
        except (errors.PermissionDeniedError, errors.UnauthenticatedError, PermissionError) as error:
            raise StoreUnreachable(
                f"{self.address} refuses us: {_first_line(error)}",
                f"Check the credentials of this machine ({SCHEMES[self._scheme]}).",
                self._answered,
            ) from error
        except (errors.BaseError, FileNotFoundError, NotImplementedError) as error:
            raise StoreUnreachable(
                f"{self.address} cannot be used: {_first_line(error)}",
                f"Check address and environment ({SCHEMES[self._scheme]}), then type the same command again.",
                self._answered,
            ) from error

    @property
    def _scheme(self) -> str:
        return self.address.partition(":")[0]


@cache
def bucket(address: str) -> Bucket:
    """Return the bucket at an address, opened once per process."""
    return Bucket(address)


def _opened(address: str) -> Any:
    from_url = _obstore().store.from_url
    plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
    options = {"timeout": "120s", "connect_timeout": "10s", "allow_http": plain}
    try:
        return from_url(address, client_options=options, retry_config=_RETRIES)
    except Exception as error:  # the package raises many kinds for settings it cannot use
        raise UsageError(
            f"{address} cannot be opened: {_first_line(error)}",
            f"Needed: {SCHEMES[address.partition(':')[0]]}.",
        ) from error


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise MissingError(
            "A home in an object store needs the package obstore, which is not installed.",
            "Type: pip install 'actalker-bench[cloud]'",
        ) from error
    return obstore


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
