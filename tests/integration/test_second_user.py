"""Another user of the same machine, a real one: reads nothing of ours, plants nothing, and is not believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.core.download import Source, download
from bench.core.errors import UsageError
from bench.store.files import append_to, write_bytes
from bench.store.home import Home
from bench.systems import host
from bench.weights import digests

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

BECOME = f"""import json, os, sys
from pathlib import Path
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
os.chdir("/")
os.umask(0)
place = Path(sys.argv[1])
def can(what):
    try:
        what()
        return True
    except OSError:
        return False
"""

Stranger = Callable[[str], object]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody can enter and write to, as /tmp is; pytest's own are closed already."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o1777)
    monkeypatch.setenv("BENCH_HOME", str(made / "home"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def stranger(place: Path) -> Stranger:
    """Runs a script as the other user and returns what it put into `said`."""

    def run(script: str) -> object:
        whole = f"{BECOME}{script}\nprint(json.dumps(said))"
        done = subprocess.run(
            [sys.executable, "-c", whole, str(place)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


EXPLORE = """
said = []
for folder in map(Path, json.loads(os.environ["OURS"])):
    for name, what in (
        ("lists", lambda: os.listdir(folder)), ("reads", lambda: folder.read_bytes()),
        ("plants", lambda: (folder / "planted").write_text("x")), ("appends", lambda: folder.open("a").close()),
        ("links", lambda: (folder / "link").symlink_to("/etc")), ("removes", folder.unlink),
        ("renames", lambda: folder.rename(place / "taken")), ("opens", lambda: folder.chmod(0o777)),
    ):
        if can(what):
            said.append(f"{name} {folder}")
"""


def test_a_second_user_reads_and_plants_nothing_in_a_home(
    place: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(place / "home").ready()
    home.records.put("score", "ab", {"status": "ok"})
    with home.blobs.scratch(".npz") as scratch:
        scratch.write_bytes(b"vector")
        home.blobs.adopt(scratch, ".npz")
    write_bytes(home.data / "set" / "identity", b"vector")
    append_to(home.logs / "system" / "one.log", fresh=True).close()
    append_to(home.data / "set" / "prepare.lock").close()
    (home.runs / "run").mkdir()
    monkeypatch.setenv("OURS", json.dumps([str(path) for path in (home.path, *home.path.rglob("*"))]))
    assert stranger(EXPLORE) == []
    # The script can see what is open to it.
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    monkeypatch.setenv("OURS", json.dumps([str(place / "open")]))
    assert [line.split()[0] for line in stranger(EXPLORE)] == ["lists", "plants", "links"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "trap", ["root.mkdir(0o777)", "(place / 'theirs').mkdir(0o777); root.symlink_to(place / 'theirs')"]
)
def test_a_job_folder_that_a_second_user_made_first_is_not_used(
    place: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(host.tempfile, "tempdir", str(place))
    root = place / f"bench-{os.getuid()}"
    stranger(f"root = place / {root.name!r}\n{trap}\nsaid = 1")
    job = host.new_job_folder("x")
    (job / "input.png").write_bytes(b"x")
    assert not job.resolve().is_relative_to(root.resolve())
    assert job.parent.stat().st_uid == job.stat().st_uid == os.getuid()
    monkeypatch.setenv("OURS", json.dumps([str(job.parent), str(job), str(job / "input.png")]))
    assert stranger(EXPLORE) == []


def test_a_part_that_a_second_user_made_is_not_taken(place: Path, stranger: Stranger) -> None:
    """Who made a file can write to it for ever, also when it was verified since."""
    stranger("(place / 'net.bin.part').write_bytes(b'half'); said = 1")
    with pytest.raises(UsageError, match=r"net\.bin\.part (was made by somebody else|cannot be written)"):
        download(Source(("https://example.org/net.bin",), 8), place / "net.bin", place)
    assert not (place / "net.bin").exists()


def test_a_lock_or_log_that_a_second_user_linked_is_not_followed(place: Path, stranger: Stranger) -> None:
    (place / "precious").write_text("precious")
    stranger("for n in ('prepare.lock', 'one.log'): (place / n).symlink_to(place / 'precious')\nsaid = 1")
    with pytest.raises(UsageError, match="is a link"):
        append_to(place / "prepare.lock")
    append_to(place / "one.log", fresh=True).close()
    assert (place / "precious").read_text() == "precious"
    assert not (place / "one.log").is_symlink()


def test_digests_that_a_second_user_remembers_are_not_believed(place: Path, stranger: Stranger) -> None:
    weights = place / "home" / "weights"
    weights.mkdir(parents=True)
    for folder in (place / "home", weights):
        folder.chmod(0o777)
    file = place / "net.bin"
    file.write_bytes(b"abc")
    true = digests.content(file)
    memory = weights / ".digests.json"
    lie = memory.read_text().replace(true, "0" * 64)
    memory.unlink()
    stranger(f"(place / 'home/weights/.digests.json').write_text({lie!r}); said = 1")
    digests._digests.clear()
    assert digests.content(file) == true
