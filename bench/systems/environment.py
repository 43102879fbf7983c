"""Where an outside system lives on this machine, and how its commands are started there."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from bench.core.declaration import read_json
from bench.core.errors import MissingError, UsageError
from bench.store.files import make_folder, write_bytes
from bench.store.home import Home
from bench.systems.contract import Contract, typed
from bench.systems.sandbox import interpreter, sandbox

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
# All that a system gets of the user's environment. What else it needs its contract names (`pass_env`).
ALLOWED = (
    "PATH", "LD_LIBRARY_PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "USER", "LOGNAME", "SHELL", "TERM",
    "CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "OMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*",
)  # fmt: skip
# Preparing needs the network as well: the user's mirrors, proxies and certificates.
NETWORK = (
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY",
    "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_*", "UV_*", "CONDARC", "HF_ENDPOINT",
)  # fmt: skip


def allowed(patterns: Sequence[str]) -> dict[str, str]:
    """Return the variables of this process whose names match."""
    return {k: v for k, v in os.environ.items() if any(fnmatchcase(k, p) for p in patterns)}


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one system under a home.

    Attributes:
        root: `<home>/methods/<name>`.
        foreign: the home was found where we are, not named, and this user never prepared anything in it: it may
            have come with the files that lie here, and no program in it is run.
    """

    root: Path
    foreign: bool = False

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
    def user(self) -> Path:
        """What the system takes for the user's own folder (`$HOME`)."""
        return self.root / "home"

    @property
    def extra(self) -> Path:
        """Files a person supplies per sample."""
        return self.root / "extra"


def place(name: str, home: Home) -> Place:
    """Return the folders of a system."""
    return Place(home.methods / name, not home.chosen and home.methods.is_dir() and not _marked(home.path))


def mark(home: Home) -> None:
    """Note that this user prepares systems in a home: a mark that nobody else can make and no copy carries."""
    with suppress(OSError):  # without a place for the key, `--home` has to be given
        write_bytes(home.path / _MARK, _sign(home.path).encode())


def _marked(home: Path) -> bool:
    try:
        return hmac.compare_digest((home / _MARK).read_bytes(), _sign(home).encode())
    except OSError:
        return False


def _sign(home: Path) -> str:
    """Return the mark of a folder: this user's key over the folder's number, which a copy does not share."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    key = state / "actalker-bench" / "key"
    if not key.is_file():
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(key, secrets.token_bytes(32))
        key.chmod(0o600)
    return hmac.new(key.read_bytes(), str(home.stat().st_ino).encode(), "sha256").hexdigest()


_MARK = ".prepared-by"


def require_own(where: Place) -> None:
    """Refuse to run or go on with what is prepared in a home that may be somebody else's.

    Raises:
        MissingError: it may be.
    """
    if where.foreign:
        home = where.root.parents[1]
        raise MissingError(
            f"{home} lies in this folder and you have prepared nothing in it, so no program in it is run: it may"
            " have come with the folder.",
            f"If it is yours, name it: --home {home.name}. To make it known: bench prepare --methods ... --home"
            f" {home.name}",
        )


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
    if where.foreign or not where.state.exists():
        return None
    try:
        return read_json(where.state, State)
    except UsageError as error:
        raise UsageError(
            f"{where.state} is damaged: {error.message}", "Delete it and run `bench prepare` again."
        ) from error


def missing_weights(contract: Contract, checkout: Path) -> list[str]:
    """Return the contract's weight paths that are not in a checkout, or whose download is unfinished."""
    return [w.path for w in contract.weights if not _present(w.path, contract, checkout)]


