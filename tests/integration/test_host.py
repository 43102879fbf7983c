"""The host against a system that misbehaves in every way known: each case diagnosed, nothing survives."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from bench.core.spec import AUDIO, Cause, Sample
from bench.media.encode import write_image, write_wav
from bench.methods.base import GenerationFailed
from bench.store.home import Home
from bench.systems import contract as contracts
from bench.systems.environment import State, place, setup_digest
from bench.systems.host import ExternalMethod, job_root, new_job_folder

FAKE = Path(__file__).with_name("fake_system.py")
PREFIX = Path(sys.executable).absolute().parent.parent

CONTRACT = """
name = "fake"
title = "A fake"
status = "runnable"

[gates.audio]
command = "python fake_system.py {mode} --image {{reference_image}} --audio {{driving_audio}} {out}"

[output]
glob = ["{{output_path}}"]
{output}

[run]
timeout = {timeout}
seconds_per_frame = 0.0
gpus = 0.0
empty_folders = ["temp"]
env = {{ MARK = "{mark}" }}
"""


@pytest.fixture
def sample(tmp_path):
    folder = tmp_path / "in put's"
    folder.mkdir()
    write_image(folder / "a.b.png", np.full((64, 64, 3), 99, np.uint8))
    write_wav(folder / "a.wav", np.zeros(6400, np.int16))
    return Sample("fake", "test", "a.b", "x", folder / "a.b.png", folder / "a.wav", None, None, 10)


@pytest.fixture
def mark():
    """A word in the command line of every process a test starts; none may be left."""
    word = f"mark-{uuid.uuid4().hex}"
    yield word
    assert survivors(word) == []


def marked(mark):
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in text and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def survivors(mark, seconds=5.0):
    end = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture
def system(tmp_path, mark):
    built = []

    def make(mode, timeout=60.0, output="", extra=""):
        folder = tmp_path / "contracts" / "fake"
        folder.mkdir(parents=True)
        words = {"mode": f"--mode {mode}", "out": "--out {output_path}"}
        text = CONTRACT.format(**words, timeout=timeout, output=output, mark=mark) + extra
        (folder / contracts.FILE).write_text(text)
        checkout = tmp_path / "checkout"
        checkout.mkdir()
        (checkout / FAKE.name).write_text(FAKE.read_text())
        contract = contracts.load(folder)
        home = Home(tmp_path / "home")
        place("fake", home).root.mkdir(parents=True)
        State(setup_digest(contract), str(checkout), "", "given", str(PREFIX)).write(place("fake", home))
        method = ExternalMethod(contract, home)
        built.append(method)
        return method

    yield make
    for method in built:
        method.close()
    root = job_root()
    left = [p for p in (root.iterdir() if root.is_dir() else ()) if f"-{os.getpid()}-" in p.name]
    assert left == [], "private folders were left behind"


def failure(method, sample):
    with pytest.raises(GenerationFailed) as caught:
        method.generate(sample, AUDIO, 1)
    return caught.value


@pytest.mark.parametrize("mode", ["fine", "junk", "flood", "forks", "lies", "writes-beside"])
def test_a_good_video_counts_whatever_else_happens(mode, system, sample):
    method = system(mode)
    video = method.generate(sample, AUDIO, 1)
    frames = list(video.frames)
    assert len(frames) == 10 and frames[0].shape == (64, 64, 3)
    log = method.home.logs / "fake" / "a.b-audio-1.log"
    assert log.stat().st_size < 5 * 2**20
    if mode == "flood":
        assert "left out" in log.read_text() and log.read_text().endswith("the last words\n")
    assert not list(sample.image.parent.glob("*.pkl"))
    assert not (Path(method.place.root).parent.parent.parent / "checkout" / "temp").exists()


@pytest.mark.parametrize(
    ("mode", "cause", "message"),
    [
        ("empty", Cause.METHOD, r"no file matches \{output_path\} \(exit status 0\)(.|\n)*coeffs of the input"),
        ("asks", Cause.METHOD, r"no file matches(.|\n)*EOFError"),
        ("wrong-name", Cause.METHOD, r"no file matches.*other videos there: final.mp4"),
        ("truncated", Cause.METHOD, r"result.mp4 does not decode"),
        ("text", Cause.METHOD, r"result.mp4 does not decode"),
        ("short", Cause.METHOD, r"lasts 0.16 s where 0.40 s were asked for: truncated"),
        ("oom", Cause.OOM, r"exit status 1(.|\n)*CUDA out of memory"),
        ("killed", Cause.OOM, r"exit status -9"),
        ("imports", Cause.ENVIRONMENT, r"No module named 'a_module_that_is_not_there'"),
        ("network", Cause.ENVIRONMENT, r"Connection refused"),
    ],
)
def test_failures_are_told_apart(mode, cause, message, system, sample):
    error = failure(system(mode), sample)
    assert error.cause is cause, str(error)
    assert re.search(message, str(error)), str(error)
    assert ".log" in error.hint


@pytest.mark.parametrize("mode", ["hang", "stubborn"])
def test_hanging_systems_are_stopped_with_everything_they_started(mode, system, sample):
    start = time.monotonic()
    error = failure(system(mode, timeout=1.5), sample)
    assert error.cause is Cause.TIMEOUT and "stopped after" in error.message
    assert time.monotonic() - start < 15


def test_a_complete_video_counts_even_if_the_program_never_ends(system, sample):
    assert len(list(system("hangs-after", timeout=2.0).generate(sample, AUDIO, 1).frames)) == 10


def test_panels_are_cropped(system, sample):
    frames = list(
        system("two-panels", output="panel = { columns = 2, index = 0 }").generate(sample, AUDIO, 1).frames
    )
    assert frames[0].shape == (64, 64, 3) and min(f.min() for f in frames) > 40


def test_an_undeclared_size_is_refused(system, sample):
    error = failure(system("fine", output="crop = [0, 0, 32, 32]\nframe_size = [128, 64]"), sample)
    assert "measures 64x64, and the crop belongs to 128x64" in error.message


def test_24_fps_becomes_25_by_timestamps(system, sample):
    frames = list(system("24fps").generate(sample, AUDIO, 1).frames)
    assert len(frames) == 10
    levels = [int(f.mean().round()) for f in frames]
    shown = [round(k / 25 * 24) for k in range(10)]
    assert np.abs(np.array(levels) - (60 + 4 * np.array(shown))).max() <= 5


def test_a_program_that_is_not_there(system, sample, tmp_path):
    method = system("fine")
    state = method.place.state
    state.write_text(state.read_text().replace(str(PREFIX), str(tmp_path / "nowhere")))
    contract = contracts.load(Path(method.contract.folder))
    object.__setattr__(contract.gates["audio"], "command", "not-a-program {output_path}")
    method.contract = contract
    error = failure(method, sample)
    assert error.cause is Cause.ENVIRONMENT and "No such file" in error.message


def test_nothing_survives_the_death_of_the_host(system, sample, mark, tmp_path):
    # The host is killed as a Ray worker or a laptop's lid would: no chance to clean up.
    system("stubborn", timeout=300.0)
    code = """
