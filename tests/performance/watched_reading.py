"""Reads damaged files and prints what became of each: `python watched_reading.py FOLDER SEED NUMBER [heavy]`.

Watched through Python's audit events: nothing may be written outside the folder, no program started, nobody
connected to, no code from a file run, nothing unpickled.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from damage import CASES

SECONDS = 20


class Watch:
    """Notes, through Python's audit events, what must not happen while a foreign file is read."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.on = False
        self.found: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what this method does itself is not meant
        try:
            if trouble := self._trouble(event, arguments):
                self.found.append(f"{event}: {trouble}")
        finally:
            self.on = True

    def _trouble(self, event: str, arguments: tuple[Any, ...]) -> str:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            return self._outside(path) if writes and path != os.devnull and not isinstance(path, int) else ""
        if event in (
            "os.remove",
            "os.mkdir",
            "os.rmdir",
            "os.chmod",
            "os.truncate",
            "os.chown",
            "os.utime",
            "shutil.rmtree",
        ):
            return self._outside(arguments[0]) if -1 in arguments[1:] or len(arguments) < 2 else ""
        if event in ("os.rename", "os.link", "os.symlink"):
            return self._outside(arguments[1])
        if event in (
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "os.spawn",
            "pty.spawn",
            "socket.connect",
        ):
            return str(arguments[:2])
        if event == "pickle.find_class":
            return str(arguments)
        if event == "exec":
            name = getattr(arguments[0], "co_filename", "")
            return str(name) if name.startswith(str(self.root)) else ""
        return ""

    def _outside(self, path: Any) -> str:
        if isinstance(path, int):
            return ""
        place = Path(os.fsdecode(path)).absolute()
        return "" if (place.parent.resolve() / place.name).is_relative_to(self.root) else str(place)


def read_everything(root: Path, seed: int, count: int) -> Iterator[str]:
    """Yield what became of every damaged file: `read`, `refused`, or a line about what must not happen."""
    from actalker.errors import ActalkerError
    from bench.core.errors import BenchError
    from bench.core.spec import Unscored

    random = np.random.default_rng(seed)
    watch = Watch(root)
    (root / "empty").mkdir(parents=True)
    cases = {}
    for name, make in CASES.items():
        folder = root / name
        folder.mkdir()
        os.environ["BENCH_HOME"] = str(folder / "home")
        cases[name] = (found := make(folder)), found.file.read_bytes()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found.read()  # what is imported, and what is asked once, is asked now
    names = list(cases)
    for number in range(count):
        name = names[number % len(names)]
        made, good = cases[name]
        bad = made.mutate(good, random)
        made.file.parent.mkdir(parents=True, exist_ok=True)
        made.file.write_bytes(bad)
        said = io.StringIO()
        os.environ["BENCH_HOME"] = str(root / name / "home")
        signal.alarm(SECONDS)
        watch.on, outcome = True, "read"
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                made.read()
        except (BenchError, ActalkerError, Unscored) as error:
            outcome = "refused"
            if "foresaw" in str(error):
                outcome = f"{name} {number}: {error}"
        except BaseException:
            outcome = f"{name} {number}: {traceback.format_exc(limit=-4)}"
        finally:
            watch.on = False
            signal.alarm(0)
        shown = said.getvalue()
        if re.search(
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]|^\s*::\w|##\[", shown, re.MULTILINE
        ):
            outcome = f"{name} {number} speaks: {shown!r}"
        elif "Traceback" in shown or "foresaw" in shown:
            outcome = f"{name} {number} says: {shown}"
        elif shown.startswith("bench: "):
            outcome = "refused" if outcome == "read" else outcome
        if watch.found:
            outcome = f"{name} {number} did: {watch.found}"
            watch.found.clear()
        if outcome not in ("read", "refused"):
            (root.parent / "kept").mkdir(exist_ok=True)
            (root.parent / "kept" / f"{name}-{number}").write_bytes(bad)
        yield json.dumps(outcome)
        made.file.write_bytes(good)


if __name__ == "__main__":
    for module in (
        "formats_of_reports",
        "formats_of_data",
        *(["formats_of_weights"] if "heavy" in sys.argv else []),
    ):
        importlib.import_module(module)
    for line in read_everything(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        print(line, flush=True)
