"""Every contract in the repository, and what the schema says about wrong ones."""

import re
import shlex
from pathlib import Path

import pytest

from bench.core.errors import UsageError
from bench.core.resources import data_folder
from bench.systems import contract as contracts
from bench.systems import host, systems

ROOT = data_folder("baselines")
ALL = {name: contracts.load(path) for name, path in contracts.contract_paths((ROOT,)).items()}
RUNNABLE = {name: c for name, c in ALL.items() if c.status == "runnable"}

MINIMAL = """
name = "fake"
title = "A fake"
status = "runnable"

[gates.audio]
command = "python run.py --image {reference_image} --audio {driving_audio} --out {output_path}"

[output]
glob = ["{output_path}"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fake" / contracts.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_all_tiers_are_there():
    tiers = [c.tier for c in ALL.values()]
    assert tiers.count(1) == 24
    assert tiers.count(2) == 14
    named = {"sadtalker", "hallo", "hallo2", "aniportrait", "echomimic", "v-express", "sonic", "liveportrait"}
    named |= {"x-portrait", "follow-your-emoji", "megactor-sigma", "hunyuan-portrait", "edtalk", "float", "ditto"}
    assert named <= set(RUNNABLE)
    for name in ("vasa-1", "omnitalker", "emo2", "flap", "im-portrait", "actalker-release"):
        assert ALL[name].reason


@pytest.mark.parametrize("name", sorted(RUNNABLE))
def test_commands_use_only_verified_flags(name):
    contract = RUNNABLE[name]
    own = {"-m", "-u"} | {"--nnodes", "--master_addr", "--master_port", "--node_rank", "--nproc_per_node"}
    for gate in contract.gates.values():
        words = shlex.split(gate.command)
        if "{contract_dir}" in gate.command:
            continue  # a script of ours
        for word in words:
            flag = re.match(r"--?[A-Za-z][\w-]*", word)
            if flag:
                assert flag[0] in contract.verified_flags or flag[0] in own, f"{flag[0]} was never verified"


@pytest.mark.parametrize("name", sorted(RUNNABLE))
def test_every_runnable_contract_says_what_a_reader_needs(name):
    contract = RUNNABLE[name]
    assert contract.source.repository.startswith("https://")
    assert contract.source.commit == "" or re.fullmatch("[0-9a-f]{40}", contract.source.commit)
    assert contract.summary and contract.verification and contract.weights and contract.traps
    assert contract.output.size, "the native size"
    for commands in contract.gates.values():
        assert commands.support == "full" or commands.note
        for line in (commands.command, *commands.prepare):
            for script in re.findall(r"\{contract_dir\}/([\w.]+)", line):
                assert (Path(contract.folder) / script).is_file()
    for trap in contract.traps:
        assert trap.what.endswith((".", ")")), trap.what


def test_gates_are_closed_in_the_command_itself():
    # A system that is to see no audio must not be handed any, and the other way round.
    for contract in ALL.values():
        for gate, commands in contract.gates.items():
            text = " ".join([commands.command, *commands.prepare, *commands.stage.values(), str(commands.config)])
            if gate == "visual":
                assert "{driving_audio}" not in text
            if gate == "audio":
                assert "{driving_video" not in text


def test_generated_pages_are_up_to_date():
    for path, text in systems.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: python -m bench.systems.systems"
    text = (ROOT / "SYSTEMS.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| 003 ", text, re.M)) == 119
    assert len(re.findall(r"^\| 004 ", text, re.M)) == 10


def test_minimal_contract(tmp_path):
    contract = contracts.load(write(tmp_path, MINIMAL))
    spec = host.method_spec(contract)
    assert spec.name == "fake" and spec.gates == ("audio",) and spec.kind == "external"
    assert spec.seeded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[output]\nglob", "[output]\nglobb"), r"baseline.toml:\d+: output.globb: unknown field.*'glob'"),
        (("title =", "tittle ="), r"baseline.toml:3: tittle: unknown field 'tittle'.* Did you mean 'title'"),
        (('"runnable"', '"runable"'), r"status: 'runable' is not allowed.*'runnable'"),
        (("{driving_audio}", "{driving_adio}"), r"placeholder \{driving_adio\} is unknown.*'driving_audio'"),
        (("{driving_audio}", "{driving_video}"), r"\{driving_video\} is closed by this gate"),
        (("{driving_audio}", "{config}"), r"\{config\} is unknown"),
        (("[gates.audio]", "[gates.sound]"), r"gates.sound: a gate is 'audio'"),
        (("python run.py", "cd x && python run.py"), r"needs a shell"),
        (("--out {output_path}", "--out '{output_path}"), r"is not a command line"),
        (
            ("[output]\n", '[output]\nfps = "25"\n'),
            r"baseline.toml:\d+: output.fps: must be a number, not a string",
        ),
        (("[output]\n", "[output]\npanel = { columns = 2, index = 2 }\n"), r"index must lie in 0..1"),
        (("[output]\n", "[output]\ncrop = [0, 0, 2, 2]\n"), r"needs frame_size"),
        (('name = "fake"', 'name = "fakes"'), r"the folder is called 'fake'"),
        (('title = "A fake"', "title = A fake"), r"not valid TOML"),
        (('title = "A fake"\n', ""), r"field 'title' is missing"),
    ],
)
def test_wrong_contracts_name_file_line_and_field(tmp_path, change, message):
    path = write(tmp_path, MINIMAL.replace(*change))
    with pytest.raises(UsageError, match=message):
        contracts.load(path)


BATCH = """
[gates.audio.config.each]
"task_{index}" = { image = "{reference_image}", audio = "{driving_audio}" }

