"""A home in an object store, with the store in memory."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method
from bench.core.errors import ExitCode, MissingError, UsageError
from bench.run.drive import Execution, RunResult, execute
from bench.run.plan import plan_generation
from bench.store import bucket as buckets
from bench.store.blobs import Blob
from bench.store.bucket import Bucket, address_of, cache_folder
from bench.store.files import StoreUnreachable
from bench.store.home import Home
from bench.store.travel import Luggage, unpacked

obstore = pytest.importorskip("obstore")
ADDRESS = "s3://bucket/prefix"


class Machines:
    """Machines with a cache folder each that see one bucket."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.store = obstore.store.MemoryStore()
        self._patch, self._folder = patch, folder

    def on(self, name: str) -> Home:
        """Return the home as one of them sees it."""
        self._patch.setenv("BENCH_CACHE", str(self._folder / name))
        one = Bucket(ADDRESS, self.store)
        self._patch.setattr("bench.store.home.bucket", lambda address: one)
        return Home(ADDRESS)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machines:
    return Machines(monkeypatch, tmp_path / "caches")


def run(home: Home, split: Path) -> RunResult:
    methods = [find_method(toys.target(name)) for name in ("Still", "Picky")]
    plan = plan_generation(toys.make_split(split, 2), methods)
    return execute(plan, choose_metrics("real", ["psnr", "flicker/mae"]), home, Execution("inline"), name="run")


def numbers(result: RunResult) -> pd.DataFrame:
    rows = pd.read_parquet(result.folder / "rows.parquet")
    return rows[["method", "gate", "sample", "protocol", "column", "value", "status", "reason", "clip_sha256"]]


def test_a_run_in_a_bucket_gives_the_rows_of_a_folder_and_resumes_elsewhere_without_listing(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = numbers(run(Home(tmp_path / "local"), tmp_path / "split"))
    listed: list[str] = []
    monkeypatch.setattr(obstore, "list", lambda store, prefix: listed.append(prefix) or iter(()))
    pd.testing.assert_frame_equal(numbers(run(machines.on("a"), tmp_path / "split")), expected)
    assert {prefix.partition("/")[0] for prefix in listed} == {"runs", "sensitivity"}, "at its start and end"
    monkeypatch.setattr("bench.jobs.generate.generate", None)  # whoever makes or scores anything again fails
    monkeypatch.setattr("bench.jobs.score.score", None)
    pd.testing.assert_frame_equal(numbers(run(machines.on("b"), tmp_path / "split")), expected)


def test_another_machine_reads_run_and_clips(machines: Machines, tmp_path: Path) -> None:
    from bench.results.runs import load, run_names
    from bench.store.blobs import Blob

    result = run(machines.on("a"), tmp_path / "split")
    home = machines.on("b")
    assert run_names(ADDRESS) == ["run"]
    rows = load("latest", ADDRESS).rows
    assert len(rows) == len(numbers(result)) and home.runs != result.folder.parent
    clip = next(r["clip"] for k in home.records.keys("gen") if (r := home.records.get("gen", k)) and "clip" in r)
    path = home.blobs.local(Blob(**clip))
    assert path is not None and path.is_relative_to(home.path) and home.blobs.verify(Blob(**clip))


def test_a_page_can_be_written_where_no_clip_was_made(machines: Machines, tmp_path: Path) -> None:
    from bench.run.session import reporter

    run(machines.on("a"), tmp_path / "split")
    home = machines.on("b")
    again = run(home, tmp_path / "split")  # nothing is left to do
    assert not list(home.blobs.root.rglob("*.mp4"))
    written = reporter("full", ("html",), home)(again.folder)
    assert written["html"].is_file() and list(home.blobs.root.rglob("*.mp4"))


def test_files_of_a_task_arrive_on_a_machine_that_has_none(machines: Machines, tmp_path: Path) -> None:
    sender = machines.on("a").ready()
    split = toys.make_split(tmp_path / "split", 1)  # outside of the home
    inside = sender.data / "x.wav"
    inside.write_bytes(b"sound")
    job = plan_generation(split, [find_method(toys.target("Still"))], gates=["audio"]).jobs[0]
    task = dataclasses.replace(job, sample=dataclasses.replace(job.sample, audio=inside))
    luggage = Luggage(sender.storage)
    luggage.pack([task])
    sent = luggage.away(task)
    receiver = machines.on("b").ready()
    arrived = unpacked(sent, receiver.storage)
    assert arrived.sample.audio is not None and arrived.sample.audio.read_bytes() == b"sound"
    assert arrived.sample.image.read_bytes() == job.sample.image.read_bytes()
    assert all(p.is_relative_to(receiver.path) for p in (arrived.sample.audio, arrived.sample.image))
    assert arrived.sample.image.name == job.sample.image.name and arrived.key == job.key


def test_of_two_records_at_the_same_time_the_first_counts(machines: Machines) -> None:
    home = machines.on("a")
    first, second = {"status": "ok", "n": 1}, {"status": "ok", "n": 2}
    assert home.records.add("set", "ab", first, lambda r: True) == first
    assert home.records.add("set", "ab", second, lambda r: True) == first
    assert home.records.add("set", "ab", second, lambda r: False) == second, "its file is gone"
    assert home.records.get("set", "ab") == second


def test_an_error_is_replaced(machines: Machines) -> None:
    home, done = machines.on("a"), {"status": "ok"}
    home.records.put("set", "ab", {"status": "error"})
    assert home.records.add("set", "ab", done, lambda r: True) == done == home.records.get("set", "ab")


def test_cleaning_a_bucket_keeps_what_records_name(machines: Machines, tmp_path: Path) -> None:
    home = machines.on("a").ready()
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    kept, lost = (home.blobs.copy_in(tmp_path / "clip.mp4", suffix) for suffix in (".mp4", ".avi"))
    assert home.blobs.present([kept, lost]) == {kept, lost}
    home.storage.drop(lost.name)
    assert home.blobs.present([kept, lost]) == {kept} and home.blobs.local(lost) is None


def test_addresses_and_their_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert address_of("s3:/b/x/") == address_of("s3a://b/x") == "s3://b/x"
    assert address_of("abfss://a/c") == "az://a/c" and address_of("gs://b") == "gs://b"
    assert address_of(str(tmp_path)) == address_of("file:///x") == address_of(".bench") == ""
    assert cache_folder("s3://b/x").parent == tmp_path
    assert cache_folder("s3://b/x-y") != cache_folder("s3://b/x/y")
    assert Home(f"file://{tmp_path}").path == tmp_path.resolve()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    buckets.bucket.cache_clear()
    with pytest.raises(MissingError, match="obstore") as error:
        Home("s3://nowhere/x")
    assert "actalker-bench[cloud]" in error.value.hint


def test_a_bucket_that_never_answered_is_a_wrong_address_and_a_lost_one_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Server(BaseHTTPRequestHandler):
        status = 403

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.status)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "BENCH_CACHE": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket(ADDRESS)
        with pytest.raises(StoreUnreachable, match="refuses us") as never:
            bucket.write("a", b"1")
        Server.status = 200
        bucket.write("a", b"1")
        Server.status = 403
        with pytest.raises(StoreUnreachable, match="refuses us") as lost:
            bucket.write("a", b"1")
        server.shutdown()
    assert (never.value.exit_code, lost.value.exit_code) == (ExitCode.USAGE, ExitCode.FAILURES)


