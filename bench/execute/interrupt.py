"""Ctrl-C once: finish what is running and stop. Twice: stop at once."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType
from typing import Any

_STOPPING = b"\nStopping as soon as the running jobs are done. Ctrl-C again stops at once.\n"


class Interrupt:
    """Catches SIGINT and SIGTERM while it is entered (main thread only; elsewhere it does nothing).

    Attributes:
        requested: the user asked to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._on_signal)
            except ValueError:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with contextlib.suppress(OSError):
            os.write(2, _STOPPING)  # not print(): the signal may have come in the middle of one
