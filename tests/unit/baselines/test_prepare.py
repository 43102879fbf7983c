"""Preparing a system: clone, environment, weights; again, broken off, by other tools, and by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.errors import BenchError, MissingError, UsageError
from bench.store.home import Home
from bench.systems import contract as contracts
from bench.systems.environment import launch, place, read_state, require_state, run_env
from bench.systems.prepare import dockerfile, prepare_method

PYTHON = Path(sys.executable).absolute()

CONTRACT = """
name = "fake"
title = "A fake"
status = "runnable"

[source]
repository = "{repository}"
commit = "{commit}"
licence = "MIT"

[environment]
packages = ["torch==9.9"]
cuda = "11.8"
setup = ["touch $VIRTUAL_ENV/one", "test -e allowed && touch $VIRTUAL_ENV/two"]
prefetch = ["echo model > $TORCH_HOME/prefetched"]
tools = ["sh"]

[[weights]]
name = "the model"
path = "checkpoints/model.pth"
source = "a form on a web page"
steps = "Fill in the form."
licence = "research only"

[gates.audio]
command = "python run.py --out {{output_path}}"

[output]
glob = ["{{output_path}}"]
"""

# Plays uv: records its arguments, and makes an environment of links when asked for one.
FAKE_UV = """#!/bin/sh
echo "$@" >> "{log}"
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin" && ln -s "{python}" "$last/bin/python"
fi
"""


def git(folder, *words):
    own = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b.c",
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, env={**os.environ, **own}
    )
    return done.stdout.strip()


@pytest.fixture
def upstream(tmp_path):
    """A repository with two commits; the contract wants the first."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "run.py").write_text("first")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    first = git(folder, "rev-parse", "HEAD")
    (folder / "run.py").write_text("second")
    git(folder, "commit", "-qam", "second")
    return folder, first


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Fake programs come first on PATH; returns a function that adds one and the file they write to."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(name, text='#!/bin/sh\necho "$@" >> "{log}"\n'):
        (folder / name).write_text(text.format(log=log, python=PYTHON))
        (folder / name).chmod(0o755)
        return log

    return add


@pytest.fixture
def fake(tmp_path, monkeypatch, upstream):
    folder = tmp_path / "contracts" / "fake"
    folder.mkdir(parents=True)
    (folder / contracts.FILE).write_text(CONTRACT.format(repository=upstream[0], commit=upstream[1]))
    monkeypatch.setenv("BENCH_BASELINES", str(tmp_path / "contracts"))
    return folder


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home").ready()


def run(home, **options):
    return list(prepare_method("fake", home, **options))


def test_everything_from_nothing_and_going_on_where_it_broke(home, fake, tools, upstream):
    log = tools("uv", FAKE_UV)
    where = place("fake", home)
    where.cache.mkdir(parents=True)
    (where.cache / "torch").mkdir()
    with pytest.raises(BenchError, match="stopped at: bash -ec test -e allowed") as caught:
        run(home)
    assert "goes on from here" in caught.value.hint
    assert (where.checkout / "run.py").read_text() == "first", "the contract's commit, not the newest"
    with pytest.raises(MissingError, match="changed since"):
        require_state(contracts.find("fake"), home)
    (where.checkout / "allowed").write_text("")
    stamp = (where.env / "one").stat().st_mtime_ns
    with pytest.raises(MissingError, match=r"checkpoints/model.pth: the model") as caught:
        run(home)
    assert "Fill in the form." in caught.value.message and "research only" in caught.value.message
    assert (where.env / "one").stat().st_mtime_ns == stamp, "finished steps are not done again"
    assert (where.cache / "torch" / "prefetched").is_file()
    weight = where.checkout / "checkpoints" / "model.pth"
    weight.parent.mkdir()
    weight.write_bytes(b"weights")
    assert run(home)[-1] == "fake is ready"
    calls = log.read_text().splitlines()
    assert len(calls) == 2, "one environment, one installation"
    assert calls[0].startswith("venv --seed") and "--torch-backend=cu118 torch==9.9" in calls[1]
    state = require_state(contracts.find("fake"), home)
    assert state.commit == upstream[1] and list(state.weights) == ["checkpoints/model.pth"]


def test_users_own_checkout_and_interpreter_are_left_alone(home, fake, tools, tmp_path):
    own = tmp_path / "own"
    (own / "checkpoints").mkdir(parents=True)
    (own / "checkpoints" / "model.pth").write_bytes(b"weights")
    before = sorted(own.rglob("*"))
    assert run(home, checkout=own, python=PYTHON)[-1] == "fake is ready"
    assert sorted(own.rglob("*")) == before
    state = read_state(place("fake", home))
    assert (state.manager, state.prefix) == ("given", str(PYTHON.parent.parent)) and state.commit == ""
    assert run(home)[-1] == "fake is ready", "both are remembered"


