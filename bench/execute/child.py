"""A worker in a process of its own, watched by whoever started it.

Methods are foreign code: native libraries crash, scripts call `os._exit`, the kernel kills what takes too much
memory. A parent learns exit code or signal, which Ray does not tell, keeps what was printed, and starts another.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from bench.core import numerics
from bench.core.spec import Cause
from bench.execute.reaper import Reaper
from bench.execute.tasks import GenerateTask, Outcome, Task
from bench.store.files import append_to

MARK = "BENCH_WORKER"
_LOG_LIMIT = 16 * 2**20  # bytes after which a log begins anew


class Child:
    """Runs tasks like `bench.execute.worker.Worker`, in a process that is started when it is needed.

    Args:
        home, weights: see `Worker`.
        log: file that everything it prints is appended to.
        run: see `Worker`.
    """

    def __init__(self, home: str | Path, weights: Path | None, log: Path, run: str = "") -> None:
        self._home, self._weights, self.log, self._run = home, weights, log, run
        self._guard = Reaper(MARK)  # its children's children end with it, however this process ends
        self._process: subprocess.Popen[bytes] | None = None
        self._talk: Connection | None = None

    def run(self, task: Task, ahead: Task | None = None) -> Outcome:
        """See `Worker.run`; also says how the process ended when a task took it down."""
        killed_before, loaded = _kernel_kills(), not isinstance(task, GenerateTask)
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._talk is not None
        try:
            self._talk.send((task, ahead))
            while not isinstance(said := self._talk.recv(), Outcome):
                loaded = True
        except (EOFError, OSError):
            return self._died(self._process.wait(), _kernel_kills() > killed_before, loaded)
        return said

    def close(self) -> None:
        """End the process and everything it started."""
        self._guard.close()

    def _start(self) -> None:
        self._talk, theirs = Pipe()
        full = self.log.exists() and self.log.stat().st_size > _LOG_LIMIT
        environment = {
            **os.environ,
            **numerics.ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        arguments = [str(theirs.fileno()), str(self._home), str(self._weights or ""), self._run]
        with append_to(self.log, fresh=full) as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.execute.child", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the driver
            )
        theirs.close()

    def _died(self, code: int, by_kernel: bool, loaded: bool) -> Outcome:
        self._process = None
        how = f"exit code {code}" if code >= 0 else _signal_name(-code)
        if code == -signal.SIGKILL and by_kernel:
            return Outcome("error", Cause.OOM, f"Log: {self.log}\nthe kernel killed its worker: memory ran out")
        if not loaded:
            detail = f"Log: {self.log}\nits worker ended with {how} while the method was loaded"
            return Outcome("error", Cause.ENVIRONMENT, detail)
        return Outcome("error", Cause.CRASH, f"Log: {self.log}\nits worker ended with {how}")


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _kernel_kills() -> int:
    """Return how many processes the kernel has killed for memory, in this container or on this machine."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        try:
            words = Path(path).read_text().split()
            return int(words[words.index("oom_kill") + 1])
        except (OSError, ValueError):
            continue
    return 0


def serve(descriptor: int, home: str, weights: Path | None, run: str) -> None:
    """Do tasks until the parent is gone."""
    talk = Connection(descriptor)
    from bench.execute.worker import Worker

    worker = Worker(home, weights, loaded=lambda: talk.send("loaded"), run=run)
    while True:
        try:
            task, ahead = talk.recv()
        except EOFError:
            return
        talk.send(worker.run(task, ahead))


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if sys.argv[3] else None, sys.argv[4])
