"""Getting an outside system onto this machine: checkout, environment, weights. Repeatable; goes on where it
broke off; never touches the user's own environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bench.core.errors import BenchError, MissingError, UsageError
from bench.core.keys import digest, file_digest
from bench.store.files import append_to, make_folder, require_inside
from bench.store.home import Home
from bench.systems.contract import Contract, Weight, find
from bench.systems.environment import (
    ALLOWED,
    NETWORK,
    Manager,
    Place,
    State,
    activation,
    allowed,
    find_program,
    folders,
    mark,
    missing_weights,
    place,
    read_state,
    require_own,
    setup_digest,
    unfinished,
)
from bench.systems.process import last_lines, run

MANAGERS = ("venv", "conda", "docker")
_STEP_LIMIT = 3 * 3600.0


def prepare_method(
    name: str,
    home: Home,
    checkout: Path | None = None,
    python: Path | None = None,
    manager: Literal["venv", "conda", "docker"] | None = None,
    offline: bool = False,
    dry_run: bool = False,
) -> Iterator[str]:
    """Prepare one system and yield a line per step, after the lines that say what will be done.

    Args:
        name: of the contract.
        home: everything is made under `<home>/methods/<name>`.
        checkout: an existing repository to use as it is; otherwise it is cloned at the contract's commit.
        python: an existing interpreter to use as it is; otherwise an environment is made.
        manager: how to make the environment; None takes the contract's choice.
        offline: download nothing; only look at what is there.
        dry_run: stop after saying what would be done.

    Raises:
        MissingError: it cannot be run at all, a tool is missing, or weights have to be fetched by hand.
        BenchError: a step failed; names the log.
    """
    contract = find(name)
    if contract.status != "runnable":
        raise MissingError(
            f"{name} cannot be prepared: {contract.reason}",
            f"Score videos of it: bench score DIR --split SPLIT --as {name}",
        )
    where = place(contract.name, home)
    builder = Builder(contract, where, home.logs / contract.name / "prepare.log", offline)
    chosen = manager or contract.environment.manager
    yield from builder.outline(checkout, python, chosen)
    if dry_run:
        return
    require_own(where)
    mark(home.ready())
    make_folder(where.root)
    source = yield from builder.checkout(checkout)
    state = yield from builder.environment(source, python, chosen)
    yield from builder.weights(source)
    absent = missing_weights(contract, source)
    state = replace(state, weights=weight_digests(contract, source, absent))
    state.write(where)
    if absent:
        raise MissingError(_weight_instructions(contract, source, absent), f"Then: bench prepare --methods {name}")
    yield f"{name} is ready"


class Builder:
    """Gets one system's checkout, environment and weights; every method can be called again."""

    def __init__(self, contract: Contract, where: Place, log: Path, offline: bool) -> None:
        self.contract, self.where, self.log, self.offline = contract, where, log, offline

    def outline(self, given: Path | None, python: Path | None, manager: Manager) -> Iterator[str]:
        """Say what is needed, how large it is as far as that is known, and under which licences."""
        contract, known = self.contract, read_state(self.where)
        source = given or (Path(known.checkout) if known is not None else self.where.checkout)
        yield f"{contract.name}: {contract.title}"
        yield f"  folder       {self.where.root}, log {self.log}"
        where = f"clone {contract.source.repository} at {contract.source.commit or 'its newest commit'}"
        if source.is_dir() or not contract.source.repository:
            where = str(source) if source.is_dir() else "none is named: pass --checkout DIR"
        yield f"  repository   {where} (licence: {contract.source.licence})"
        if python is not None or (known is not None and known.manager == "given"):
            yield f"  environment  {python or (known.prefix if known else '')}, as it is"
        elif known is not None and known.setup == setup_digest(contract) and known.manager == manager:
            yield f"  environment  {known.prefix} is there"
        else:
            steps = (
                [f"build a {manager} image"] if manager == "docker" else list(self._steps(manager, self.where.env))
            )
            done = known.done if known is not None and known.manager == manager else ()
            for step in steps:
                yield f"  environment  {'(done) ' if step in done else ''}{step}"
        if passed := [*contract.environment.pass_env, *contract.run.pass_env]:
            yield f"  gets         these of your variables: {', '.join(passed)}"
        for tool in contract.environment.tools:
            yield f"  on PATH      {tool}{'' if find_program(tool) else ' (not there yet)'}"
        absent = missing_weights(contract, source)
        for weight in contract.weights:
            size = f"{weight.size / 1e6:.1f} MB" if weight.size else "size not stated by its authors"
            if weight.path not in absent:
                how = "is there"
            elif weight.hub:
                how = f"fetched from {weight.source}: {weight.hub}"
            else:
                how = f"by hand from {weight.source}"
            licence = weight.licence or "the code's"
            yield f"  weights      {weight.path} ({weight.name}): {how}; {size}; licence: {licence}"
            if weight.path in absent and weight.steps:
                yield f"  {'':12} {weight.steps}"
        for trap in (t for t in contract.traps if not t.workaround):
            yield f"  know         {trap.what}"

    # Repository

    def checkout(self, given: Path | None) -> Generator[str, None, Path]:
        """Yield progress and return the repository's folder."""
        if given is not None:
            if not given.is_dir():
                raise UsageError(f"There is no folder {given}.", "--checkout takes the system's repository.")
            yield f"using the checkout {given}"
            return given.resolve()
        known = read_state(self.where)
        if known is not None and Path(known.checkout).is_dir() and Path(known.checkout) != self.where.checkout:
            yield f"using the checkout {known.checkout}"
            return Path(known.checkout)
        source, target = self.contract.source, self.where.checkout
        if target.is_dir():
            yield f"checkout {target} is there"
            return target
        if not source.repository:
            raise MissingError(f"{self.contract.name} names no repository.", "Pass --checkout DIR.")
        if self.offline:
            raise MissingError(f"{self.contract.name} is not checked out.", "Run without --offline.")
        yield f"cloning {source.repository}"
        with tempfile.TemporaryDirectory(dir=self.where.root) as temporary:
            clone = Path(temporary) / "checkout"
            self._step(["git", "clone", "--quiet", source.repository, str(clone)], Path(temporary))
            if source.commit:
                self._step(["git", "checkout", "--quiet", "--detach", source.commit], clone)
            clone.rename(target)
        return target

    # Environment

    def environment(self, checkout: Path, python: Path | None, manager: Manager) -> Generator[str, None, State]:
        """Yield progress and return the state."""
        contract, where = self.contract, self.where
        wanted = setup_digest(contract)
        known = read_state(where)
        if python is not None:
            if not os.access(python, os.X_OK):
                raise UsageError(f"{python} is no program.", "--python takes an interpreter, e.g. env/bin/python.")
            # Not resolved: a virtual environment's interpreter is a link, and its folder is what counts.
            prefix = python.absolute().parent.parent
            yield f"using the interpreter {python}; nothing is installed into it"
            return State(wanted, str(checkout), checkout_commit(checkout), "given", str(prefix))
        if known is not None and known.manager == "given":
            yield f"using the environment {known.prefix}"
            return replace(known, setup=wanted, checkout=str(checkout), commit=checkout_commit(checkout))
        if known is not None and known.setup == wanted and known.manager == manager:
            yield f"environment {known.prefix} is there"
            return replace(known, checkout=str(checkout), commit=checkout_commit(checkout))
        if self.offline:
            raise MissingError(f"{contract.name} has no environment yet.", "Run without --offline.")
        if manager == "docker":
            image = yield from self._image(checkout, wanted)
            return State(wanted, str(checkout), checkout_commit(checkout), manager, image)
        steps = self._steps(manager, where.env)
        done: tuple[str, ...] = ()
        if known is not None and known.manager == manager and known.done == tuple(steps)[: len(known.done)]:
            done = known.done
        else:
            shutil.rmtree(where.env, ignore_errors=True)
        state = State("", str(checkout), checkout_commit(checkout), manager, str(where.env), done)
        for number, (label, step) in enumerate(steps.items(), 1):
            if label in done:
                continue
            yield f"[{number}/{len(steps)}] {label}"
            step(checkout)
            done = (*done, label)
            state = replace(state, done=done)
            state.write(where)
        for tool in contract.environment.tools:
            path = activation(manager, str(where.env))["PATH"]
            if shutil.which(tool, path=path) is None:
                raise MissingError(f"{contract.name} needs {tool}, which is not on PATH.", f"Install {tool}.")
        freeze = [f"{where.env}/bin/python", "-m", "pip", "freeze"]
        frozen = subprocess.run(freeze, capture_output=True, text=True, env=self._env(manager)).stdout
        return replace(state, setup=wanted, packages=tuple(frozen.splitlines()))

    def _steps(self, manager: Manager, env: Path) -> Mapping[str, Callable[[Path], None]]:
        """Return what makes the environment, in order, by a label that also says whether it was done."""
        declared = self.contract.environment
        steps: dict[str, Callable[[Path], None]] = {}
        steps[f"make {manager} environment (Python {declared.python or 'any'})"] = lambda cwd: self._step(
            self._create(manager, env), cwd
        )
        if declared.packages:
            install = self._install(manager)
            steps[f"install {', '.join(declared.packages)}"] = lambda cwd: self._step(
                [*install, *declared.packages], cwd, self._env(manager)
            )
        for line in (*declared.setup, *declared.prefetch):
            steps[line] = lambda cwd, line=line: self._step(["bash", "-ec", line], cwd, self._env(manager))  # type: ignore[misc]
        return steps

    def _create(self, manager: Manager, env: Path) -> list[str]:
        version = self.contract.environment.python
        if manager == "conda":
            conda = find_program("micromamba", "mamba", "conda")
            if conda is None:
                raise MissingError(
                    f"{self.contract.name} is set up with conda, and none is on PATH.",
                    "Install micromamba, mamba or conda; or pass --env docker, or --python and --checkout.",
                )
            return [conda, "create", "-y", "-p", str(env), f"python={version or '3.10'}", "pip"]
        if uv := find_program("uv"):
            return [uv, "venv", "--seed", *(["--python", version] if version else []), str(env)]
        python = find_program(f"python{version}") if version else sys.executable
        if python is None:
            raise MissingError(
                f"{self.contract.name} needs Python {version}, and there is no python{version} on PATH.",
                "Install uv, which fetches interpreters (pip install uv); or pass --env conda or --python.",
            )
        return [python, "-m", "venv", str(env)]

    def _install(self, manager: Manager) -> list[str]:
        """Return the command that installs torch for the CUDA the contract names."""
        if manager == "venv" and (uv := find_program("uv")):
            return [uv, "pip", "install", f"--torch-backend={_backend(self.contract)}"]
        return ["python", "-m", "pip", "install"]

    def _env(self, manager: Manager) -> dict[str, str]:
        """Return variables for setup steps: the new environment active, network on, caches private."""
        return {
            **allowed((*ALLOWED, *NETWORK, *self.contract.environment.pass_env)),
            **_settings(),
            **activation(manager, str(self.where.env)),
            **folders(self.where),
        }

    def _image(self, checkout: Path, wanted: str) -> Generator[str, None, str]:
        """Yield progress and return the tag of a built image."""
        if find_program("docker") is None:
            raise MissingError("--env docker needs docker on PATH.", "Install docker and the GPU toolkit.")
        tag = f"bench-{self.contract.name}:{wanted[:12]}"
        yield f"building image {tag}"
        with tempfile.TemporaryDirectory(dir=self.where.root) as temporary:
            context = Path(temporary)
            archive = context / "repository.tar"
            self._step(["git", "-C", str(checkout), "archive", "-o", str(archive), "HEAD"], context)
            unpack(archive, context / "repository")
            archive.unlink()
            (context / "Dockerfile").write_text(dockerfile(self.contract), encoding="utf-8")
            self._step(["docker", "build", "--tag", tag, str(context)], context)
        return tag

    # Weights

    def weights(self, checkout: Path) -> Iterator[str]:
        """Fetch what can be fetched by a program."""
        for weight in self.contract.weights:
            target = checkout / weight.path
            require_inside(target, checkout)
            if weight.hub and not self.offline and weight.path in missing_weights(self.contract, checkout):
                yield f"fetching {weight.hub} ({weight.licence or self.contract.source.licence})"
                try:
                    _fetch(weight, target)
                except Exception as error:  # the hub's client raises dozens of kinds
                    yield f"could not fetch {weight.hub}: {(str(error) or type(error).__name__).splitlines()[0]}"

    def _step(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> None:
        """Run a step with `env` for its whole environment; None, for git and the like, is the user's own."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA"))}
        make_folder(self.where.user)
        with append_to(self.log) as file:
            file.write(f"$ {' '.join(argv)}\n".encode(errors="surrogateescape"))
        ended = run(argv, cwd, own if env is None else env, self.log, _STEP_LIMIT)
        if ended.returncode != 0:
            raise BenchError(
                f"Preparing {self.contract.name} stopped at: {' '.join(argv)}\n{last_lines(self.log)}",
                f"The whole log: {self.log}. The same command goes on from here.",
            )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive of a repository into a folder and nowhere else.

    Raises:
        BenchError: it is none, or holds a path, a link or a device that leads out of the folder.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BenchError(f"The repository cannot be unpacked: {error}") from error


def _settings() -> dict[str, str]:
    """Return the user's settings of pip and conda, which lie in a home that setup steps do not see."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    files = {
        "PIP_CONFIG_FILE": (config / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"),
        "UV_CONFIG_FILE": (config / "uv" / "uv.toml",),
        "CONDARC": (Path.home() / ".condarc",),
    }
    found = {name: next((p for p in paths if p.is_file()), None) for name, paths in files.items()}
    return {name: str(path) for name, path in found.items() if path is not None and name not in os.environ}


def _backend(contract: Contract) -> str:
    cuda = contract.environment.cuda.replace(".", "")
    return f"cu{cuda}" if cuda else "auto"


def dockerfile(contract: Contract) -> str:
    """Return a Dockerfile that makes the contract's environment; the driver's CUDA comes from the host."""
    env = contract.environment
    conda = env.manager == "conda"
    version = env.python or "3.10"
    base = env.image or ("condaforge/miniforge3" if conda else f"python:{version}")
    tools = " ".join(["git", "build-essential", "libgl1", "libglib2.0-0", *env.tools])
    lines = [
        f"FROM {base}",
        f"RUN apt-get update && apt-get install -y --no-install-recommends {tools} && rm -rf /var/lib/apt/lists/*",
    ]
    if conda:
        lines += [
            f"RUN conda create -y -p /env python={version} pip",
            "ENV CONDA_PREFIX=/env CONDA_DEFAULT_ENV=/env PATH=/env/bin:$PATH",
        ]
    lines += ["RUN pip install uv", "COPY repository /repository", "WORKDIR /repository"]
    if env.packages:
        lines.append(f"RUN uv pip install --system --torch-backend={_backend(contract)} {' '.join(env.packages)}")
    lines += [f"RUN {line}" for line in (*env.setup, *env.prefetch)]
    return "\n".join(lines) + "\n"


def _fetch(weight: Weight, target: Path) -> None:
    from fnmatch import fnmatch

    from huggingface_hub import HfApi, snapshot_download

    # Asked first because, without network, the download returns whatever half of it is there as if it were all.
    listed = HfApi().list_repo_files(weight.hub)
    wanted = [name for name in listed if not weight.files or any(fnmatch(name, p) for p in weight.files)]
    # A weight that is one file of its repository lies under the file's own name.
    folder = target.parent if weight.files == (target.name,) else target
    folder.mkdir(parents=True, exist_ok=True)
    unfinished(target).touch()
    snapshot_download(weight.hub, local_dir=str(folder), allow_patterns=list(weight.files) or None)
    if lost := [name for name in wanted if not (folder / name).is_file()] or (
        [] if wanted else list(weight.files)
    ):
        raise OSError(f"{len(lost)} files are not there, e.g. {lost[0]}")
    unfinished(target).unlink()


def weight_digests(contract: Contract, checkout: Path, absent: Sequence[str]) -> dict[str, str]:
    """Return the sha256 of every weight that is there; of a folder, that of its files' names and digests.

    Raises:
        BenchError: a file is not the one the contract names.
    """
    found = {}
    for weight in contract.weights:
        if weight.path in absent:
            continue
        path = checkout / weight.path
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and ".cache" not in p.parts)
            found[weight.path] = digest([[p.relative_to(path).as_posix(), file_digest(p)] for p in files])
            continue
        found[weight.path] = file_digest(path)
        if weight.sha256 and found[weight.path] != weight.sha256:
            raise BenchError(
                f"{path} is not the file the contract names: sha256 {found[weight.path]}, not {weight.sha256}.",
                "Remove it and fetch it again.",
            )
    return found