def test_changed_files_in_a_checkout_are_part_of_the_identity(home, fake, upstream):
    folder, first = upstream
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "model.pth").write_bytes(b"weights")
    run(home, checkout=folder, python=PYTHON)
    newest = git(folder, "rev-parse", "HEAD")
    assert read_state(place("fake", home)).commit == newest != first
    (folder / "run.py").write_text("patched")
    run(home, checkout=folder, python=PYTHON)
    assert read_state(place("fake", home)).commit == newest + "+"
    from bench.systems.host import ExternalMethod

    assert ExternalMethod(contracts.find("fake"), home).spec.settings["commit"] == newest + "+"


def test_offline_downloads_nothing(home, fake, tools):
    log = tools("uv", FAKE_UV)
    tools("git")
    with pytest.raises(MissingError, match="not checked out"):
        run(home, offline=True)
    assert not log.exists()


def test_an_interpreter_that_is_not_there(home, fake, monkeypatch, tmp_path):
    without(monkeypatch, "uv")
    path = fake / contracts.FILE
    path.write_text(path.read_text().replace("[environment]", '[environment]\npython = "3.2"'))
    with pytest.raises(MissingError, match=r"needs Python 3\.2.*") as caught:
        run(home)
    assert "uv" in caught.value.hint and "--python" in caught.value.hint
    with pytest.raises(UsageError, match="is no program"):
        run(home, python=tmp_path / "nowhere")


def without(monkeypatch, *programs):
    """Hide programs that this machine may have."""
    import bench.systems.prepare as module

    real = module.find_program
    monkeypatch.setattr(module, "find_program", lambda *names: real(*(n for n in names if n not in programs)))
    return lambda: monkeypatch.setattr(module, "find_program", real)


def test_conda(home, fake, tools, monkeypatch):
    back = without(monkeypatch, "micromamba", "mamba", "conda")
    with pytest.raises(MissingError, match="none is on PATH"):
        run(home, manager="conda")
    back()
    log = tools("micromamba")
    with pytest.raises(BenchError):  # the fake makes no environment, so the next step fails
        run(home, manager="conda")
    assert log.read_text().startswith(f"create -y -p {place('fake', home).env} python=3.10 pip")


def test_docker(home, fake, tools, tmp_path, monkeypatch):
    back = without(monkeypatch, "docker")
    with pytest.raises(MissingError, match="needs docker"):
        run(home, manager="docker")
    back()
    log = tools("docker")
    with pytest.raises(MissingError, match="weights are missing"):
        run(home, manager="docker")
    assert "build --tag bench-fake:" in log.read_text()
    contract = contracts.find("fake")
    text = dockerfile(contract)
    assert text.startswith("FROM python:3.10\n") and "--torch-backend=cu118 torch==9.9" in text
    assert "RUN touch $VIRTUAL_ENV/one" in text
    state = read_state(place("fake", home))
    job = tmp_path / "job"
    started = launch(state, place("fake", home), ["python", "run.py"], job / "cwd", job, {"MARK": "x"}, [fake])
    words = list(started.argv)
    assert words[:3] == ["docker", "run", "--rm"] and words[-2:] == ["python", "run.py"]
    assert words[words.index("--network") + 1] == "none" and "MARK=x" in words
    assert f"{state.checkout}:{state.checkout}:ro" in words and f"{job}:{job}" in words
    assert started.stop == ("docker", "kill", words[words.index("--name") + 1])


def test_runs_see_nothing_of_the_users_python_and_no_network(home, fake, monkeypatch, tmp_path):
    run_with = {"PYTHONPATH": "/x", "PYTHONHOME": "/x", "VIRTUAL_ENV": "/x", "CONDA_PREFIX": "/x", "LC_ALL": "C"}
    for key, value in run_with.items():
        monkeypatch.setenv(key, value)
    own = tmp_path / "own"
    (own / "checkpoints").mkdir(parents=True)
    (own / "checkpoints" / "model.pth").write_bytes(b"w")
    run(home, checkout=own, python=PYTHON)
    env = run_env(read_state(place("fake", home)), place("fake", home), tmp_path / "job", {})
    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"} & set(env)
    assert env["LC_ALL"] == "C" and env["PATH"].startswith(str(PYTHON.parent))
    assert env["HF_HUB_OFFLINE"] == "1" and env["https_proxy"].endswith(":9")
    assert env["HF_HOME"].startswith(str(home.path)) and env["TMPDIR"].startswith(str(tmp_path / "job"))


