"""Every contract, driven end to end with a stand-in for the system: rendering, gates, crop, retime, seed."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from bench.catalogue import find_method, load_method
from bench.core.errors import MissingError
from bench.core.resources import data_folder
from bench.core.spec import GATES, Cause, Option
from bench.methods.base import GenerationFailed
from bench.store.home import Home
from bench.systems import contract as contracts
from bench.systems import host
from bench.systems.inputs import Inputs
from bench.systems.process import Ended

CASES = [
    (name, gate)
    for name, path in contracts.contract_paths((data_folder("baselines"),)).items()
    for contract in [contracts.load(path)]
    for gate in contract.gates
]


def shown(sample, gate):
    """The sample as the harness hands it out: closed inputs are None."""
    return dataclasses.replace(
        sample, audio=sample.audio if gate.audio else None, video=sample.video if gate.visual else None
    )


@pytest.mark.parametrize(("name", "gate"), CASES)
def test_contract_end_to_end(name, gate, method, sample):
    built, stub = method(name, gate)
    video = built.generate(shown(sample, GATES[gate]), GATES[gate], 1234)
    frames = list(video.frames)
    assert len(frames) == sample.frames and video.fps == 25.0

    # Only the wanted panel is left, and frame k shows time k/25 whatever the file's clock said.
    levels = np.array([frame.mean() for frame in frames])
    assert min(frame.min() for frame in frames) > 30, "a black panel was left in"
    start = round(built.contract.output.starts_at * 25)
    expected = 40 + np.maximum(np.arange(sample.frames), start) * 2.0
    assert np.abs(levels - expected).max() <= 6.0

    # Every file the system was shown is private, and gone afterwards.
    for word in (w for call in stub.calls for w in call):
        assert str(sample.image.parent) not in word
    assert not host.job_root().exists() or not list(host.job_root().glob(f"{name}-{os.getpid()}-*"))


@pytest.mark.parametrize("name", ["sadtalker", "hallo", "liveportrait", "edtalk"])
def test_seed_reaches_the_system_only_where_it_can(name, method, sample):
    contract = contracts.find(name)
    assert contract.seed.kind in ("random", "fixed", "deterministic")
    assert "{seed}" not in str(contract.gates)


@pytest.mark.parametrize(
    ("name", "gate", "words"),
    [
        ("anitalker", "audio", ["--test_hubert_path", "{work}/missing.npy"]),
        ("joyvasa", "audio", ["--animation_mode", "human"]),
        ("real3d-portrait", "audio", ["--drv_pose", "static"]),
        ("real3d-portrait", "audio", ["--out_mode", "final"]),
        ("v-express", "audio", ["--kps_path", ""]),
        ("actalker-release", "audio", ["--video", "{in}/portrait.png"]),
        ("actalker-release", "visual", ["--audio", "{in}/silence.wav"]),
        ("megactor-sigma", "audio", ["--driver", "{in}/still_speech.mp4"]),
        ("megactor-sigma", "audio", ["--limit", "0.48"]),
        ("edtalk", "visual", ["--audio_driving_path", "{in}/silence.wav"]),
        ("controltalk", "audio", ["--source_video", "{in}/still.mp4"]),
    ],
)
def test_defaults_that_would_take_a_sample_file_are_overridden(name, gate, words, method, sample):
    built, stub = method(name, gate)
    built.generate(shown(sample, GATES[gate]), GATES[gate], 1)
    call = stub.calls[-1]
    value = call[call.index(words[0]) + 1]
    expected = words[1].replace("{work}", "/work").replace("{in}", "/in")
    assert value.endswith(expected) if "/" in expected else value == expected


def test_settable_seed_is_in_the_command(method, sample):
    built, stub = method("x-portrait", "visual")
    built.generate(shown(sample, GATES["visual"]), GATES["visual"], 4321)
    assert "4321" in stub.calls[-1]


def test_seed_in_a_configuration_is_a_number(method, sample, monkeypatch):
    import yaml

    built, stub = method("hunyuan-portrait", "visual")
    seen = {}
    plain = stub.run

    def run(argv, *rest, **more):
        seen.update(yaml.safe_load(Path(argv[argv.index("--config") + 1]).read_text()))
        return plain(argv, *rest, **more)

    monkeypatch.setattr(host, "run", run)
    built.generate(shown(sample, GATES["visual"]), GATES["visual"], 77)
    assert seen["seed"] == 77 and seen["kept"] == 1 and seen["output_dir"].endswith("/out")


@pytest.mark.parametrize("gpu", [True, False])
def test_words_for_machines_without_a_gpu_are_added_there_alone(method, sample, monkeypatch, gpu):
    built, stub = method("liveportrait", "visual")
    monkeypatch.setattr(host, "has_gpu", lambda: gpu)
    list(built.generate(dataclasses.replace(sample, audio=None), GATES["visual"], 1).frames)
    assert ("--flag_force_cpu" in stub.calls[-1]) is not gpu


def test_musetalk_is_given_many_tasks_in_one_configuration(method, sample, monkeypatch):
    import yaml

    built, stub = method("musetalk", "audio")
    starts = []

    def run(argv, cwd, env, log, limit, stop=()):
        assert stub._match(stub.commands.command.split(), argv) is not None
        tasks = yaml.safe_load(Path(argv[argv.index("--inference_config") + 1]).read_text())
        starts.append((sorted(tasks), limit))
        stub.duration = sample.frames / 25
        out = Path(argv[argv.index("--result_dir") + 1]) / "v15"
        out.mkdir(exist_ok=True)
        for task in tasks.values():
            stems = [Path(task[key]).stem for key in ("video_path", "audio_path")]
            stub._write(out / f"{'_'.join(stems)}.mp4")
            (out / f"temp_{'_'.join(stems)}.mp4").write_bytes(b"left behind")
        return Ended(0)

    monkeypatch.setattr(host, "run", run)
    one = shown(sample, GATES["audio"])
    jobs = [(dataclasses.replace(one, id=f"clip-{n}.a"), GATES["audio"], 0) for n in range(3)]
    assert built.make_together(jobs) == [0, 1, 2]
    contract = built.contract
    limit = contract.run.timeout + 4 * contract.run.seconds_per_frame * 3 * sample.frames
    assert starts == [(["task_0", "task_1", "task_2"], limit)]
    for each, gate, seed in jobs:
        assert len(list(built.generate(each, gate, seed).frames)) == sample.frames
    assert len(starts) == 1, "nothing was run again"


def test_too_short_input_is_extended_and_the_result_cut_back(method, sample):
    built, stub = method("aniportrait", "audio")
    video = built.generate(shown(sample, GATES["audio"]), GATES["audio"], 1)
    assert len(list(video.frames)) == sample.frames
    assert stub.duration == pytest.approx(5.2)


# What its two programs write from left to right: scripts/audio2vid.py and scripts/vid2vid.py.
@pytest.mark.parametrize(
    ("gate", "panels"),
    [("audio", ["reference", "mesh", "result"]), ("visual", ["reference", "result", "driver"])],
)
def test_aniportrait_puts_its_result_into_another_panel_under_each_gate(gate, panels, method, sample, monkeypatch):
    from bench.media.encode import write_clip

    shades = {"reference": 30, "mesh": 90, "result": 150, "driver": 220}
    grid = np.zeros((516, 2, 3), np.uint8)
    for panel in panels:
        tile = np.zeros((516, 514, 3), np.uint8)
        tile[2:514, :512] = shades[panel]
        grid = np.concatenate([grid, tile], axis=1)
    count = 160 if gate == "audio" else 16  # a driving sound is extended to 5.2 s
    built, stub = method("aniportrait", gate)
    monkeypatch.setattr(stub, "_write", lambda target: write_clip(target, [grid] * count, 30.0))
    frames = list(built.generate(shown(sample, GATES[gate]), GATES[gate], 1).frames)
    assert frames[0].shape == (512, 512, 3)
    assert abs(frames[3].astype(int) - shades["result"]).max() < 12


def test_multiples_of_five_seconds_are_avoided():
    from bench.systems.inputs import driving_frames

    contract = contracts.find("aniportrait")
    sample = dataclasses.make_dataclass("S", ["id", "frames"])
    assert driving_frames(contract, sample("a", 250)) == 255
    assert driving_frames(contract, sample("a", 251)) == 251


def test_too_long_samples_are_refused_before_anything_runs(method, sample):
    built, stub = method("dawn", "audio")
    with pytest.raises(GenerationFailed, match="at most 8 s") as caught:
        built.generate(dataclasses.replace(shown(sample, GATES["audio"]), frames=201), GATES["audio"], 1)
    assert caught.value.cause is Cause.INPUT and stub.calls == []


def test_files_a_person_has_to_supply_are_named(method, sample, tmp_path):
    built, stub = method("anitalker", "audio+visual")
    (built.place.extra / sample.id / "pose.npy").unlink()
    with pytest.raises(GenerationFailed, match=r"pose.npy.*yaw, pitch, roll") as caught:
        built.generate(shown(sample, GATES["audio+visual"]), GATES["audio+visual"], 1)
    assert caught.value.cause is Cause.INPUT and stub.calls == []


def test_fixed_folders_are_private_and_the_checkout_stays_as_it_was(method, sample):
    built, _ = method("makeittalk", "audio")
    root = Path(contracts_checkout(built))
    (root / "examples" / "old.wav").write_bytes(b"somebody else's")
    before = sorted(p.relative_to(root) for p in root.rglob("*"))
    list(built.generate(shown(sample, GATES["audio"]), GATES["audio"], 1).frames)
    assert sorted(p.relative_to(root) for p in root.rglob("*")) == before


def contracts_checkout(built):
    from bench.systems.environment import read_state

    return read_state(built.place).checkout


def test_not_prepared_says_the_command(tmp_path, sample):
    built = host.ExternalMethod(contracts.find("hallo"), Home(tmp_path))
    assert "bench prepare --methods hallo" in host.readiness("hallo", Home(tmp_path))
    with pytest.raises(GenerationFailed, match="not prepared") as caught:
        built.generate(sample, GATES["audio"], 0)
    assert caught.value.cause is Cause.ENVIRONMENT


def test_missing_weights_are_named(method, sample):
    built, _ = method("hallo", "audio")
    Path(contracts_checkout(built), "pretrained_models", "model.bin").unlink()
    with pytest.raises(GenerationFailed, match="lacks weights: pretrained_models"):
        built.generate(shown(sample, GATES["audio"]), GATES["audio"], 0)


def test_systems_without_code_say_so(tmp_path):
    from bench.systems.environment import require_state

    assert host.readiness("vasa-1", Home(tmp_path)).startswith("videos only: No official code")
    with pytest.raises(MissingError, match="bench score"):
        require_state(contracts.find("vasa-1"), Home(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 8}, r"lasts 0.32 s where 0.48 s were asked for: truncated"),
        ({"size": 16}, r"measures \d+x\d+, and the crop belongs to 1544x516"),
    ],
)
def test_wrong_shapes_are_told_apart(change, message, method, sample, monkeypatch):
    from bench.media.encode import write_clip

    name, gate = ("aniportrait", "visual") if "size" in change else ("liveportrait", "visual")
    built, stub = method(name, gate)

    def write(target):
        count = change.get("frames", 200)
        write_clip(target, [np.full((32, 32, 3), 99, np.uint8)] * count, 25.0)

    monkeypatch.setattr(stub, "_write", write)
    with pytest.raises(GenerationFailed, match=message) as caught:
        built.generate(shown(sample, GATES[gate]), GATES[gate], 0)
    assert caught.value.cause is Cause.METHOD


def test_a_setting_reaches_the_command_of_a_system(sample, tmp_path):
    for settings, steps in ({}, "40"), ({"steps": "8"}, "8"):
        built = load_method(find_method("multitalk", settings).target)
        job = tmp_path / f"job-{steps}"
        inputs = Inputs(
            built.contract, shown(sample, GATES["audio"]), GATES["audio"], 1, job, tmp_path / "checkout"
        )
        words = inputs.argv(inputs.commands.command)
        assert words[words.index("--sample_steps") + 1] == steps
    plain, changed = find_method("multitalk"), find_method("multitalk+steps=8")
    assert changed.spec.name == "multitalk+steps=8"
    assert changed.spec.settings == {**plain.spec.settings, "steps": 8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": Option(1)}, "'seed' cannot name one"),
        ({"steps": Option(kind="int")}, "steps needs a default"),
    ],
)
def test_an_option_that_a_contract_cannot_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(contracts.find("multitalk"), options=options)
