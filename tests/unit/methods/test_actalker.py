"""ACTalker as methods: which are there, what they need, and what decides their results' keys."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bench.methods.actalker as adapter
from actalker.embedded import FOLDER
from actalker.errors import InputError
from actalker.generated import Generated
from actalker.pipeline import PipelineConfig
from bench import report
from bench.catalogue import find_method, require_ready, state
from bench.core.errors import ExitCode, MissingError
from bench.core.spec import GATES, Sample, Split
from bench.media.encode import write_image, write_wav
from bench.run.setup import default_methods

ABLATIONS = {
    "actalker-whole": "none",
    "actalker-no-pcm": "no-pcm",
    "actalker-no-mask-drop": "no-mask-drop",
    "actalker-no-identity": "no-identity",
}


@pytest.fixture(scope="module")
def fakes():
    """The made-up results that reports are tested with."""
    path = Path(__file__).parents[1] / "report" / "fakes.py"
    spec = importlib.util.spec_from_file_location("report_fakes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Where a user keeps weights: a home of its own. The shipped model stands in for trained ablations."""
    if not FOLDER.is_dir():
        pytest.skip("no shipped weights in this checkout")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BENCH_WEIGHTS", raising=False)

    def store(name, folder=tmp_path / "home" / "weights"):
        shutil.copytree(FOLDER, folder / name)
        return folder / name

    yield store
    monkeypatch.undo()
    importlib.reload(adapter)


def defaults():
    split = Split("synthetic", "synthetic", ())
    return default_methods(split)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_untrained_ablation_names_the_command_that_trains_it(name, stored):
    needs = state(find_method(name).target)
    assert f"--ablation {ABLATIONS[name]}" in needs and "python -m actalker.embedded.train" in needs
    with pytest.raises(MissingError, match=name) as error:
        require_ready([find_method(name)])
    assert error.value.exit_code is ExitCode.MISSING
    assert name not in defaults()


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_trained_ablation_runs_when_asked_for_and_never_by_default(name, stored, tmp_path):
    stored(name)
    importlib.reload(adapter)
    assert state(find_method(name).target) == "ready"
    assert name not in defaults() and "actalker" in defaults()
    entry = find_method(name)
    assert entry.spec.gates == ("audio", "visual", "audio+visual") and entry.spec.weights
    write_image(tmp_path / "i.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    write_wav(tmp_path / "a.wav", np.random.default_rng(1).integers(-9000, 9000, 5 * 640, dtype=np.int16))
    sample = Sample("d", "s", "x", "x", tmp_path / "i.png", tmp_path / "a.wav", None, None, 5)
    method = getattr(adapter, name.removeprefix("actalker-").replace("-", "_").upper())
    assert len(list(method.generate(sample, GATES["audio"], 0).frames)) == 5


def test_a_chosen_weights_folder_wins(stored, tmp_path, monkeypatch):
    stored("actalker-no-pcm")
    chosen = stored("actalker-no-pcm", tmp_path / "chosen")
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "chosen"))
    assert adapter.NO_PCM.folder() == chosen


def test_settings_of_a_model_are_part_of_its_key(stored):
    folder = stored("actalker-no-pcm")
    importlib.reload(adapter)
    before = adapter.NO_PCM.spec.weights
    index = json.loads((folder / "model_index.json").read_text())
    index["config"]["masks"] = "none"
    (folder / "model_index.json").write_text(json.dumps(index))
    importlib.reload(adapter)
    changed = {ref.name for ref in set(before) ^ set(adapter.NO_PCM.spec.weights)}
    assert changed == {"model_index.json"}


def test_the_papers_ablation_table_has_a_row_for_each_gate_of_each_ablation(fakes):
    gates = ("audio", "audio+visual")
    made = fakes.make(methods=dict.fromkeys(("actalker", *ABLATIONS), ("model", gates, 0.5)))
    (table,) = report.build_tables(made, "paper-table3", published=False)
    assert {(row.label, row.gate) for row in table.rows} == {
        (name, gate) for name in ("actalker", *ABLATIONS) for gate in gates
    }


def test_only_a_large_model_asks_for_a_gpu(tmp_path):
    """A toy trained on a machine without a GPU is made there."""
    assert adapter.Needs.of(tmp_path).gpus == 1
    weights = tmp_path / "unet" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"toy")
    assert adapter.Needs.of(tmp_path).gpus == 0
    with weights.open("r+b") as file:
        file.truncate(3 * 2**30)  # takes no space
    assert adapter.Needs.of(tmp_path).gpus == 1


def test_a_clip_whose_sound_ends_with_its_last_frame_is_made_at_a_lower_rate(tmp_path):
    """Its 15 frames at 25 fps are 8 at 12.5, and the last of these ends after the sound."""
    from actalker.request import as_waveform, frame_count

    write_wav(tmp_path / "a.wav", np.random.default_rng(1).integers(-9000, 9000, 15 * 640 - 99, dtype=np.int16))
    sample = Sample("d", "s", "x", "x", tmp_path / "i.png", tmp_path / "a.wav", None, None, 15)
    made = []

    class Pipeline:
        config = PipelineConfig(fps=12.5)

        def __call__(self, image, audio, video, frames, **settings):
            lengths = {"audio": int(len(as_waveform(audio)) / 16_000 * 12.5 + 1e-6)}
            made.append(frame_count(frames, lengths, 12.5, settings["shortest"]))
            return Generated(iter(()), made[-1], 12.5, 8, 8)

    adapter._animate(Pipeline(), sample, GATES["audio"], 0, {})
    assert made == [8]
    with pytest.raises(InputError, match="pass a longer audio"):  # as much silence would be no small rounding
        adapter._animate(Pipeline(), replace(sample, frames=40), GATES["audio"], 0, {})
