"""One test, or more, for every trap that outside systems set: what goes wrong without being noticed.

Where a trap needs a process that misbehaves, its test is in `tests/integration/test_host.py`; the tests here say
which.
"""

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from bench.core.resources import data_folder
from bench.core.spec import GATES, Cause, Sample
from bench.media.encode import write_clip
from bench.methods.base import GenerationFailed
from bench.systems import contract as contracts
from bench.systems import host
from bench.systems.environment import read_state
from bench.systems.inputs import Inputs, driving_frames
from bench.systems.process import Ended

ALL = {name: contracts.load(path) for name, path in contracts.contract_paths((data_folder("baselines"),)).items()}
CASES = [(name, gate) for name, contract in ALL.items() for gate in contract.gates]


# 1. The released ACTalker: insists on the closed signal, glues the driver to the result, loses the video.


@pytest.mark.parametrize(
    ("gate", "flag", "dummy"), [("audio", "--video", "portrait.png"), ("visual", "--audio", "silence.wav")]
)
def test_actalker_gets_a_dummy_for_the_closed_signal(gate, flag, dummy, play):
    _, _, stub = play("actalker-release", gate)
    call = stub.calls[-1]
    assert call[call.index(flag) + 1].endswith(f"/in/{dummy}")
    assert not {"--exp_name", "--overlap", "--frames_per_batch"} & set(call), "flags that only its README knows"


def test_actalker_exits_well_without_a_video(method, sample, monkeypatch):
    # Its muxer deletes the silent file although ffmpeg failed. See also mode "empty" in test_host.py.
    built, stub = method("actalker-release", "audio")
    monkeypatch.setattr(stub, "_write", lambda target: None)
    with pytest.raises(GenerationFailed, match=r"no file matches .*_audio\.mp4 \(exit status 0\)"):
        built.generate(dataclasses.replace(sample, video=None), GATES["audio"], 1)


# 2. What is written is not the video to score.


@pytest.mark.parametrize(
    ("name", "gate", "by_product"),
    [
        ("liveportrait", "visual", "{stem}_concat.mp4"),
        ("follow-your-emoji", "visual", "clip_all.mp4"),
        ("joyvasa", "audio", "{stem}_temp.mp4"),
        ("musetalk", "audio", "temp_{stem}.mp4"),
        ("ditto", "audio", "{stem}.mp4.tmp.mp4"),
        ("aniportrait", "visual", "{stem}_noaudio.mp4"),
    ],
)
def test_by_products_are_not_taken_for_the_result(name, gate, by_product, method, sample, monkeypatch):
    built, stub = method(name, gate)
    write = stub._write

    def both(target):
        write(target)
        write_clip(
            target.with_name(by_product.format(stem=target.stem)), [np.zeros((32, 96, 3), np.uint8)] * 40, 8.0
        )

    monkeypatch.setattr(stub, "_write", both)
    closed = {"audio": None} if gate == "visual" else {"video": None}
    frames = list(built.generate(dataclasses.replace(sample, **closed), GATES[gate], 1).frames)
    assert min(frame.min() for frame in frames) > 30


@pytest.mark.parametrize(
    ("name", "gate", "missing"),
    [("playmate2", "audio", 8), ("megactor-sigma", "visual", 1), ("sadtalker", "audio", 0)],
)
def test_a_cut_start_is_made_up_for(name, gate, missing, play):
    frames, *_ = play(name, gate)
    levels = [round(float(frame.mean())) for frame in frames]
    held = [abs(level - levels[0]) <= 1 for level in levels]
    assert held.index(False) if False in held else len(held) >= missing
    assert all(held[:missing])
    assert abs(levels[-1] - (40 + 2 * (len(levels) - 1))) <= 6, "the end is where the sound's end is"


def test_a_watermark_that_cannot_be_removed_keeps_a_system_from_running():
    contract = ALL["dreamtalk"]
    assert contract.status == "pregenerated" and "logo" in contract.reason