import sys
from pathlib import Path
from bench.systems import contract
from bench.systems import host
from bench.core.spec import AUDIO, Sample
from bench.store.home import Home
image, audio = Path(sys.argv[1]), Path(sys.argv[2])
sample = Sample("fake", "test", "a", "x", image, audio, None, None, 10)
folder, home = Path(sys.argv[3]) / "contracts" / "fake", Home(Path(sys.argv[3]) / "home")
method = host.ExternalMethod(contract.load(folder), home)
method.generate(sample, AUDIO, 1)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    hosts = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        arguments = [sys.executable, "-c", code, str(sample.image), str(sample.audio), str(tmp_path)]
        child = subprocess.Popen(arguments, env=env)
        hosts.append(child.pid)
        end = time.monotonic() + 30
        log = tmp_path / "home" / "logs" / "fake" / "a-audio-1.log"
        while time.monotonic() < end and not (log.is_file() and "never stop" in log.read_text()):
            time.sleep(0.05)
        assert len(marked(mark)) >= 2, "the system and its grandchild should be running"
        child.send_signal(number)
        child.wait(10)
        assert survivors(mark) == []
        log.unlink()
    # What the dead host left is swept when the next one starts.
    shutil.rmtree(new_job_folder("fake"))
    assert [p for pid in hosts for p in job_root().glob(f"fake-{pid}-*")] == []


