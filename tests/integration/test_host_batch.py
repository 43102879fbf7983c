"""Many samples per start of a system: what is kept, what is made again alone, and what the records say."""

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.catalogue import find_method
from bench.core.spec import Sample, Split
from bench.execute.inline import run_inline
from bench.execute.interrupt import Interrupt
from bench.execute.scheduler import Scheduler
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_image, write_wav
from bench.run.flow import Flow
from bench.run.plan import plan_generation
from bench.store.blobs import Blob
from bench.store.home import Home
from bench.systems import contract as contracts
from bench.systems.environment import State, place, setup_digest
from bench.systems.host import ExternalMethod

SYSTEM = Path(__file__).with_name("batch_system.py")
PREFIX = Path(sys.executable).absolute().parent.parent
CONTRACT = """
name = "lists"
title = "Takes lists"
status = "runnable"

[gates.audio]
command = "python batch_system.py {{config}} {{output_dir}}"

[gates.audio.config]
format = "json"
set = {{ mode = "{mode}" }}

[gates.audio.config.each]
"task_{{index}}" = {{ image = "{{reference_image}}", audio = "{{driving_audio}}" }}

[output]
glob = ["{{output_dir}}/*.mp4"]

[batch]
size = 3
glob = ["{{output_dir}}/*{{sample_id}}*.mp4"]

[seed]
kind = "deterministic"

[run]
timeout = {timeout}
seconds_per_frame = 0.0
gpus = 0.0
env = {{ STARTS = "{starts}", BAD = "{bad}" }}
"""


@pytest.fixture
def samples(tmp_path):
    """Five samples that differ; the second one is the one systems stumble over."""
    made = []
    rng = np.random.default_rng(1)
    for number in range(5):
        folder = tmp_path / "media" / str(number)
        folder.mkdir(parents=True)
        image, audio = folder / "a.png", folder / "a.wav"
        write_image(image, rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        write_wav(audio, rng.integers(-9999, 9999, 10 * 640).astype(np.int16))
        digests = {"image": f"i{number}", "audio": f"a{number}"}
        made.append(Sample("fake", "test", f"s.{number}", "x", image, audio, None, None, 10, digests=digests))
    return made


@pytest.fixture
def run(tmp_path, samples, monkeypatch):
    home = Home(tmp_path / "home").ready()
    monkeypatch.setenv("BENCH_HOME", str(home.path))
    starts = tmp_path / "starts"

    def go(mode, timeout=60.0):
        folder = tmp_path / "contracts" / "lists"
        folder.mkdir(parents=True, exist_ok=True)
        words = {"mode": mode, "timeout": timeout, "starts": starts, "bad": tmp_path / "bad.wav"}
        (folder / contracts.FILE).write_text(CONTRACT.format(**words))
        # The private copy of the second sample's sound, as the system will see it.
        write_wav(tmp_path / "bad.wav", read_audio(samples[1].audio))
        checkout = tmp_path / "checkout"
        checkout.mkdir(exist_ok=True)
        shutil.copy(SYSTEM, checkout)
        contract = contracts.load(folder)
        place("lists", home).root.mkdir(parents=True, exist_ok=True)
        State(setup_digest(contract), str(checkout), "", "given", str(PREFIX)).write(place("lists", home))
        entry = find_method(str(folder))
        plan = plan_generation(Split("fake", "real", tuple(samples)), [entry])
        flow = Flow(plan, [], home)
        scheduler = Scheduler(flow.initial, flow.follow)
        with Interrupt() as interrupt:
            run_inline(scheduler, home.path, None, lambda *_: None, interrupt)
        records = {job.sample.id: flow.generated.get(job.key) for job in plan.jobs}
        return records, scheduler.failures, starts.read_text().split()

    go.home = home
    return go


def whose(run, record):
    path = run.home.blobs.path(Blob(**record["clip"]))
    return round(float(next(iter(chunks(path, 25.0))).mean()))


def test_a_batch_makes_the_same_clips_with_fewer_starts(run, samples, tmp_path, monkeypatch):
    spent = []
    plain = ExternalMethod.make_together

    def timed(self, jobs):
        began = time.perf_counter()
        good = plain(self, jobs)
        spent.extend([(time.perf_counter() - began) / len(jobs)] * len(jobs))
        return good

    monkeypatch.setattr(ExternalMethod, "make_together", timed)
    began = time.perf_counter()
    records, failures, starts = run("fine")
    whole = time.perf_counter() - began
    assert not failures and starts == ["3", "2"]
    assert all(record["status"] == "ok" for record in records.values())
    for sample in samples:
        write_wav(tmp_path / "own.wav", read_audio(sample.audio))
        level = 60 + sum((tmp_path / "own.wav").read_bytes()) % 150
        assert abs(whose(run, records[sample.id]) - level) <= 4, "every sample has its own clip"
    seconds = [record["seconds"] for record in records.values()]
    # True of any machine, however busy: each has its share of the start, and none is charged what others took.
    assert len(seconds) == len(spent) and sum(seconds) <= whole, "the time is shared out"
    assert all(charged >= share for charged, share in zip(seconds, spent, strict=True))
    records, _, starts = run("fine")
    assert starts == ["3", "2"], "the same again does nothing"


def test_one_bad_sample_fails_alone_and_the_others_are_kept(run):
    records, failures, starts = run("skips")
    assert starts == ["3", "2", "1"] and not failures
    assert {name for name, record in records.items() if record["status"] != "ok"} == {"s.1"}
    assert records["s.1"]["cause"] == "method" and "cannot use" in records["s.1"]["detail"]
    assert "s.1-audio-0.log" in records["s.1"]["detail"], "with a log of its own"


def test_after_a_crash_what_is_missing_is_made_one_by_one(run):
    records, failures, starts = run("crashes")
    assert sorted(starts) == ["1", "1", "2", "3"] and not failures
    assert [record["status"] for record in records.values()] == ["ok", "error", "ok", "ok", "ok"]
    assert "Segmentation fault" in records["s.1"]["detail"]


def test_a_hang_costs_only_the_sample_that_hangs(run):
    records, failures, starts = run("hangs", timeout=3.0)
    assert [r["status"] if r else None for r in records.values()] == ["ok", None, "ok", "ok", "ok"]
    assert [f.cause for f in failures] == ["timeout"]
    assert starts.count("1") == 3, "the bad one twice, the one after it once"


def test_files_that_cannot_be_told_apart_are_not_guessed(run):
    records, failures, starts = run("renames")
    assert sorted(starts) == ["1", "1", "1", "1", "1", "2", "3"] and not failures
    assert all(record["status"] == "ok" for record in records.values())


def test_a_sample_that_cannot_be_handed_out_leaves_the_batch(run, samples):
    samples[2].audio.write_bytes(b"no sound")
    records, _, starts = run("fine")
    assert sorted(starts) == ["2", "2"]
    assert {name for name, record in records.items() if record["status"] != "ok"} == {"s.2"}
