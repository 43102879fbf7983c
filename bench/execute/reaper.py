"""Leaves no process behind when whoever started it is killed.

A driver that dies by SIGKILL cannot clean up, some of Ray's own agents outlive it by minutes, and so do
processes that a method started. The reaper is a tiny process that holds the reading end of a pipe; when its owner
is gone the pipe closes, and every process that carries the owner's mark in its environment is killed. Works where
/proc exists; elsewhere it does nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

MARK = "BENCH_RAY_RUN"
_KEEP = "SPT_NOENV"  # setproctitle (Ray's agents use it) else zeroes the environment, and the mark with it
_GRACE = 2.0  # seconds for marked processes to stop by themselves


class Reaper:
    """Marks the environment of processes started from now on and watches over them until `close`.

    Args:
        name: of the variable that holds the mark.
    """

    def __init__(self, name: str = MARK) -> None:
        self._name = name
        mark = uuid.uuid4().hex
        os.environ[name] = mark
        self._kept = os.environ.get(_KEEP)
        os.environ[_KEEP] = "1"
        command = [sys.executable, "-S", "-E", str(Path(__file__).resolve()), name, mark]
        # Its own session, so that Ctrl-C and a kill of the owner's group do not reach it.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def close(self) -> None:
        """Everything was stopped in order; let the reaper look once and go."""
        os.environ.pop(self._name, None)
        if self._kept is None:
            os.environ.pop(_KEEP, None)
        else:
            os.environ[_KEEP] = self._kept
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


def marked(name: str, mark: str) -> list[int]:
    """Return the processes (other than this one) that carry a mark in their environment."""
    wanted = f"{name}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def main(name: str, mark: str) -> None:
    """Wait for the owner to go, then kill what carries the mark."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    deadline = time.monotonic() + _GRACE
    while marked(name, mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in marked(name, mark):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
