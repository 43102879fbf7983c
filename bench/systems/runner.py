"""Persistent runners: a script that loads a system's model once and is handed one command line after another.

The script (`runner.py` beside the contract, standard library only, Python 3.8 or newer) is started in the
system's environment. Both sides write one JSON object per line:

    script:  {"ready": true}                                      when the imports worked
    host:    {"id": 1, "argv": ["-s", "a.png", ...], "cwd": "..."}  arguments as on the command line
    script:  {"id": 1, "ok": true}   or   {"id": 1, "ok": false, "error": "..."}

Anything else it prints to standard output goes to the log, as its standard error does. It ends at end of
file. Whether the sample succeeded is judged by the video, as always.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.declaration import parse_json
from bench.core.errors import UsageError
from bench.store.files import append_to
from bench.systems.process import Command, Ended, last_lines

_START_LIMIT = 600.0


class RunnerFailed(Exception):
    """The runner did not become ready."""


class Runner:
    """A running script.

    Args:
        argv, cwd, env: how it is started.
        job: its private folder; holds its log, and is removed when it ends.
        limit: seconds it may take to become ready.

    Raises:
        RunnerFailed: it ended, or said nothing, before it was ready.
    """

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], job: Path, limit: float = _START_LIMIT
    ) -> None:
        self._job = job
        self._log = job / "runner.log"
        append_to(self._log, fresh=True).close()
        self._command = Command(argv, cwd, env, self._log, talk=True)
        self._buffer = b""
        self._count = 0
        self._silent = False  # it closed its standard output: it is dead or dying, not hanging
        self.alive = True
        if self._answer(lambda message: message.get("ready") is True, min(limit, _START_LIMIT)) is None:
            ended = self._command.kill()
            self.alive = False
            tail = last_lines(self._log, 4)
            shutil.rmtree(job, ignore_errors=True)
            raise RunnerFailed(f"{ended.failed or f'exit status {ended.returncode}'}; {tail}")

    def do(self, argv: Sequence[str], cwd: Path, log: Path, limit: float) -> Ended:
        """Run one command line and wait for its answer; a runner that dies or hangs is ended.

        Args:
            argv: arguments as on the command line.
            cwd: working folder of this one.
            log: gets what the script printed meanwhile.
            limit: seconds.
        """
        self._count += 1
        began = self._log.stat().st_size
        start = time.monotonic()
        message = json.dumps({"id": self._count, "argv": list(argv), "cwd": str(cwd)}) + "\n"
        answer: Mapping[str, Any] | None = None
        try:
            os.write(self._command.stdin, message.encode())
            answer = self._answer(lambda m: m.get("id") == self._count, limit)
        except BrokenPipeError:
            self._silent = True
        finally:
            if answer is None:
                hung = not self._silent
                ended = self._command.kill()
                self.alive = False
            self._copy_log(began, log)
            if answer is None:
                shutil.rmtree(self._job, ignore_errors=True)
        seconds = time.monotonic() - start
        if answer is None:
            return Ended(ended.returncode, hung, ended.left, seconds, ended.failed)
        if not answer.get("ok"):
            with append_to(log) as file:
                file.write(f"{answer.get('error', 'no reason given')}\n".encode(errors="replace"))
        return Ended(0 if answer.get("ok") else 1, seconds=seconds)

    def close(self) -> None:
        """End it."""
        if self.alive:
            self._command.kill()
            self.alive = False
            shutil.rmtree(self._job, ignore_errors=True)

    def _answer(self, wanted: Any, limit: float) -> Mapping[str, Any] | None:
        """Return the next message that is wanted; None at end of file or after `limit` seconds."""
        end = time.monotonic() + limit
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                with contextlib.suppress(UsageError):  # else it is something the system prints
                    message = parse_json(line, dict[str, Any], "an answer")
                    if wanted(message):
                        return message
                with append_to(self._log) as file:
                    file.write(line + b"\n")
                continue
            if not select.select([self._command.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            data = os.read(self._command.stdout, 65536)
            if not data:
                self._silent = True
                return None
            self._buffer = (self._buffer + data)[-(1 << 22) :]

    def _copy_log(self, began: int, log: Path) -> None:
        with self._log.open("rb") as source, append_to(log) as target:
            source.seek(began)
            shutil.copyfileobj(source, target)
