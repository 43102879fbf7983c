"""What a worker finds on its machine: code of a method that was sent, clips that were changed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.keys import code_digest
from bench.core.spec import Cause
from bench.execute.worker import Worker
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.bucket import Bucket
from bench.store.home import Home
from bench.store.storage import Storage
from bench.store.travel import arrived_code, send_code

METHOD = """
from bench import MethodSpec, Video, read_image
import beside_it

class Mine:
    spec = MethodSpec("mine", "1", ("audio",), "classical")

    def generate(self, sample, gate, seed):
        return Video([read_image(sample.image) // beside_it.HALF] * sample.frames)
"""


def test_code_of_a_users_file_reaches_a_worker_that_has_no_such_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, split, mine = Home(tmp_path / "home").ready(), toys.make_split(tmp_path / "split", 1), tmp_path / "mine"
    mine.mkdir()
    (mine / "method.py").write_text(METHOD)
    (mine / "beside_it.py").write_text("HALF = 2\n")
    monkeypatch.syspath_prepend(str(mine))
    (job,) = plan_generation(split, [find_method(f"{mine}/method.py:Mine")]).jobs
    send_code(home.storage, job.target, job.method_code)  # type: ignore[union-attr]
    shutil.rmtree(mine)
    monkeypatch.undo()
    [record] = Worker(home.path).run(job).records.values()
    assert record["status"] == "ok"
    # What is sent is trusted as little as what lies here.
    sent = next((home.path / "inputs").rglob("beside_it.py"))
    sent.write_text("HALF = 3\n")
    code_digest.cache_clear()  # as in another process
    outcome = Worker(home.path).run(dataclasses.replace(job, key="ab" * 32))
    assert outcome.cause is Cause.ENVIRONMENT and "has digest" in outcome.detail


def test_sent_code_comes_out_of_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obstore = pytest.importorskip("obstore.store")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    storage: Storage = Bucket("s3://bucket/prefix", obstore.MemoryStore())
    file = tmp_path / "alone.py"
    file.write_text("class A: ...\n")
    send_code(storage, f"{file}:A+{{}}", "c0de")
    file.unlink()
    target = arrived_code(storage, f"{file}:A+{{}}", "c0de")
    assert target == f"{storage.root}/inputs/code/c0de/alone.py:A+{{}}"
    assert (storage.root / "inputs/code/c0de/alone.py").read_text() == "class A: ...\n"
    assert arrived_code(storage, f"{file}:A", "beef") == f"{file}:A", "nothing was sent under that digest"


def test_a_clip_that_was_changed_is_not_scored_and_is_made_again(tmp_path: Path) -> None:
    home, split = Home(tmp_path / "home"), toys.make_split(tmp_path / "split", 1)
    plan = plan_generation(split, [find_method(toys.target("Still"))], gates=["audio"])
    assert execute(plan, [], home, Execution("inline")).made == 1
    (clip,) = home.blobs.root.glob("??/*.mp4")
    good = clip.read_bytes()
    clip.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    metrics = choose_metrics("real", ["psnr"])
    first = execute(plan, metrics, home, Execution("inline"))
    assert first.failed == 1 and "was changed after it was stored" in first.failures[0]
    again = execute(plan, metrics, home, Execution("inline"))
    assert again.failed == 0 and again.made == 1 and clip.read_bytes() == good
