"""One JSON file per finished job: the only statement that a result exists.

`records/<kind>/<first two of key>/<key>.json`, written atomically by the worker that made the result. The
journal is a rebuildable copy of many records in one file, because opening 40,000 files takes seconds; a record
counts only while its own file is there and unchanged.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypedDict

from bench.core.declaration import parse_json
from bench.core.errors import UsageError
from bench.store.files import write_bytes
from bench.store.storage import Storage

Kind = Literal["gen", "score", "set", "feature"]
Record = dict[str, Any]


class _Blob(TypedDict):
    sha256: str
    size: int
    suffix: str


class _Made(TypedDict):
    status: Literal["ok", "error"]
    method: str
    sample: str


class _Generated(_Made, total=False):
    cause: str
    detail: str
    clip: _Blob


class _Measured(TypedDict):
    status: Literal["ok", "unscored", "error"]


class _Scored(_Measured, total=False):
    values: dict[str, float | None]
    reason: str
    cause: str
    detail: str
    seconds: float


class _Feature(_Measured, total=False):
    reason: str
    detail: str
    blob: _Blob


# As far as records are read without asking; one of another shape counts as none.
_SHAPES: Mapping[Kind, type] = {"gen": _Generated, "score": _Scored, "set": _Scored, "feature": _Feature}
_NEEDED: Mapping[tuple[Kind, str], tuple[str, ...]] = {
    ("gen", "ok"): ("clip",),
    ("gen", "error"): ("cause", "detail"),
    ("feature", "ok"): ("blob",),
    ("feature", "unscored"): ("reason", "detail"),
}


def _whole(kind: Kind, found: Any) -> Record | None:
    """Return a record that holds what its status promises, else None."""
    if found is None or not all(name in found for name in _NEEDED.get((kind, found["status"]), ())):
        return None
    return found if all(_names_a_blob(found[k]) for k in ("clip", "blob") if k in found) else None


def _names_a_blob(value: Mapping[str, Any]) -> bool:
    """Tell whether this can only name a file of the store: a record can come with somebody's folder."""
    proper = re.fullmatch(r"[0-9a-f]{64}", value["sha256"]) and re.fullmatch(r"[^/\0]{0,40}", value["suffix"])
    return bool(proper) and value.keys() == _Blob.__required_keys__


def _name(kind: Kind, key: str) -> str:
    return f"records/{kind}/{key[:2]}/{key}.json"


def _encoded(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # In JSON the replacement is the escape of the very byte: names that are no UTF-8 come back as they were.
    return text.encode("utf-8", "backslashreplace")


def _decoded(kind: Kind, data: bytes | None) -> Record | None:
    if data is None:
        return None
    try:
        found: Any = parse_json(data, _SHAPES[kind], "a record")
    except UsageError:
        return None
    return _whole(kind, found)


class Records:
    """The records of a home.

    Args:
        storage: where they lie.

    Attributes:
        root: their folder on this machine; made on first write.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.root = storage.root / "records"

    @property
    def near(self) -> bool:
        """Whether looking for a record costs nothing to speak of."""
        return self._storage.near

    def path(self, kind: Kind, key: str) -> Path:
        """Return the file of a record of a local home."""
        return self._storage.root / _name(kind, key)

    def put(self, kind: Kind, key: str, record: Mapping[str, Any]) -> None:
        """Commit a record. Overwrites an earlier one of the same key."""
        self._storage.write(_name(kind, key), _encoded(record))

    def add(self, kind: Kind, key: str, record: Record, whole: Callable[[Record], bool]) -> Record:
        """Commit a record unless another worker was first; return the one that counts.

        Two workers can have done the same job: two runs at once, or one that was thought lost. Everything made of
        the result is named by its content, so all must go by the same one.

        Args:
            kind, key, record: see `put`.
            whole: tells whether one that says `ok` can be gone by; otherwise it is replaced, as an error is.
        """
        if self._storage.create(_name(kind, key), _encoded(record)):
            return record
        first = self.get(kind, key)
        if first is not None and first["status"] == "ok" and whole(first):
            return first
        self.put(kind, key, record)
        return record

    def get(self, kind: Kind, key: str) -> Record | None:
        """Return a record, or None when there is none; one that a failing disk damaged counts as none."""
        return _decoded(kind, self._storage.read(_name(kind, key)))

    def drop(self, kind: Kind, key: str) -> None:
        """Forget a record, so that its job is done again."""
        self._storage.drop(_name(kind, key))

    def keys(self, kind: Kind) -> Iterable[str]:
        """Return the keys of all records of a kind; for housekeeping, see `Storage.names`."""
        if self.near:
            return self.stamps(kind)
        found = (stored.name.rpartition("/")[2] for stored in self._storage.names(f"records/{kind}/"))
        return [name.removesuffix(".json") for name in found if name.endswith(".json")]

    def stamps(self, kind: Kind) -> dict[str, tuple[int, int]]:
        """Return `{key: (mtime_ns, size)}` of every record of a kind."""
        found: dict[str, tuple[int, int]] = {}
        try:
            folders = [e.path for e in os.scandir(self.root / kind) if e.is_dir()]
        except FileNotFoundError:
            return found
        for folder in folders:
            for entry in os.scandir(folder):
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    status = entry.stat()
                    found[entry.name[:-5]] = (status.st_mtime_ns, status.st_size)
        return found

    def read(self, kind: Kind, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records that exist among `keys`.

        Few keys are read one by one, and so are those of an object store, many at a time. Many of a folder go
        through the journal, which is brought up to date on the way.
        """
        wanted = list(keys)
        if len(wanted) < 200 or not self.near:
            names = {_name(kind, key): key for key in wanted}
            read = {names[name]: _decoded(kind, data) for name, data in self._storage.read_many(names).items()}
            return {key: record for key, record in read.items() if record is not None}
        stamps = self.stamps(kind)
        journal = self._journal(kind)
        fresh: list[str] = []
        found: dict[str, Record] = {}
        for key in wanted:
            stamp = stamps.get(key)
            if stamp is None:
                continue
            known = journal.get(key)
            if known is not None and known[0] == stamp:
                with suppress(UsageError):  # else its own file is read
                    record = _whole(kind, parse_json(known[1], _SHAPES[kind], key))
                    if record is not None:
                        found[key] = record
                        continue
            record = self.get(kind, key)
            if record is not None:
                found[key] = record
                fresh.append(key)
        if fresh:
            lines = {k: (s, t) for k, (s, t) in journal.items() if stamps.get(k) == s}
            lines |= {k: (stamps[k], json.dumps(found[k], sort_keys=True)) for k in fresh}
            self._write_journal(kind, lines)
        return found

    def _journal_path(self, kind: Kind) -> Path:
        return self.root / kind / "journal.tsv"

    def _journal(self, kind: Kind) -> dict[str, tuple[tuple[int, int], str]]:
        try:
            lines = self._journal_path(kind).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        journal = {}
        for line in lines:
            with suppress(ValueError):  # damaged: the record's own file counts
                key, mtime, size, text = line.split("\t", 3)
                journal[key] = ((int(mtime), int(size)), text)
        return journal

    def _write_journal(self, kind: Kind, lines: Mapping[str, tuple[tuple[int, int], str]]) -> None:
        # json.dumps escapes tabs and newlines inside strings, so one record is one line of four fields.
        text = "".join(f"{k}\t{s[0]}\t{s[1]}\t{t}\n" for k, (s, t) in sorted(lines.items()))
        write_bytes(self._journal_path(kind), text.encode())