def test_a_weight_with_another_content(home, fake, tmp_path):
    path = fake / contracts.FILE
    path.write_text(path.read_text().replace('licence = "research only"', f'sha256 = "{"0" * 64}"'))
    own = tmp_path / "own"
    (own / "checkpoints").mkdir(parents=True)
    (own / "checkpoints" / "model.pth").write_bytes(b"truncated")
    with pytest.raises(BenchError, match="is not the file the contract names"):
        run(home, checkout=own, python=PYTHON)


@pytest.fixture
def hub(monkeypatch):
    """A hub of repositories: file names by repository; `down` makes it unreachable, `broken` stops half-way."""
    import huggingface_hub

    class Hub(dict):
        down = broken = False

        def list_repo_files(self, repository):
            if self.down:
                raise OSError("Name or service not known\nmore")
            return self[repository]

        def download(self, repository, local_dir, allow_patterns):
            # As the real one: without network, whatever is there is returned as if it were all.
            for number, name in enumerate(() if self.down else self[repository]):
                if allow_patterns is None or name in allow_patterns:
                    if self.broken and number:
                        raise ConnectionError("reset by peer")
                    Path(local_dir, name).parent.mkdir(parents=True, exist_ok=True)
                    Path(local_dir, name).write_bytes(b"w")

    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.download)
    return made


def with_weights(fake, text):
    path = fake / contracts.FILE
    before, _, after = path.read_text().partition("[[weights]]")
    path.write_text(before + text + after[after.index("[gates.audio]") :])


def test_weights_are_fetched_from_the_hub(home, fake, tmp_path, hub):
    hub["somebody/model"] = ["one.bin", "two.bin"]
    with_weights(
        fake, '[[weights]]\nname="m"\npath="ckpt"\nsource="a hub"\nhub="somebody/model"\nlicence="research only"\n'
    )
    own = tmp_path / "own"
    own.mkdir()
    hub.down = True
    with pytest.raises(MissingError, match="hf download somebody/model --local-dir") as caught:
        run(home, checkout=own, python=PYTHON)
    assert "unfinished" not in caught.value.message and list(own.iterdir()) == []
    hub.down, hub.broken = False, True
    with pytest.raises(MissingError, match="Its download is unfinished"):
        run(home, checkout=own, python=PYTHON)
    assert (own / "ckpt" / "one.bin").is_file()
    hub.down = True
    with pytest.raises(MissingError, match="Its download is unfinished"):  # half of it does not count
        run(home)
    hub.down = hub.broken = False
    lines = run(home)
    assert "fetching somebody/model (research only)" in lines and lines[-1] == "fake is ready"
    assert sorted(p.name for p in own.rglob("*")) == ["ckpt", "one.bin", "two.bin"]


def test_folders_of_weights_may_lie_in_each_other(home, fake, tmp_path, hub):
    hub["a/outer"], hub["a/inner"] = ["outer.bin"], ["inner.bin"]
    hub["a/single"] = ["single.pt", "other.pt"]
    with_weights(
        fake,
        """
[[weights]]
name = "inner"
path = "ckpt/inner"
source = "a hub"
hub = "a/inner"

[[weights]]
name = "outer"
path = "ckpt"
source = "a hub"
hub = "a/outer"

[[weights]]
name = "one file of its repository"
path = "ckpt/single.pt"
source = "a hub"
hub = "a/single"
files = ["single.pt"]
""",
    )
    own = tmp_path / "own"
    own.mkdir()
    assert run(home, checkout=own, python=PYTHON)[-1] == "fake is ready"
    found = {p.relative_to(own).as_posix() for p in own.rglob("*") if p.is_file()}
    assert found == {"ckpt/inner/inner.bin", "ckpt/outer.bin", "ckpt/single.pt"}
    (own / "ckpt" / "outer.bin").unlink()
    with pytest.raises(MissingError, match=r"lacks weights: ckpt in"):
        require_state(contracts.find("fake"), home)


def test_what_will_be_done_is_said_before_anything_happens(home, fake, upstream, tools):
    log = tools("uv", FAKE_UV)
    lines = run(home, dry_run=True)
    text = "\n".join(lines)
    assert f"clone {upstream[0]} at {upstream[1]} (licence: MIT)" in text
    for step in ("make venv environment", "install torch==9.9", "touch $VIRTUAL_ENV/one", "echo model"):
        assert f"environment  {step}" in text
    assert "by hand from a form on a web page; size not stated by its authors; licence: research only" in text
    assert "Fill in the form." in text
    assert not place("fake", home).root.exists() and not log.exists()
    steps = prepare_method("fake", home)
    assert [next(steps) for _ in lines] == lines, "the same lines come first when it is done"
    assert not place("fake", home).root.exists()


def test_a_damaged_state_says_so(home, fake):
    state = place("fake", home).state
    state.parent.mkdir(parents=True)
    state.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        read_state(place("fake", home))