RUNNER = """
import json, os, sys
sys.path.insert(0, os.getcwd())
import fake_system
print("loading ...", flush=True)
count = 0
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    count += 1
    print("sample", count, "of this process", os.getpid(), flush=True)
    os.chdir(job["cwd"])
    sys.argv = ["fake_system.py", *job["argv"]]
    try:
        fake_system.main()
        answer = {"id": job["id"], "ok": True}
    except BaseException as error:
        answer = {"id": job["id"], "ok": False, "error": repr(error)}
    print(json.dumps(answer), flush=True)
"""


def with_runner(method, text):
    Path(method.contract.folder, "runner.py").write_text(text)
    object.__setattr__(method.contract.run, "runner", "runner.py")
    method._use_runner = True
    return method


def test_a_runner_serves_many_samples_with_one_process(system, sample):
    method = with_runner(system("fine"), RUNNER)
    logs = []
    for seed in (1, 2, 3):
        assert len(list(method.generate(sample, AUDIO, seed).frames)) == 10
        logs.append((method.home.logs / "fake" / f"a.b-audio-{seed}.log").read_text())
    assert [f"sample {n} of this process" in log for n, log in enumerate(logs, 1)] == [True] * 3
    assert len({log.split("process")[1].split()[0] for log in logs}) == 1


def test_a_runner_that_cannot_start_is_replaced_by_plain_runs(system, sample):
    method = with_runner(system("fine"), "raise SystemExit('this API is another one')")
    assert len(list(method.generate(sample, AUDIO, 1).frames)) == 10
    assert "this API is another one" in (method.home.logs / "fake" / "a.b-audio-1.log").read_text()


@pytest.mark.parametrize(("mode", "cause"), [("hang", Cause.TIMEOUT), ("killed", Cause.OOM), ("oom", Cause.OOM)])
def test_a_runner_that_fails_is_ended_and_started_again(mode, cause, system, sample):
    method = with_runner(system(mode, timeout=3.0), RUNNER)
    for _ in range(2):
        assert failure(method, sample).cause is cause


def test_an_interruption_while_waiting_leaves_nothing(system, sample):
    class Rang(Exception):
        pass

    def ring(*_):
        raise Rang

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(Rang):
            system("stubborn", timeout=300.0).generate(sample, AUDIO, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_dropping_a_method_ends_its_runner(system, sample, mark):
    import gc

    method = with_runner(system("fine"), RUNNER)
    list(method.generate(sample, AUDIO, 1).frames)
    assert marked(mark)
    copy = ExternalMethod(method.contract, method.home)
    copy._use_runner = True
    list(copy.generate(sample, AUDIO, 2).frames)
    both = len(marked(mark))
    del copy
    gc.collect()
    assert len(marked(mark)) < both


def test_serial_systems_take_turns(system, sample):
    import fcntl

    method = system("fine", extra="serial = true\n")
    with (method.place.root / "turn.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            time.sleep(1.0)
            os._exit(0)  # the child's copy of the lock goes with it, ours below
    list(method.generate(sample, AUDIO, 1).frames)
    os.waitpid(pid, 0)
    assert time.monotonic() - start >= 0.9
