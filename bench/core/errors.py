"""Errors a user can act on: what happened, why, and what to type next."""

from __future__ import annotations

import traceback
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit status of the `bench` command.

    2 and 4 part like this. With 2 the command or a file has to be changed: an unknown name, option or value, a
    path that leads nowhere, a broken file. With 4 they are right, and what they need is not on this machine:
    weights, packages, programs, environments, data sets, runs, references, a cluster; the message says how to get
    it.
    """

    OK = 0
    FAILURES = 1
    USAGE = 2
    GATE_FAILED = 3
    MISSING = 4
    INCONCLUSIVE = 5
    INTERRUPTED = 130


class BenchError(Exception):
    """An expected failure, shown as one paragraph and a next step instead of a traceback.

    Args:
        message: what happened and why.
        hint: what to type next; printed on its own line.
    """

    exit_code: ExitCode = ExitCode.FAILURES

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(BenchError):
    """The command or a file the user wrote is wrong (exit code 2)."""

    exit_code = ExitCode.USAGE


class MissingError(BenchError):
    """Something needed is not there: weights, a data set, an optional package (exit code 4)."""

    exit_code = ExitCode.MISSING


def did_you_mean(name: str, known: list[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest known name, or an empty string."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on a device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def unforeseen(error: BaseException) -> str:
    """Return what to say of a failure that no code expected: what it was and where to report it."""
    return f"{in_words(error)}. Nobody foresaw this: please report it to actalker-bench with the file."


def in_words(error: BaseException) -> str:
    """Return what a record keeps of a failure: one line, the same on every machine."""
    if isinstance(error, BenchError):
        return f"{error.message} {error.hint}".strip()
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return text + where


def last_line(detail: str) -> str:
    """Return the last line of a failure's detail, which says what happened."""
    return detail.strip().splitlines()[-1] if detail.strip() else "no detail"