# 3. Frame rates: every contract is played at its own rate in test_stubs.py; the false clock is this one's.


def test_seven_frames_a_second_are_driver_frames(play):
    frames, built, _ = play("follow-your-emoji", "visual")
    assert built.contract.output.fps == 7.0
    levels = np.array([float(frame.mean()) for frame in frames])
    assert np.abs(levels - (40 + 2 * np.arange(len(frames)))).max() <= 6


# 4. Silent truncation.


@pytest.mark.parametrize(
    ("name", "gate", "longest"), [("dawn", "audio", 8), ("echomimic", "audio", 50), ("diffused-heads", "audio", 9)]
)
def test_what_a_system_would_cut_is_refused_before_it_starts(name, gate, longest, method, sample):
    built, stub = method(name, gate)
    with pytest.raises(GenerationFailed, match=f"at most {longest} s") as caught:
        built.generate(dataclasses.replace(sample, video=None, frames=longest * 25 + 1), GATES[gate], 1)
    assert caught.value.cause is Cause.INPUT and stub.calls == []


@pytest.mark.parametrize(
    ("name", "frames", "handed"), [("multitalk", 30, 85), ("aniportrait", 100, 130), ("aniportrait", 250, 255)]
)
def test_what_a_system_cannot_do_is_made_longer_and_cut_back(name, frames, handed):
    sample = Sample("a", "b", "c", "d", Path("a.png"), Path("a.wav"), None, None, frames)
    assert driving_frames(ALL[name], sample) == handed


def test_limits_that_have_a_flag_are_set(play):
    _, _, stub = play("megactor-sigma", "audio")
    call = stub.calls[-1]
    assert call[call.index("--limit") + 1] == "0.48"
    assert {"--no-visual", "--simulate"} <= set(call), "else the result has two frames"


def test_frame_num_of_actalker_is_the_clip_s(method, sample, tmp_path):
    built, _ = method("actalker-release", "audio")
    checkout = Path(read_state(built.place).checkout)
    inputs = Inputs(built.contract, sample, GATES["audio"], 1, tmp_path / "job", checkout)
    assert f"frame_num: {sample.frames}\n" in Path(inputs.value("config")).read_text()


@pytest.mark.parametrize("name", ["hallo", "liveportrait", "edtalk", "float"])
def test_a_short_result_is_an_error_everywhere(name, method, sample, monkeypatch):
    gate = next(iter(ALL[name].gates))
    built, stub = method(name, gate)
    monkeypatch.setattr(
        stub, "_write", lambda target: write_clip(target, [np.full((32, 32, 3), 90, np.uint8)] * 6, 25.0)
    )
    closed = {"audio": None} if gate == "visual" else {"video": None}
    with pytest.raises(GenerationFailed, match=r"lasts 0\.24 s where 0\.48 s were asked for: truncated"):
        built.generate(dataclasses.replace(sample, **closed), GATES[gate], 1)


# 5. Defaults that are somebody else's files: test_stubs.py has the known ones; nothing may be left to a default.


@pytest.mark.parametrize(("name", "gate"), CASES)
def test_every_open_input_is_passed(name, gate):
    commands = ALL[name].gates[gate]
    texts = [commands.command, *commands.prepare, *commands.stage.values(), str(commands.config)]
    used = {word for text in texts for word in re.findall(r"{(\w+)}", text)}
    dubs = "Dubs the driving video" in commands.note
    picture = {"reference_image", "static_video", "static_video_with_audio"}
    assert used & picture or dubs, "the portrait"
    if GATES[gate].audio:
        handed = {"driving_audio", "driving_video_with_audio", "static_video_with_audio"}
        assert used & handed or commands.extra, "the speech"
    if GATES[gate].visual:
        handed = {"driving_video", "driving_video_with_audio", "driving_frames"}
        assert used & handed or commands.extra, "the driving video"


