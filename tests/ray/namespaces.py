"""Two machines on one: network namespaces joined by a pair of virtual cables, and an S3 server on the first."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD, OTHER = "10.93.7.1", "10.93.7.2"
BUCKET = "bench-test"


def reason_not_to() -> str:
    """Return why machines cannot be made here, or nothing."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return "needs root and the ip command"
    made = subprocess.run(["ip", "netns", "add", f"probe{os.getpid()}"], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"probe{os.getpid()}"], check=True)
    if s3_server() is None:
        return "no S3 server: $BENCH_S3_SERVER names no folder with moto (make test installs it)"
    return ""


def s3_server() -> Path | None:
    """Return the folder that moto is installed in, apart from everything else."""
    folder = Path(os.environ.get("BENCH_S3_SERVER", ROOT / ".venv" / "s3-server"))
    return folder if (folder / "moto").is_dir() else None


@dataclass
class Run:
    """A `bench` that was started.

    Attributes:
        table, log: what it prints on standard output and on standard error.
    """

    process: subprocess.Popen[bytes]
    table: Path
    log: Path

    def until(self, text: str, seconds: float = 120.0) -> None:
        """Wait until it has said something."""
        wait(lambda: text in self.said(), seconds, self.said)

    def ends(self, seconds: float = 240.0) -> int:
        """Wait for its end; return its exit code."""
        return self.process.wait(timeout=seconds)

    def said(self) -> str:
        """Return what it has printed on standard error."""
        return self.log.read_text(errors="replace")


