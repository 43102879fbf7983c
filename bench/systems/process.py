"""Commands under a watchdog: wall limit, log file, and no survivors however this process ends."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.declaration import parse_json
from bench.core.errors import UsageError
from bench.store.files import append_to

_WATCHDOG = Path(__file__).with_name("watchdog.py")
_LOG_LIMIT = 4 * 2**20
_KILL_TIME = 30.0  # how long a watchdog may take to kill and say so


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        returncode: exit status, negative for a signal; None when it could not be started or its watchdog died.
        timed_out: it was stopped at the wall limit.
        left: processes it had started that were still alive when it ended, and were killed.
        seconds: how long it ran.
        failed: why it could not be started.
    """

    returncode: int | None
    timed_out: bool = False
    left: int = 0
    seconds: float = 0.0
    failed: str = ""


def _status(text: bytes) -> dict[str, Any]:
    """Return what a watchdog said at the end, which is nothing when it was killed over it."""
    try:
        return parse_json(text or b"{}", dict[str, Any], "the watchdog's answer")
    except UsageError:
        return {}


class Command:
    """A running command.

    Args:
        argv: program and arguments; no shell.
        cwd: its working folder.
        env: its whole environment.
        log: file that its output is appended to (start and end, at most about 4 MiB).
        talk: give it pipes as standard input and output (`stdin`, `stdout` here); otherwise standard input
            is closed and both outputs go to the log.
        stop: command that ends it when it was abandoned, for programs that run elsewhere (docker kill).
    """

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        talk: bool = False,
        stop: Sequence[str] = (),
    ) -> None:
        append_to(log).close()
        liveness, self._liveness = os.pipe()
        self._status, status = os.pipe()
        passed = [liveness, status]
        stdin = stdout = None
        self.stdin = self.stdout = -1
        if talk:
            stdin, self.stdin = os.pipe()
            self.stdout, stdout = os.pipe()
            passed += [stdin, stdout]
        spec = {
            "argv": list(argv),
            "cwd": str(cwd),
            "log": str(log),
            "log_limit": _LOG_LIMIT,
            "liveness": liveness,
            "status": status,
            "stdin": stdin,
            "stdout": stdout,
            "stop": list(stop),
        }
        try:
            # It forks and returns at once. The write end of the liveness pipe stays here only: Python
            # makes descriptors close on exec.
            subprocess.run(
                [sys.executable, "-I", str(_WATCHDOG), json.dumps(spec)],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=passed,
                check=True,
            )
        except BaseException:
            self._close(self._liveness, self._status, self.stdin, self.stdout)
            raise
        finally:
            self._close(*passed)
        self._ended: Ended | None = None
        self._closed_in = argv[0] == "bwrap"

    def wait(self, limit: float) -> Ended:
        """Wait for its end and return it; stop it after `limit` seconds, or when this call is interrupted."""
        if self._ended is not None:
            return self._ended
        text = b""
        timed_out = False
        try:
            text = self._read_status(limit)
            timed_out = not text and not self._readable(0)
        finally:
            # Closing the pipe is what makes the watchdog kill, also when an exception passes through here.
            self._close(self._liveness)
            if not text:
                text = self._read_status(_KILL_TIME)
            self._close(self._status, self.stdin, self.stdout)
            status = _status(text)
            returncode = status.get("returncode")
            if self._closed_in and returncode is not None and returncode > 128:
                returncode = 128 - returncode  # bubblewrap passes a signal on as a status
            self._ended = Ended(
                returncode,
                timed_out,
                status.get("left", 0),
                status.get("seconds", 0.0),
                status.get("failed", "" if text else "its watchdog was killed"),
            )
        return self._ended

    def kill(self) -> Ended:
        """Kill it and everything it started."""
        return self.wait(0.0)

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([self._status], [], [], max(0.0, seconds))[0])

    def _read_status(self, seconds: float) -> bytes:
        """Return the status line; empty on timeout or when the watchdog died."""
        text = b""
        end = time.monotonic() + seconds
        while self._readable(end - time.monotonic()):
            data = os.read(self._status, 65536)
            text += data
            if not data or text.endswith(b"\n"):
                break
        return text

    @staticmethod
    def _close(*descriptors: int) -> None:
        for descriptor in descriptors:
            if descriptor >= 0:
                try:
                    os.close(descriptor)
                except OSError:
                    continue


def run(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    limit: float,
    stop: Sequence[str] = (),
) -> Ended:
    """Run a command to its end, see `Command`."""
    return Command(argv, cwd, env, log, stop=stop).wait(limit)


def last_lines(log: Path, count: int = 8, width: int = 300) -> str:
    """Return the end of a log for an error message, without blank lines and progress bars' overwritten parts."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rpartition("\r")[2].rstrip() or line.strip("\r ") for line in text.split("\n")]
    printable = ["".join(c for c in line if c.isprintable())[:width] for line in lines]
    return "\n".join([line for line in printable if line.strip()][-count:])
