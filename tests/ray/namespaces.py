"""Two machines on one: network namespaces joined by a pair of virtual cables, and an S3 server on the first."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
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


class Machines:
    """A head and another node; each has a disk of its own for its cache, which the other does not see.

    Args:
        folder: for caches, logs and sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {HEAD: f"bh{os.getpid()}", OTHER: f"bo{os.getpid()}"}
        self._running: list[subprocess.Popen[bytes]] = []
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
            _do("ip", "-n", name, "link", "set", cable, "up")
            # Ray takes a process's address from the route to the world.
            other = next(a for a in self.names if a != address)
            _do("ip", "-n", name, "route", "add", "default", "via", other)
        # A common user's Ray would be found through /tmp/ray: each machine has its own.
        server = {"PYTHONPATH": str(s3_server())}
        self.start(HEAD, [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"], server)
        self._make_bucket()
        self._ray(HEAD, "--head", "--port", "6379", "--include-dashboard", "false")

    def environment(self, address: str) -> dict[str, str]:
        """Return the variables of a process on a machine."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "BENCH_", "AWS_"))},
            "PYTHONPATH": str(ROOT),
            "BENCH_CACHE": str(self.folder / f"cache-{address}"),
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{HEAD}:5000",
            "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder / "user"),
        }  # fmt: skip

    def start(
        self, address: str, command: list[str], more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process on a machine: with its network, its name, its /tmp/ray and without the other's disk."""
        hidden = [self.folder / f"cache-{a}" for a in self.names if a != address]
        own = self.folder / f"ray-{address}"
        for folder in (*hidden, own, Path("/tmp/ray")):
            folder.mkdir(parents=True, exist_ok=True)
        mounts = " && ".join([f"mount --bind {own} /tmp/ray", *(f"mount -t tmpfs none {f}" for f in hidden)])
        script = f'hostname {self.names[address]} && {mounts} && exec "$@"'
        log = (self.folder / f"{self.names[address]}.log").open("ab")
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.names[address], "unshare", "--uts", "sh", "-c", script, "sh", *command],
            env=self.environment(address) | dict(more or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        self._running.append(process)
        return process

    def join(self) -> None:
        """Let the other machine join the cluster."""
        self._ray(OTHER, "--address", f"{HEAD}:6379")

    def bench(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `bench` on the head."""
        return self.start(HEAD, [sys.executable, "-m", "bench", *arguments])

    def said(self) -> str:
        """Return what processes printed, for a failing test."""
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in self.folder.glob("*.log"))

    def close(self) -> None:
        """End everything and take the machines away."""
        for address, name in self.names.items():
            self._end(address)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for process in self._running:
            process.wait(timeout=30)

    def _end(self, address: str) -> None:
        """Kill what runs on a machine; Ray's processes leave the session they were started in."""
        found = subprocess.run(["ip", "netns", "pids", self.names[address]], capture_output=True, text=True)
        for process in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def _ray(self, address: str, *arguments: str) -> None:
        command = [
            sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *arguments, "--block",
            "--node-ip-address", address, "--num-cpus", "1", "--object-store-memory", str(100 * 2**20),
        ]  # fmt: skip
        self.start(address, command)

    def _make_bucket(self) -> None:
        code = (
            "import urllib.request as u;"
            f"u.urlopen(u.Request('http://{HEAD}:5000/{BUCKET}', method='PUT'), timeout=5)"
        )
        for _ in range(100):
            process = self.start(HEAD, [sys.executable, "-c", code])
            if process.wait(timeout=30) == 0:
                return
            time.sleep(0.5)
        raise RuntimeError(self.said())


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
