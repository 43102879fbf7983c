"""Run one command so that nothing of it outlives its owner. Executed as a script; standard library only.

argv[1] is JSON: `argv`, `cwd`, `log`, `log_limit`, `liveness`, `status`, `stdin`, `stdout`, `stop`.

The owner holds the write end of the liveness pipe. When the owner closes it, or dies in whatever way, the
read end reports end of file and everything is killed: first the command's process group, then every
descendant, including those that left the group or were orphaned (on Linux this process adopts orphans).
It leaves its parent's children at once by forking, because a dying Ray worker kills its direct children
and would take the watchdog with it. How it ended is written to the status pipe as one line of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

_SET_CHILD_SUBREAPER = 36
_SET_PARENT_DEATH_SIGNAL = 1
_GRACE = 1.0
_ENDING = 0.5  # seconds in which what belongs to a command that ended (a sandbox, say) ends by itself
_TAIL = 64 * 1024


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants() -> list[int]:
    """Return the ids of all processes below this one, by reading /proc; empty where there is none."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name is in parentheses and may hold blanks.
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(entry.parent.name)] = int(fields[1])
    found = {os.getpid()}
    grew = True
    while grew:
        below = {pid for pid, parent in parents.items() if parent in found} - found
        found |= below
        grew = bool(below)
    return sorted(found - {os.getpid()})


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _others(command: int) -> list[int]:
    return [pid for pid in _descendants() if pid != command]


def _kill_everything(child: subprocess.Popen[bytes], gently: bool) -> int:
    """Kill what is left; return how many processes had outlived the command."""
    if gently and child.poll() is None:
        _kill_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
    left = _others(child.pid)
    grace = time.monotonic() + (0.0 if gently else _ENDING)
    while left and time.monotonic() < grace:
        time.sleep(0.02)
        left = _others(child.pid)
    end = time.monotonic() + 10
    _kill_group(child.pid, signal.SIGKILL)
    while time.monotonic() < end:
        remaining = _descendants()
        if not remaining:
            break
        for pid in remaining:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            # The command itself is reaped by Popen, so that its status is kept.
            child.poll()
            for pid in remaining:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG) if pid != child.pid else None
        time.sleep(0.02)
    child.wait()
    return len(left)


class _Log(threading.Thread):
    """Copies a pipe to a file: the beginning up to a limit, and the last part, however much is written."""

    def __init__(self, source: int, path: str, limit: int) -> None:
        super().__init__(daemon=True)
        self.source, self.path, self.room = source, path, limit

    def run(self) -> None:
        tail: deque[bytes] = deque()
        kept = skipped = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.path, flags, 0o600), "ab", buffering=0) as file:
            while True:
                try:
                    data = os.read(self.source, 65536)
                except OSError:
                    break
                if not data:
                    break
                head, data = data[: self.room], data[self.room :]
                self.room -= len(head)
                self._write(file, head)
                if data:
                    tail.append(data)
                    kept += len(data)
                    while kept - len(tail[0]) >= _TAIL:
                        dropped = len(tail.popleft())
                        kept -= dropped
                        skipped += dropped
            if skipped:
                self._write(file, b"\n[... %d bytes left out ...]\n" % skipped)
            self._write(file, b"".join(tail))

    @staticmethod
    def _write(file: BinaryIO, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end the command
            file.write(data)


def main(spec: dict[str, Any]) -> None:
    """Do what the module says."""
    if os.fork():
        os._exit(0)
    os.setsid()
    _prctl(_SET_CHILD_SUBREAPER, 1)
    started = time.monotonic()
    read_end, write_end = os.pipe()
    log = _Log(read_end, spec["log"], spec["log_limit"])
    log.start()
    status: dict[str, Any] = {}
    try:
        child = subprocess.Popen(
            spec["argv"],
            cwd=spec["cwd"],
            stdin=subprocess.DEVNULL if spec["stdin"] is None else spec["stdin"],
            stdout=write_end if spec["stdout"] is None else spec["stdout"],
            stderr=write_end,
            start_new_session=True,
            preexec_fn=lambda: _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL),
        )
    except OSError as error:
        status = {"failed": f"{error.strerror}: {error.filename}"}
        os.close(write_end)
    else:
        os.close(write_end)
        for name in ("stdin", "stdout"):
            if spec[name] is not None:
                os.close(spec[name])
        abandoned = threading.Event()
        ended = threading.Event()

        def watch() -> None:
            with contextlib.suppress(OSError):
                os.read(spec["liveness"], 1)
            abandoned.set()
            ended.set()

        def wait() -> None:
            child.wait()
            ended.set()

        threading.Thread(target=watch, daemon=True).start()
        threading.Thread(target=wait, daemon=True).start()
        ended.wait()
        gently = abandoned.is_set()
        left = _kill_everything(child, gently)
        if gently and spec["stop"]:
            subprocess.run(
                spec["stop"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        status = {"returncode": child.returncode, "abandoned": gently, "left": left}
    log.join(5)
    status["seconds"] = time.monotonic() - started
    with contextlib.suppress(OSError):
        os.write(spec["status"], json.dumps(status).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