# 6. Seeds.

SEEDS = {
    "settable": "echomimic v-express x-portrait megactor-sigma anitalker dice-talk diff2lip multitalk playmate2"
    " real3d-portrait actalker-release hunyuan-portrait follow-your-emoji float",
    "partial": "aniportrait",
    "fixed": "hallo hallo2 sonic",
    "random": "sadtalker ditto dawn joyvasa kdtalker diffdub dreamtalk makeittalk",
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, names in SEEDS.items() for name in names.split()]
)
def test_seeds_are_what_the_systems_make_of_them(name, kind):
    contract = ALL[name]
    assert contract.seed.kind == kind
    commands = " ".join(f"{gate.command} {gate.config}" for gate in contract.gates.values())
    assert ("{seed}" in commands) == (kind in ("settable", "partial"))
    # Repeats of a system that ignores the seed differ only where it draws unseeded.
    assert host.method_spec(contract).seeded == (kind != "fixed")
    if name == "float":
        assert "--fix_noise_seed" in commands
    if name in ("follow-your-emoji", "hunyuan-portrait", "actalker-release"):
        assert "{seed}" not in " ".join(gate.command for gate in contract.gates.values()), "the flag is ignored"


# 7. Exit codes and questions: modes "lies", "empty", "killed" and "asks" in test_host.py.


# 8. Isolation: fixed names, fixed ports, files beside the inputs.

FIXED = {
    "wav2lip": ["temp/temp.wav", "temp/result.avi"],
    "real3d-portrait": ["demo.mp4"],
    "aniportrait": ["audio_from_video.aac", "output/20260101/a.txt"],
    "makeittalk": ["out.mp4", "examples/tmp.wav"],
    "controltalk": ["temp/a.png", "results/a.txt"],
    "eat": ["demo/imgs_cropped/a.jpg", "demo/output/a.txt"],
}


@pytest.mark.parametrize("name", sorted(FIXED))
def test_fixed_names_are_private_and_leave_the_checkout_alone(name, method, sample, monkeypatch):
    gate = next(iter(ALL[name].gates))
    built, stub = method(name, gate)
    root = Path(read_state(built.place).checkout)
    for file in FIXED[name]:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("of another run")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    seen = []

    def run(argv, cwd, *rest, **more):
        for file in FIXED[name]:
            target = Path(cwd) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("of this run")
        seen.append(cwd)
        return stub.run(argv, cwd, *rest, **more)

    monkeypatch.setattr(host, "run", run)
    closed = {} if gate == "audio+visual" else {"audio": None} if gate == "visual" else {"video": None}
    list(built.generate(dataclasses.replace(sample, **closed), GATES[gate], 1).frames)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert not any(Path(cwd).exists() for cwd in seen)


def test_ports_are_free_ones(play):
    port = ALL["follow-your-emoji"].gates["visual"].command
    assert "--master_port {port}" in port
    _, _, stub = play("follow-your-emoji", "visual")
    words = stub.calls[-1]
    assert 1024 < int(words[words.index("--master_port") + 1]) < 65536


@pytest.mark.parametrize(("name", "gate"), [("liveportrait", "visual"), ("sonic", "audio"), ("musetalk", "audio")])
def test_what_is_written_beside_the_inputs_or_one_folder_up_is_private(name, gate, method, sample, monkeypatch):
    built, stub = method(name, gate)
    beside = []

    def run(argv, cwd, *rest, **more):
        text = " ".join(argv) + "".join(
            Path(w).read_text() for w in argv if w.endswith(".yaml") and Path(w).is_file()
        )
        for word in re.findall(r"/[^\s'\"]+/in/[^\s'\"]+", text):
            beside.append(Path(word).with_suffix(".pkl"))
        beside.append(Path(re.search(r"(/\S+)/out\b", text)[1]) / "result.pkl")
        for path in beside:
            path.write_bytes(b"by-product")
        return stub.run(argv, cwd, *rest, **more)

    monkeypatch.setattr(host, "run", run)
    closed = {"audio": None} if gate == "visual" else {"video": None}
    list(built.generate(dataclasses.replace(sample, **closed), GATES[gate], 1).frames)
    assert len(beside) >= 2 and not any(path.exists() for path in beside)
    assert not list(sample.image.parent.glob("*.pkl"))


