"""Leaves no Ray process behind when the driver is killed.

A driver that dies by SIGKILL cannot clean up, and some of Ray's own agents outlive it by minutes. The reaper is a
tiny process that holds the reading end of a pipe; when the driver is gone the pipe closes, and every process
that carries the run's mark in its environment is killed. Works where /proc exists; elsewhere it does nothing.
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
_GRACE = 2.0  # seconds for Ray to stop by itself


class Reaper:
    """Marks the environment of processes started from now on and watches over them until `close`."""

    def __init__(self) -> None:
        mark = uuid.uuid4().hex
        os.environ[MARK] = mark
        command = [sys.executable, str(Path(__file__).resolve()), mark]
        # Its own session, so that Ctrl-C and a kill of the driver's group do not reach it.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def close(self) -> None:
        """Everything was stopped in order; let the reaper look once and go."""
        os.environ.pop(MARK, None)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


def marked(mark: str) -> list[int]:
    """Return the processes (other than this one) that carry a mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def main(mark: str) -> None:
    """Wait for the driver to go, then kill what carries the mark."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    deadline = time.monotonic() + _GRACE
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in marked(mark):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main(sys.argv[1])
