"""The lock: what every weight file is called, where it comes from, how to recognise it, and on what terms."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from bench.core.declaration import read_json, read_toml
from bench.core.download import require_name
from bench.core.errors import UsageError, did_you_mean

EMBEDDED = Path(__file__).resolve().parents[1] / "synthetic" / "weights"
EMBEDDED_MANIFEST = EMBEDDED / "manifest.json"
LOCK = Path(__file__).resolve().with_name("weights.lock")


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
    archive_size: int | None = None
    insecure: bool = False
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


def use_lock(path: Path) -> None:
    """Read another lock file from now on, here and in child processes (`$BENCH_WEIGHTS_LOCK`)."""
    os.environ["BENCH_WEIGHTS_LOCK"] = str(path)


def lock() -> Mapping[str, LockedWeight]:
    """Return the lock's entries by name.

    Raises:
        UsageError: `$BENCH_WEIGHTS_LOCK` is not a readable lock file.
    """
    path = Path(os.environ.get("BENCH_WEIGHTS_LOCK") or LOCK)
    try:
        return _read_lock(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, UsageError) as error:
        raise UsageError(f"{path} is not a weights lock: {error}.", "Unset $BENCH_WEIGHTS_LOCK.") from error


@lru_cache(maxsize=4)
def _read_lock(path: Path, _modified: int) -> Mapping[str, LockedWeight]:
    known = {f.name for f in fields(LockedWeight)}
    kinds = get_type_hints(LockedWeight)
    entries = {}
    for name, table in read_toml(path).items():
        if unknown := set(table) - known:
            raise TypeError(f"[{name}] has unknown fields {sorted(unknown)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        for field, value in values.items():
            texts = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
            if not (texts if kinds[field] == tuple[str, ...] else isinstance(value, kinds[field])):
                raise TypeError(f"[{name}] {field} = {value!r}")
        entries[name] = LockedWeight(name=name, **values)
        require_name(entries[name].file)
        require_name(entries[name].archive or "none")
    return {**entries, **_embedded()}


def _embedded() -> dict[str, LockedWeight]:
    """Return the files that come with the package, as their training recorded them."""
    if not EMBEDDED_MANIFEST.is_file():
        return {}
    made = read_json(EMBEDDED_MANIFEST, dict[str, dict[str, Any]])
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
