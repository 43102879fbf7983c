"""Who is doing a job now, so that two runs on one home share work instead of doing it twice.

A claim saves work and decides nothing: results are committed as if there were none, and a claim that expired, that
cannot be read, or whose process is gone from this machine is passed over.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

from bench.core.declaration import parse_json
from bench.core.errors import BenchError, UsageError
from bench.store.storage import Storage

EXPIRY = 60.0  # seconds after which a claim that nobody renewed counts no more
_RENEW = EXPIRY / 3


class _Claim(TypedDict):
    run: str
    node: str
    process: int
    until: float  # seconds since the epoch


class Claims:
    """The claims of one run.

    Args:
        storage: of the home.
        run: the run's name, which all its workers share; a new one when empty.
    """

    def __init__(self, storage: Storage, run: str = "") -> None:
        self._storage = storage
        self._run = run or uuid.uuid4().hex
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._renewal: threading.Thread | None = None

    @contextmanager
    def held(self, key: str) -> Iterator[bool]:
        """Claim a job for as long as this lasts; yield False when another run does it now."""
        name = f"blobs/scratch/{key}.claim"  # swept with other leftovers
        if not self._storage.create(name, self._encoded(), lasting=False):
            if self._is_others(self._storage.read(name)):
                yield False
                return
            self._storage.write(name, self._encoded(), lasting=False)
        with self._lock:
            self._held.add(name)
            if self._renewal is None:
                self._renewal = threading.Thread(target=self._renew, daemon=True)
                self._renewal.start()
        try:
            yield True
        finally:
            with self._lock:
                self._held.discard(name)
            self._storage.drop(name)

    def _renew(self) -> None:
        while True:
            time.sleep(_RENEW)
            with self._lock:  # so that none is written anew that is being dropped
                for name in self._held:
                    # One that cannot be renewed expires, and its job may be done twice.
                    with suppress(BenchError, OSError):
                        self._storage.write(name, self._encoded(), lasting=False)

    def _encoded(self) -> bytes:
        claim = _Claim(run=self._run, node=platform.node(), process=os.getpid(), until=time.time() + EXPIRY)
        return json.dumps(claim).encode()

    def _is_others(self, data: bytes | None) -> bool:
        """Tell whether another run holds a claim. Clocks of machines may differ by less than it lasts."""
        try:
            claim = parse_json((data or b"").decode(errors="replace"), _Claim, "claim")
        except UsageError:
            return False
        if claim["run"] == self._run or not 0.0 < claim["until"] - time.time() < 2 * EXPIRY:
            return False
        return claim["node"] != platform.node() or not _is_gone(claim["process"])


def _is_gone(process: int) -> bool:
    return Path("/proc/self").exists() and not Path(f"/proc/{process}").exists()
