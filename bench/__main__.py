"""The `bench` command: also `python -m bench`."""

from __future__ import annotations

import os
import signal
from types import FrameType

_LOADING = "<frozen importlib._bootstrap>"  # a frame of this file is on the stack while a module is imported


def main() -> None:
    """Run the command line; Ctrl-C is quiet from the first moment on."""
    signal.signal(signal.SIGINT, _on_interrupt)
    from bench.cli import main as run

    run()


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    """End at once while modules are loaded: libraries turn an exception there into others, with tracebacks."""
    while frame is not None:
        if frame.f_code.co_filename == _LOADING:
            os.write(2, b"\nbench: Interrupted.\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
