"""Ray Train: two CPU workers share one model, and a run continues on another number of workers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ray = pytest.importorskip("ray")
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "actalker_training"))

import tiny_system as tiny  # noqa: E402

from actalker.training.command import train  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def build(_config):
    return tiny.TinySystem()


@pytest.fixture
def cluster():
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(tiny)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    if started:
        ray.shutdown()


def test_two_workers_train_one_model_and_a_single_process_continues(tmp_path, cluster):
    config = tiny.config(tmp_path, steps=4, checkpoint_every=2)
    config = replace(config, run=replace(config.run, workers=2))
    stop = replace(config, phases=config.phases[:1])
    train(stop, tiny.clips(), build)
    halfway = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert halfway["step"] == 2
    (tmp_path / "model").rename(tmp_path / "half")

    model = train(replace(config, run=replace(config.run, workers=0)), tiny.clips(), build)
    assert (model / "unet" / "model.safetensors").is_file()
    final = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert final["step"] == 4
    moved = [name for name, value in final["parts"].items() if not torch.equal(value, halfway["parts"][name])]
    assert "unet.conv_out.weight" in moved