def aged(home: Home, *names: str, hours: float) -> None:
    """Say that copies were last used some hours ago."""
    for name in names:
        path = home.path / name
        os.utime(path, (time.time() - 3600 * hours, path.stat().st_mtime))


def kept(home: Home) -> int:
    """Return the bytes of copies of a machine."""
    folders = (home.path / name for name in ("blobs", "inputs", "data"))
    return sum(p.stat().st_size for folder in folders for p in folder.rglob("*") if p.is_file())


def blob_of(home: Home, letter: str) -> Blob:
    with home.blobs.scratch(".bin") as path:
        path.write_bytes(letter.encode() * 100_000)
        return home.blobs.adopt(path, ".bin")


def test_copies_of_a_buckets_files_stay_within_their_limit(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those used longest ago go, and come again when they are asked for; what only this machine has stays."""
    monkeypatch.setenv("BENCH_CACHE_GB", "0.0005")
    home = machines.on("a").ready()
    own = home.data / "own" / "clip.bin"
    own.parent.mkdir()
    own.write_bytes(b"x" * 100_000)
    aged(home, own.relative_to(home.path).as_posix(), hours=9)
    made = [blob_of(home, letter) for letter in "abcd"]
    aged(home, *(blob.name for blob in made), hours=2)
    with home.storage.in_use():  # a job that runs for long: what it used stays
        used = home.blobs.local(made[0])
        aged(home, *(blob.name for blob in made[1:]), hours=1)
        (mark,) = (home.path / "in-use").glob("[!.]*")
        os.utime(mark, (time.time() - 3 * 3600,) * 2)
        aged(home, made[0].name, hours=2.5)
        aged(home, made[1].name, made[2].name, hours=4)
        new = blob_of(home, "e")
        assert [home.blobs.path(b).exists() for b in (*made, new)] == [True, False, True, True, True]
        assert used is not None and used.exists() and own.exists()
    assert kept(home) <= 500_000
    assert home.blobs.local(made[1]) is not None, "the bucket has it"
    assert home.blobs.path(made[1]).read_bytes() == b"b" * 100_000


def test_copies_in_use_stay_however_many_they_are(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE_GB", "0.0001")
    home = machines.on("a").ready()
    made = [blob_of(home, letter) for letter in "abc"]
    assert all(home.blobs.path(blob).exists() for blob in made), "used a moment ago"
    left = home.path / "in-use" / ("0" * 32)  # of a process that was killed
    left.touch()
    os.utime(left, (0, 0))
    aged(home, *(blob.name for blob in made), hours=1)
    blob_of(home, "d")
    assert not any(home.blobs.path(blob).exists() for blob in made)


@pytest.mark.parametrize("said", ["much", "0", "-1", "nan"])
def test_a_limit_that_is_no_size_is_refused(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("BENCH_CACHE_GB", said)
    with pytest.raises(UsageError, match="BENCH_CACHE_GB"):
        machines.on("a")