def _weight_instructions(contract: Contract, checkout: Path, absent: Sequence[str]) -> str:
    lines = [f"{contract.name}: these weights are missing in {checkout}:"]
    for weight in contract.weights:
        if weight.path in absent:
            lines.append(f"  {weight.path}: {weight.name} ({weight.source})")
            if weight.steps:
                lines.append(f"    {weight.steps}")
            target = checkout / weight.path
            if weight.hub:
                wanted = "".join(f" --include '{pattern}'" for pattern in weight.files)
                lines.append(f"    Or yourself: hf download {weight.hub}{wanted} --local-dir {target}")
            if unfinished(target).exists():
                lines.append(f"    Its download is unfinished. If you completed it, delete {unfinished(target)}")
            if weight.licence:
                lines.append(f"    licence: {weight.licence}")
    return "\n".join(lines)


def checkout_commit(checkout: Path) -> str:
    """Return the commit of a git checkout, with `+` when tracked files were changed; empty if it is none."""
    git = ["git", "-C", str(checkout)]
    with suppress(OSError):
        top = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True)
        folder, _, commit = top.stdout.strip().partition("\n")
        if top.returncode == 0 and Path(folder).resolve() == checkout.resolve():
            changes = subprocess.run(
                [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
            )
            return commit + ("+" if changes.stdout.strip() else "")
    return ""