class Machines:
    """A head and another node; each has a disk of its own for its cache, which the other does not see.

    Args:
        folder: for caches, logs and sockets.

    Attributes:
        notes: a folder both see, for methods of `tests/toys.py`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.names = {HEAD: f"bh{os.getpid()}", OTHER: f"bo{os.getpid()}"}
        self._running: list[subprocess.Popen[bytes]] = []
        self._runs = 0
        self._joined: Mapping[Path, Path] | None = None
        token = folder / "user" / ".ray" / "auth_token"  # of another cluster of the user's; this one asks for none
        token.parent.mkdir(parents=True)
        token.write_text("ab" * 32)
        token.chmod(0o600)
        for name in self.names.values():
            _do("ip", "netns", "add", name)
            _do("ip", "-n", name, "link", "set", "lo", "up")
        here, there = (f"v{name}" for name in self.names.values())
        _do("ip", "link", "add", here, "type", "veth", "peer", "name", there)
        for (address, name), cable in zip(self.names.items(), (here, there), strict=True):
            _do("ip", "link", "set", cable, "netns", name)
            _do("ip", "-n", name, "addr", "add", f"{address}/24", "dev", cable)
            self._plug(address, True)
        server = {"PYTHONPATH": str(s3_server())}
        self._s3 = self.start(HEAD, [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"], server)
        self._make_bucket()

    def environment(self, address: str) -> dict[str, str]:
        """Return the variables of a process on a machine."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "BENCH_", "AWS_"))},
            "PYTHONPATH": str(ROOT),
            "BENCH_CACHE": str(self.cache(address)),
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{HEAD}:5000",
            "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder / "user"),
            "TOY_MARKERS": str(self.notes),
            "COLUMNS": "200",
        }  # fmt: skip

    def cache(self, address: str) -> Path:
        """Return a folder that only one machine sees."""
        return self.folder / f"cache-{address}"

    def start(
        self,
        address: str,
        command: list[str],
        more: Mapping[str, str] | None = None,
        instead: Mapping[Path, Path] | None = None,
        log: Path | None = None,
        output: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process on a machine: with its network, its name, its /tmp/ray and without the other's disk.

        Args:
            address: of the machine.
            command: what to start.
            more: variables.
            instead: what it sees in the place of a folder.
            log, output: files for standard error and output; a common one by default.
        """
        hidden = [self.cache(a) for a in self.names if a != address]
        # A common user's Ray would be found through /tmp/ray: each machine has its own.
        bound = {Path("/tmp/ray"): self.folder / f"ray-{address}", **(instead or {})}
        for folder in (*hidden, *bound, *bound.values()):
            folder.mkdir(parents=True, exist_ok=True)
        mounts = [f"mount --bind {shown} {place}" for place, shown in bound.items()]
        mounts += [f"mount -t tmpfs none {folder}" for folder in hidden]
        script = " && ".join([f"hostname {self.names[address]}", *mounts, 'exec "$@"'])
        log = log or self.folder / f"{self.names[address]}.log"
        with log.open("ab") as errors, (output or log).open("ab") as printed:
            inside = ["ip", "netns", "exec", self.names[address], "unshare", "--uts", "sh", "-c", script, "sh"]
            process = subprocess.Popen(
                [*inside, *command],
                env=self.environment(address) | dict(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def serve(self, cpus: int = 1) -> None:
        """Let the first machine be the head of a new cluster."""
        self.kill(OTHER)
        self.kill(HEAD)
        self._ray(HEAD, cpus, {}, "--head", "--port", "6379", "--include-dashboard", "false")
        wait(self._answers, 60, self.said)

    def join(self, instead: Mapping[Path, Path] | None = None) -> None:
        """Let the other machine be in the cluster; see `start`."""
        if self._joined != (instead or {}):
            self.kill(OTHER)
            self._joined = instead or {}
            self._ray(OTHER, 1, self._joined, "--address", f"{HEAD}:6379")

    def bench(self, *arguments: str, cluster: bool = True) -> Run:
        """Start `bench` on the head."""
        self._runs += 1
        table, log = self.folder / f"bench-{self._runs}.out", self.folder / f"bench-{self._runs}.log"
        more = {"RAY_ADDRESS": f"{HEAD}:6379"} if cluster else {}
        command = [sys.executable, "-m", "bench", *arguments]
        return Run(self.start(HEAD, command, more, log=log, output=table), table, log)

    def plug(self, connected: bool) -> None:
        """Pull the cable out of the other machine, or put it back."""
        self._plug(OTHER, connected)

    def kill(self, address: str, only: str = "", but: Sequence[Run] = ()) -> None:
        """Kill what runs on a machine, as a power cut would, but for the bucket.

        Args:
            address: of the machine.
            only: a word of the command lines of those to kill.
            but: what is left alone.
        """
        found = subprocess.run(["ip", "netns", "pids", self.names[address]], capture_output=True, text=True)
        if address == OTHER:
            self._joined = None
        left = {self._s3.pid, *(run.process.pid for run in but)}
        for process in set(map(int, found.stdout.split())) - left:
            with contextlib.suppress(OSError):
                if only.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)

    def said(self) -> str:
        """Return what processes printed, for a failing test."""
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in self.folder.glob("*.log"))

    def close(self) -> None:
        """End everything and take the machines away."""
        for address, name in self.names.items():
            self.kill(address)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        self._s3.kill()
        for process in self._running:
            process.wait(timeout=30)

    def _plug(self, address: str, connected: bool) -> None:
        name = self.names[address]
        _do("ip", "-n", name, "link", "set", f"v{name}", "up" if connected else "down")
        if connected:  # Ray takes a process's address from the route to the world
            other = next(a for a in self.names if a != address)
            _do("ip", "-n", name, "route", "replace", "default", "via", other)

    def _ray(self, address: str, cpus: int, instead: Mapping[Path, Path], *arguments: str) -> None:
        command = [
            sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *arguments, "--block",
            "--node-ip-address", address, "--num-cpus", str(cpus), "--object-store-memory", str(100 * 2**20),
        ]  # fmt: skip
        self.start(address, command, instead=instead)

    def _answers(self) -> bool:
        code = f"import socket; socket.create_connection(('{HEAD}', 6379), 2)"
        return self.start(HEAD, [sys.executable, "-c", code]).wait(timeout=30) == 0

    def _make_bucket(self) -> None:
        code = (
            "import urllib.request as u;"
            f"u.urlopen(u.Request('http://{HEAD}:5000/{BUCKET}', method='PUT'), timeout=5)"
        )
        wait(lambda: self.start(HEAD, [sys.executable, "-c", code]).wait(timeout=30) == 0, 60, self.said)


def wait(until: Callable[[], bool], seconds: float, said: Callable[[], str]) -> None:
    """Wait until something is so; fail with what was said when it takes too long."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(said())
        time.sleep(0.3)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
