"""What every verb has in common: expected errors become one paragraph, and an int result the exit code."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from bench.core.errors import BenchError, ExitCode
from bench.core.printable import printable_lines
from bench.core.registry import UnknownName


def verb(function: Callable[..., int | None]) -> Callable[..., Any]:
    """Wrap a verb for Typer; see `bench.core.errors.ExitCode` for the exit codes."""

    @functools.wraps(function)
    def wrapped(*positional: Any, **named: Any) -> None:
        try:
            code = function(*positional, **named) or ExitCode.OK
            sys.stdout.flush()
        except UnknownName as error:
            code = _complain(str(error), error.hint, ExitCode.USAGE)
        except BenchError as error:
            code = _complain(error.message, error.hint, error.exit_code)
        except KeyboardInterrupt:
            hint = "Run the same command again to resume."
            code = _complain("Interrupted. Finished results are kept.", hint, ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output (head, less) went away: not an error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
            code = ExitCode.OK
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "Free some space and run the same command again; finished results are safe." if full else ""
            code = _complain(f"{error.strerror or error}{place}", hint, ExitCode.FAILURES)
        raise typer.Exit(int(code))

    return wrapped


def say(text: str, nl: bool = True) -> None:
    """Print on stdout, each line as `bench.core.printable` gives it: names in it may come from anybody."""
    typer.echo(printable_lines(text), nl=nl)


def _complain(message: str, hint: str, code: ExitCode) -> ExitCode:
    print(printable_lines(f"bench: {message}"), file=sys.stderr)
    if hint:
        print(printable_lines(f"       {hint}"), file=sys.stderr)
    return code
