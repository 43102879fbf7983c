"""Where an outside system lives on this machine, and how its commands are started there."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from bench.core.errors import MissingError, UsageError
from bench.store.files import write_bytes
from bench.store.home import Home
from bench.systems.contract import Contract, typed

Manager = Literal["venv", "conda", "docker", "given"]

# A proxy that nobody listens on: downloads at run time fail at once instead of changing what is measured.
_DEAD_PROXY = "http://127.0.0.1:9"
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "PIP_NO_INPUT": "1",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _DEAD_PROXY),
    "no_proxy": "localhost,127.0.0.1",
}
_FOREIGN = ("PYTHON", "VIRTUAL_ENV", "CONDA", "UV_", "PIP_")


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one system under a home.

    Attributes:
        root: `<home>/methods/<name>`.
    """

    root: Path

    @property
    def state(self) -> Path:
        """What `bench prepare` did, see `State`."""
        return self.root / "state.json"

    @property
    def checkout(self) -> Path:
        """Our own clone; a checkout the user pointed to lies elsewhere."""
        return self.root / "checkout"

    @property
    def env(self) -> Path:
        """Our own environment."""
        return self.root / "env"

    @property
    def cache(self) -> Path:
        """Downloads of the system's libraries, kept out of the user's home."""
        return self.root / "cache"

    @property
    def extra(self) -> Path:
        """Files a person supplies per sample."""
        return self.root / "extra"


def place(name: str, home: Home) -> Place:
    """Return the folders of a system."""
    return Place(home.path / "methods" / name)


@dataclass(frozen=True, slots=True)
class State:
    """What is prepared.

    Attributes:
        setup: digest of the contract's setup; another one means that prepare has to run again.
        checkout: the repository used.
        commit: of that repository, with `+` when it has changes; empty when it is no git checkout.
        manager: how the environment was made; `given` is an interpreter the user named.
        prefix: environment folder, or the docker image.
        done: setup steps that succeeded.
        weights: sha256 by path of every weight file or folder found.
        packages: `pip freeze` of the environment.
        stand_in: the weights are a rehearsal's, made from random numbers.
    """

    setup: str
    checkout: str
    commit: str
    manager: Manager
    prefix: str
    done: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    stand_in: bool = False

    def write(self, where: Place) -> None:
        """Store it."""
        write_bytes(where.state, json.dumps(asdict(self), indent=1, sort_keys=True).encode())


def read_state(where: Place) -> State | None:
    """Return what is prepared, or None.

    Raises:
        UsageError: the file was damaged.
    """
    try:
        data = json.loads(where.state.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(
            f"{where.state} is damaged: {error}.", "Delete it and run `bench prepare` again."
        ) from error
    data["done"] = tuple(data["done"])
    data["packages"] = tuple(data["packages"])
    return State(**data)


def missing_weights(contract: Contract, checkout: Path) -> list[str]:
    """Return the contract's weight paths that are not in a checkout, or whose download is unfinished."""
    return [w.path for w in contract.weights if not _present(w.path, contract, checkout)]


def unfinished(target: Path) -> Path:
    """Return the file that lies beside a weight's path while it is being downloaded."""
    return target.with_name(f"{target.name}.unfinished")


def _present(name: str, contract: Contract, checkout: Path) -> bool:
    path = checkout / name
    if unfinished(path).exists():
        return False
    if not path.is_dir():
        return path.is_file() and path.stat().st_size > 0
    # Systems keep one weight's folder inside another's: what belongs to the others does not count.
    others = [checkout / w.path for w in contract.weights if w.path != name]
    return any(
        not child.name.startswith(".") and not any(child == o or child in o.parents for o in others)
        for child in path.iterdir()
    )


def require_state(contract: Contract, home: Home) -> State:
    """Return what is prepared.

    Raises:
        MissingError: nothing, or not everything; says the command.
    """
    command = f"bench prepare --methods {typed(contract)}"
    if contract.status != "runnable":
        raise MissingError(
            f"{contract.name} cannot be run: {contract.reason}",
            f"Score videos of it: bench score DIR --split SPLIT --as {contract.name}",
        )
    state = read_state(place(contract.name, home))
    if state is None:
        raise MissingError(f"{contract.name} is not prepared.", f"Run: {command}")
    checkout = Path(state.checkout)
    if not checkout.is_dir():
        raise MissingError(f"The checkout of {contract.name} is gone: {checkout}.", f"Run: {command}")
    if state.setup != setup_digest(contract) and state.manager != "given" and not state.stand_in:
        raise MissingError(f"The setup of {contract.name} changed since it was prepared.", f"Run: {command}")
    if absent := missing_weights(contract, checkout):
        raise MissingError(f"{contract.name} lacks weights: {', '.join(absent)} in {checkout}.", f"Run: {command}")
    return state


def setup_digest(contract: Contract) -> str:
    """Return the digest of everything that decides an environment's content."""
    from bench.core.keys import digest

    env = contract.environment
    return digest([contract.source.commit, env.python, env.cuda, list(env.packages), list(env.setup), env.image])


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one command line in a system's environment.

    Attributes:
        argv: the full command.
        env: its whole environment.
        stop: command that ends it when it runs elsewhere (docker).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stop: tuple[str, ...] = ()


def launch(
    state: State,
    where: Place,
    argv: Sequence[str],
    cwd: Path,
    job: Path,
    extra: Mapping[str, str],
    readable: Sequence[Path] = (),
) -> Launch:
    """Return how to run a command line of the contract.

    Args:
        state: the prepared environment.
        where: its folders.
        argv: words of the command; `python` is the environment's.
        cwd: working folder, inside `job`.
        job: the private folder of this run.
        extra: variables the contract sets.
        readable: further folders a container has to see.
    """
    env = run_env(state, where, job, extra)
    if state.manager != "docker":
        return Launch(tuple(argv), env)
    name = f"bench-{uuid.uuid4().hex[:12]}"
    own = {k: env[k] for k in (*_OFFLINE, *extra, "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    own["HOME"] = str(job)
    mounts = [f"{p}:{p}" for p in (job, where.cache)]
    mounts += [f"{p}:{p}:ro" for p in dict.fromkeys([Path(state.checkout), *readable])]
    command = ["docker", "run", "--rm", "--init", "--name", name, "--network", "none", "--gpus", "all"]
    command += [word for mount in mounts for word in ("--volume", mount)]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--workdir", str(cwd)]
    command += [word for key, value in own.items() for word in ("--env", f"{key}={value}")]
    return Launch((*command, state.prefix, *argv), dict(os.environ), ("docker", "kill", name))


def run_env(state: State, where: Place, job: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a run: nothing of the user's Python, no network, private caches."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    env |= _OFFLINE
    env |= activation(state.manager, state.prefix)
    temporary = job / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    env |= {
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "MPLBACKEND": "Agg",
        "HF_HOME": str(where.cache / "huggingface"),
        "TORCH_HOME": str(where.cache / "torch"),
        "XDG_CACHE_HOME": str(where.cache),
        "TMPDIR": str(temporary),
    }
    return env | dict(extra)


def activation(manager: Manager, prefix: str) -> dict[str, str]:
    """Return the variables that activate an environment."""
    if manager == "docker":
        return {}
    path = os.environ.get("PATH", os.defpath)
    found = {"PATH": f"{prefix}/bin{os.pathsep}{path}"}
    if manager == "venv":
        found["VIRTUAL_ENV"] = prefix
    if manager == "conda":
        found |= {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": prefix}
    return found


def find_program(*names: str) -> str | None:
    """Return the first program that is on PATH."""
    return next((found for name in names if (found := shutil.which(name))), None)
