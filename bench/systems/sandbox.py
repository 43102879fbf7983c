"""Closing network and file system to an outside system, where this machine can.

With bubblewrap (`bwrap`) a command sees no network, no process but its own, and of the files: programs and
libraries of the machine, its environment and contract to read, its checkout and private folders to write. Where
that does not work, or the user pointed to an interpreter of which nobody knows what it needs, network and foreign
processes are closed and files stay open. What was in force is in every record.

`--sandbox` or `$BENCH_SANDBOX`: `auto` (the default) closes what it can; `require` closes files, too, or refuses;
`off` nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.core.declaration import one_of
from bench.core.errors import MissingError

VARIABLE = "BENCH_SANDBOX"
MODES = ("auto", "require", "off")
OPEN, HALF, CLOSED = "none", "bubblewrap, files open", "bubblewrap"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/sys", "/nix/store")
_DEVICES = ("nvidia*", "dri", "kfd", "infiniband", "dxg")
_TRIED = 20.0  # seconds an attempt may take


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is closed for one system.

    Attributes:
        kind: `CLOSED`, `HALF` or `OPEN`.
        why: why it is not `CLOSED`.
    """

    kind: str
    why: str = ""

    @property
    def stated(self) -> str:
        """What a record says."""
        return f"{self.kind}: {self.why}" if self.why else self.kind

    def wrap(
        self, argv: Sequence[str], cwd: Path, writable: Sequence[Path], readable: Sequence[Path]
    ) -> tuple[str, ...]:
        """Return the command that runs `argv` closed in.

        Args:
            argv: program and arguments.
            cwd: working folder, inside what can be seen.
            writable, readable: folders and files; what is not there is passed over.
        """
        if self.kind == OPEN:
            return tuple(argv)
        if self.kind == HALF:
            return (*_BWRAP, "--dev-bind", "/", "/", "--proc", "/proc", "--chdir", str(cwd), "--", *argv)
        words = [*_BWRAP, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for path in (*map(Path, _SYSTEM), *_programs(), *readable):
            words += ["--ro-bind-try", str(path), str(path)]
        for device in (found for name in _DEVICES for found in sorted(Path("/dev").glob(name))):
            words += ["--dev-bind-try", str(device), str(device)]
        for path in writable:
            words += ["--bind-try", str(path), str(path)]
        return (*words, "--chdir", str(cwd), "--", *argv)


_BWRAP = (
    "bwrap", "--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
    "--die-with-parent", "--new-session",
)  # fmt: skip


def chosen() -> str:
    """Return the mode the user asked for.

    Raises:
        UsageError: it is none.
    """
    mode = os.environ.get(VARIABLE) or "auto"
    one_of(mode, MODES, f"${VARIABLE}")
    return mode


def sandbox(
    probe: Sequence[str], env: Mapping[str, str], cwd: Path, readable: Sequence[Path], given: bool = False
) -> Sandbox:
    """Return the best sandbox in which a command runs here.

    Args:
        probe: a command of the system's environment that does nothing.
        env: its variables.
        cwd: a folder it can be started in and write to.
        readable: what it has to see.
        given: the environment is one the user pointed to.

    Raises:
        MissingError: it was required and does not work.
    """
    mode = chosen()
    key = (mode, given, *readable)
    if key not in _known:
        _known[key] = _find(mode, probe, env, cwd, readable, given)
    return _known[key]


_known: dict[tuple[object, ...], Sandbox] = {}  # an attempt takes a tenth of a second, and nothing changes


def _find(
    mode: str, probe: Sequence[str], env: Mapping[str, str], cwd: Path, readable: Sequence[Path], given: bool
) -> Sandbox:
    if mode == "off":
        return Sandbox(OPEN, "switched off by the user")
    said = "the interpreter is one the user pointed to"
    if mode == "require" or not given:
        why = _trial(Sandbox(CLOSED).wrap(probe, cwd, [cwd], readable), env, cwd)
        if not why:
            return Sandbox(CLOSED)
        if mode == "require":
            raise MissingError(
                f"bubblewrap does not close this system in: {why}.",
                "Install bubblewrap and allow user namespaces, or pass --sandbox auto.",
            )
        said = f"bubblewrap: {why}"
    half = _trial(Sandbox(HALF).wrap(probe, cwd, [cwd], readable), env, cwd)
    return Sandbox(OPEN, f"{said}; {half}") if half else Sandbox(HALF, said)


def _trial(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> str:
    """Return why a command does not run, or an empty string."""
    try:
        done = subprocess.run(
            argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIED
        )
    except OSError as error:
        return "not installed" if isinstance(error, FileNotFoundError) else str(error.strerror)
    except subprocess.TimeoutExpired:
        return f"nothing happened for {_TRIED:g} s"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit status {done.returncode}")[:200]


def _programs() -> Iterator[Path]:
    """Yield folders of programs and libraries the user's PATH names, those of conda environments whole."""
    for variable in ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME"):
        for name in os.environ.get(variable, "").split(os.pathsep):
            path = Path(name)
            if not path.is_absolute() or not path.is_dir():
                continue
            conda = (path.parent / "conda-meta").is_dir()
            yield path.parent if conda else path


@lru_cache(maxsize=32)
def interpreter(prefix: Path) -> tuple[Path, ...]:
    """Return an environment's folder and what it cannot do without: the installation behind a virtual environment
    and folders that its `.pth` files name.
    """
    if any(prefix == Path(system) for system in _SYSTEM):
        return ()
    found = {prefix}
    for program in (prefix / "bin").glob("python*"):
        found.add(program.resolve().parents[1])
    for listed in prefix.glob("lib*/python*/site-packages/*.pth"):
        lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
        found |= {Path(line.strip()) for line in lines if line.startswith("/")}
    return tuple(sorted(path for path in found if len(path.parts) > 2 and path.exists()))