@pytest.mark.parametrize(
    ("name", "gate"), [("wav2lip", "audio"), ("x-portrait", "visual"), ("dreamtalk", "audio")]
)
def test_paths_are_plain_whatever_the_sample_is_called(name, gate, play):
    # The sample lies in a folder with blanks and dots and has a dot in its id.
    _, _, stub = play(name, gate, id="a b/c.d'e")
    inside = [word for call in stub.calls for word in call if "/bench-" in word]
    assert inside and all(re.fullmatch(r"[A-Za-z0-9_/-]+(\.\w+)?", word) for word in inside), inside


# 9. New GPUs and old wheels.


@pytest.mark.parametrize(
    "name",
    [
        "sadtalker",
        "anitalker",
        "dreamtalk",
        "diffdub",
        "dawn",
        "eat",
        "styletalk",
        "pd-fgc",
        "megactor-sigma",
        "real3d-portrait",
    ],
)
def test_stacks_without_kernels_for_new_gpus_say_so(name):
    assert ALL[name].environment.hopper.startswith("no")


def test_a_missing_kernel_is_the_environment_s_fault(method, sample, monkeypatch):
    built, _ = method("sadtalker", "audio")

    def run(argv, cwd, env, log, limit, stop=()):
        log.write_text("RuntimeError: CUDA error: no kernel image is available for execution on the device\n")
        return Ended(1)

    monkeypatch.setattr(host, "run", run)
    with pytest.raises(GenerationFailed, match="no kernel image") as caught:
        built.generate(dataclasses.replace(sample, video=None), GATES["audio"], 1)
    assert caught.value.cause is Cause.ENVIRONMENT


# 10. Downloads at run time: fetched once by `bench prepare`; refused in a run (test_prepare.py, mode "network").


@pytest.mark.parametrize(
    "name", ["x-portrait", "float", "controltalk", "makeittalk", "keysync", "real3d-portrait", "dreamtalk"]
)
def test_what_is_fetched_at_run_time_is_fetched_before(name):
    contract = ALL[name]
    assert contract.environment.prefetch and contract.run.network


@pytest.mark.parametrize("name", ["diffdub", "playmate2"])
def test_what_cannot_be_fetched_before_is_said(name):
    assert ALL[name].run.network and not ALL[name].environment.prefetch


# 11. A folder of ready videos is an input like any other.


@pytest.mark.parametrize("name", sorted(name for name, contract in ALL.items() if contract.status != "runnable"))
def test_systems_that_cannot_run_are_scored_from_a_folder(name, tmp_path):
    from bench.core.spec import Split
    from bench.run.plan import plan_ingestion

    assert host.readiness(name).startswith("videos only: ")
    sample = Sample("a", "b", "c", "d", Path("a.png"), None, None, None, 25)
    clip = tmp_path / "c.mp4"
    clip.write_bytes(b"made elsewhere")  # a plan names a file by its content
    plan = plan_ingestion(Split("fake", "real", (sample,)), name, {"c": clip}, "audio")
    assert [job.method for job in plan.jobs] == [name]
    assert plan.split.notes == (f"{name}: videos made elsewhere; submitted, not reproduced here.",)


def test_shells_are_not_needed():
    # A shell would undo the quoting of paths; commands are words.
    for contract in ALL.values():
        for commands in contract.gates.values():
            for line in (commands.command, *commands.prepare):
                assert not {"&&", "|", ";", ">", "cd"} & set(shlex.split(line))