[batch]
size = 4
glob = ["{output_dir}/*{sample_id}*.mp4"]

[seed]
kind = "deterministic"
"""
LISTED = MINIMAL.replace(
    "--image {reference_image} --audio {driving_audio} --out {output_path}", "{config} {output_dir}"
)


def test_a_batch_is_declared_and_is_no_part_of_the_identity(tmp_path):
    with_batch = host.method_spec(contracts.load(write(tmp_path, LISTED + BATCH)))
    without = host.method_spec(
        contracts.load(write(tmp_path, LISTED + re.sub(r"\[batch\](.|\n)*?\n\n", "", BATCH)))
    )
    assert (with_batch.batch, without.batch) == (4, 1)
    assert with_batch.settings == without.settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "deterministic"', 'kind = "settable"'), "would depend on those made before it"),
        (('kind = "deterministic"', 'kind = "fixed"'), "would depend on those made before it"),
        (("size = 4", "size = 1"), "size of 2 or more"),
        (("*{sample_id}*", "*"), r"\{sample_id\} in every pattern"),
        (
            ("{config} {output_dir}", "{config} --seed {seed}"),
            r"\{seed\} is one sample's; put it into config.each",
        ),
        (("[gates.audio.config.each]", "[gates.audio.config.set]"), "gates.audio needs config.each"),
    ],
)
def test_wrong_batches_are_refused(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        contracts.load(write(tmp_path, (LISTED + BATCH).replace(*change)))


def test_line_numbers_point_at_the_field(tmp_path):
    text = MINIMAL + '\n[[traps]]\nwhat = "a."\n\n[[traps]]\nwhat = "b."\nworkarround = "c"\n'
    with pytest.raises(UsageError) as caught:
        contracts.load(write(tmp_path, text))
    line = int(re.search(r"baseline.toml:(\d+)", caught.value.message)[1])
    assert text.splitlines()[line - 1].startswith("workarround")


def test_unknown_system_suggests_one():
    with pytest.raises(UsageError, match="Did you mean 'sadtalker'"):
        contracts.find("sadtaker")


def test_user_contracts_are_found_without_a_change_in_the_code(tmp_path, monkeypatch):
    write(tmp_path, MINIMAL)
    monkeypatch.setenv("BENCH_BASELINES", str(tmp_path))
    assert contracts.find("fake").folder == str((tmp_path / "fake").resolve())
    assert "sadtalker" in contracts.contract_paths()


def test_settings_change_with_what_decides_the_clip_and_not_with_words(tmp_path):
    from bench.core.keys import digest

    def settings(text):
        return digest(host.method_spec(contracts.load(write(tmp_path, text))).settings)

    same = settings(MINIMAL)
    assert settings(MINIMAL.replace("A fake", "Another title")) == same
    assert settings(MINIMAL.replace("[output]\n", '[output]\nnotes = "words"\n')) == same
    assert settings(MINIMAL.replace("--out", "--steps 5 --out")) != same
    assert settings(MINIMAL.replace("[output]\n", "[output]\nstarts_at = 0.04\n")) != same
