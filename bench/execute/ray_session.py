"""A connection to Ray: to a cluster that is there, or to one started here for this process alone."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.core.errors import MissingError
from bench.execute import ray_token
from bench.execute.reaper import Reaper

_GRACE = "600"  # seconds a silent head is borne by Ray, which then ends this process; 60 leave no time for a table
_FOLDERS = "bench-ray-"


def _require_listener(address: str) -> None:
    """Refuse an address that nobody answers at: Ray itself would try for minutes.

    Raises:
        MissingError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise MissingError(
            f"No Ray cluster answers at {address}: {error.strerror or error}.",
            "Start one there (ray start --head --port PORT), check --ray-address, or use --executor inline",
        ) from error


@contextmanager
def connected(address: str | None, workers: int | None = None) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine and stop it afterwards; yields the `ray` module.

    Raises:
        MissingError: it cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", _GRACE)
    if address is not None:
        _require_listener(address)
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False, "logging_level": "ERROR"}
    with ExitStack() as stack:
        stack.enter_context(_messages_to_stderr())
        if address is not None:
            ray_token.user_token()
            ray_token.require_accepted(address)
        else:
            folder = _own_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            # Nothing of Ray started here may outlive this process, not even when it is killed.
            stack.callback(Reaper().close)
            stack.enter_context(ray_token.own_token())
        stack.callback(ray.shutdown)
        try:
            if address is not None:
                ray.init(address=address, **quiet)
            else:
                # "local" makes a new one even where another user's or an abandoned cluster runs on this
                # machine. Messages are small, so the shared-memory store can be too.
                ray.init(
                    address="local",
                    num_cpus=workers or usable_cpus(),
                    include_dashboard=False,
                    _temp_dir=str(folder / "r"),  # Ray opens it to everybody
                    object_store_memory=200 * 1024**2,
                    **quiet,
                )
                ray_token.hide()
        except Exception as error:  # Ray raises that very class when a node takes too long to start
            if address is not None:
                ray_token.require_accepted(str(error))
            raise MissingError(
                f"Cannot {'reach the Ray cluster at ' + address if address else 'start Ray'}: {error}",
                "Check --ray-address, or run without a cluster: --executor inline",
            ) from error
        yield ray


def _own_folder() -> Path:
    """Make the folder of a Ray of ours, which only this user can enter; remove those that dead processes left.

    Ray's own, `/tmp/ray`, belongs to whoever came first, is read by everybody, and keeps every session's logs. The
    path is short because sockets lie in it, whose names are limited to some hundred bytes.
    """
    root = Path("/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir())
    for old in root.glob(f"{_FOLDERS}*-*"):
        owner = old.name.removeprefix(_FOLDERS).partition("-")[0]
        if owner.isdigit() and Path("/proc/self").exists() and not Path(f"/proc/{owner}").exists():
            with suppress(OSError):
                found = old.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                    shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDERS}{os.getpid()}-", dir=root))


@contextmanager
def _messages_to_stderr() -> Iterator[None]:
    """Keep standard output for data: Ray prints there when a node or worker dies."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def usable_cpus() -> int:
    """Return the CPUs this process may use: those of its affinity mask, within its container's limit."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = min(allowed, int(quota) / int(period))
    except (OSError, ValueError):  # no such control group, or "max"
        pass
    return max(1, int(allowed))