def linked_weights(contract: Contract, checkout: Path) -> list[Path]:
    """Return where links at a contract's weight paths lead, which a sandbox has to show.

    Links that came with the repository are its authors' and not followed.
    """
    listed = subprocess.run(["git", "-C", str(checkout), "ls-files", "-s"], capture_output=True, text=True)
    theirs = {line.partition("\t")[2] for line in listed.stdout.splitlines() if line.startswith("120000")}
    found = []
    for weight in contract.weights:
        path = checkout / weight.path
        for link in (*path.parents, path, *(path.iterdir() if path.is_dir() else ())):
            inside = link.is_symlink() and link.is_relative_to(checkout)
            if inside and link.relative_to(checkout).as_posix() not in theirs:
                found.append(link.resolve())
    return found


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
    where = place(contract.name, home)
    state = read_state(where)
    if contract.status != "runnable" and not (state is not None and state.stand_in):
        raise MissingError(
            f"{contract.name} cannot be run: {contract.reason}",
            f"Score videos of it: bench score DIR --split SPLIT --as {contract.name}",
        )
    require_own(where)
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
        sandbox: what is closed to it, in words.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stop: tuple[str, ...] = ()
    sandbox: str = ""


def launch(
    state: State,
    where: Place,
    argv: Sequence[str],
    cwd: Path,
    job: Path,
    extra: Mapping[str, str],
    readable: Sequence[Path] = (),
    pass_env: Sequence[str] = (),
    writable: Sequence[Path] = (),
) -> Launch:
    """Return how to run a command line of the contract.

    Args:
        state: the prepared environment.
        where: its folders.
        argv: words of the command; `python` is the environment's.
        cwd: working folder, inside `job`.
        job: the private folder of this run.
        extra: variables the contract sets.
        readable: further folders it has to see.
        pass_env: names of the user's variables the contract asks for.
        writable: further folders it has to write to.

    Raises:
        MissingError: a sandbox was required and does not work.
    """
    env = run_env(state, where, job, extra, pass_env)
    for folder in (where.cache, where.user):
        make_folder(folder)
    if state.manager != "docker":
        program = cwd / argv[0] if "/" in argv[0] else argv[0]
        if shutil.which(program, path=env["PATH"]) is None:
            return Launch(tuple(argv), env)  # to fail by its own name and not the sandbox's
        seen = [*interpreter(Path(state.prefix)), *readable]
        closed = sandbox(["python", "-c", ""], env, job, seen, state.manager == "given")
        theirs = [Path(state.checkout), where.cache, where.user, where.extra, job, *writable]
        return Launch(closed.wrap(argv, cwd, theirs, seen), env, sandbox=closed.stated)
    name = f"bench-{uuid.uuid4().hex[:12]}"
    own = {k: env[k] for k in (*_OFFLINE, *extra, "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    own["HOME"] = str(job)
    mounts = [f"{p}:{p}" for p in (job, where.cache)]
    mounts += [f"{p}:{p}:ro" for p in dict.fromkeys([Path(state.checkout), *readable])]
    command = ["docker", "run", "--rm", "--init", "--name", name, "--network", "none", "--gpus", "all"]
    command += [word for mount in mounts for word in ("--volume", mount)]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--workdir", str(cwd)]
    command += [word for key, value in own.items() for word in ("--env", f"{key}={value}")]
    return Launch((*command, state.prefix, *argv), dict(os.environ), ("docker", "kill", name), "docker")


def run_env(
    state: State, where: Place, job: Path, extra: Mapping[str, str], pass_env: Sequence[str] = ()
) -> dict[str, str]:
    """Return the environment variables of a run: few of the user's, no network, private folders."""
    env = allowed((*ALLOWED, *pass_env)) | _OFFLINE | activation(state.manager, state.prefix) | folders(where)
    temporary = job / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    env |= {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg", "TMPDIR": str(temporary)}
    return env | dict(extra)


def folders(where: Place) -> dict[str, str]:
    """Return the variables that keep a system's own files under the home."""
    return {
        "HOME": str(where.user),
        "HF_HOME": str(where.cache / "huggingface"),
        "TORCH_HOME": str(where.cache / "torch"),
        "XDG_CACHE_HOME": str(where.cache),
        "NUMBA_CACHE_DIR": str(where.cache / "numba"),
        "PYTHONNOUSERSITE": "1",
    }


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
