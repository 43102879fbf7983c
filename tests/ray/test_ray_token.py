"""A run's own Ray asks for a token, and a cluster that asks for one can be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.core.keys import package_digest
from bench.execute.ray_cluster import _RayWorker
from bench.execute.ray_session import connected
from bench.execute.tasks import Lane
from bench.store.home import Home

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


CLIENT = """import sys
from bench.core.errors import MissingError
from bench.execute.ray_session import connected
try:
    with connected(sys.argv[1]) as ray:
        count = len(ray.nodes())
    print(count)  # within, standard output is Ray's own messages and goes elsewhere
except MissingError as error:
    sys.exit(str(error))
"""


def client(address: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    environment = kept | {"HOME": str(home)} | variables
    command = [sys.executable, "-c", CLIENT, address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


SECOND_USER = """import json, os, sys
from pathlib import Path
import ray  # what it consists of may lie where the other user cannot read
import ray._raylet
from bench.core.errors import MissingError
from bench.execute import ray_token
address, token, session = sys.argv[1:]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
def accepted(given):
    os.environ.update(given)
    ray_token.user_token()
    try:
        ray_token.require_accepted(address)
    except MissingError:
        return False
    return True
def can(what):
    try:
        what()
        return True
    except OSError:
        return False
seen = []
for path in Path("/proc").glob("[0-9]*/environ"):
    own = int(path.parts[2]) == os.getpid()
    can(lambda: seen.append(path) if not own and token.encode() in path.read_bytes() else None)
print(json.dumps({
    "without": accepted({}), "environments": len(seen), "session": can(lambda: os.listdir(session)),
    "with": accepted({"RAY_AUTH_TOKEN": token}),
}))
"""


def second_user(address: str, token: str, session: str) -> str:
    """What another user of this machine finds out about a run's Ray, as JSON."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")} | {"HOME": "/nonexistent"}
    command = [sys.executable, "-c", SECOND_USER, address, token, session]
    done = subprocess.run(command, env=kept, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Spy(_RayWorker):
    """A worker that says what a method in it would see."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)


def test_only_who_has_the_runs_token_can_use_its_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with connected(None, workers=2) as ray, Home(tmp_path).ready().witness() as marker:
        address = ray.get_runtime_context().gcs_address
        token = ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
        worker = ray.remote(Spy).remote(str(tmp_path), None, marker, package_digest(), "auto", "", Lane("cpu"))
        assert token not in ray.get(worker.environment.remote()).values()
        assert token not in os.environ.values()
        commands = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
        assert "gcs_server" in commands
        assert token not in commands

        start = time.monotonic()
        stranger = client(address, tmp_path)
        guesser = client(address, tmp_path, RAY_AUTH_TOKEN="0" * 64)
        assert time.monotonic() - start < 40  # Ray itself would try 20 s each, after its start
        for refused, why in ((stranger, "asks for a token"), (guesser, "does not take this token")):
            assert refused.returncode == 1
            message = [line for line in refused.stderr.splitlines() if line.strip()]
            assert len(message) == 2, refused.stderr
            assert why in message[0]
            assert "RAY_AUTH_TOKEN" in message[1]

        friend = client(address, tmp_path, RAY_AUTH_TOKEN=token)  # the mode need not be set
        assert friend.stdout == "1\n", friend.stderr
        if os.getuid() == 0:
            said = json.loads(second_user(address, token, ray._private.worker._global_node.get_session_dir_path()))
            assert said == {"without": False, "with": True, "environments": 0, "session": False}
    assert not list(Path("/tmp").glob(f"bench-ray-{os.getpid()}-*"))
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
