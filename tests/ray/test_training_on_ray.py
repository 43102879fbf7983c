"""Ray Train: two CPU workers share one model, survive a death, and hand over to one."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ray = pytest.importorskip("ray")
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "actalker_training"))

import tiny_system as tiny  # noqa: E402

from actalker.training.command import train  # noqa: E402
from actalker.training.config import PhaseConfig  # noqa: E402

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skip(reason="two Ray workers have not been seen to finish a step yet"),
]


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


def losses(folder):
    return {
        line["step"]: line["loss"]
        for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        if "loss" in line
    }


def settings(out, **run):
    config = tiny.config(out, steps=6, log_every=1, checkpoint_every=2, **run)
    return replace(config, phases=(PhaseConfig(steps=6, batch=2, frames=2, accumulation=2, lr=1e-2),))


class DiesOnce(tiny.TinySystem):
    """The second worker is killed as soon as the first checkpoint is whole."""

    def __init__(self, folder):
        super().__init__()
        forward, mark = self.parts.forward, folder / "died"

        def watched(*args):
            second = torch.distributed.get_rank() == 1
            if second and list((folder / "checkpoints").glob("*/.metadata")) and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return forward(*args)

        self.parts.forward = watched


def test_a_killed_worker_costs_a_few_steps_and_changes_nothing(tmp_path, cluster):
    """Two workers, one killed with SIGKILL, end with the losses of one that nothing happened to."""
    undisturbed = settings(tmp_path / "alone")
    train(undisturbed, tiny.clips(), build)
    disturbed = settings(tmp_path / "killed", workers=2)
    train(disturbed, tiny.clips(), lambda config: DiesOnce(config.run.out))
    assert (tmp_path / "killed" / "died").exists()
    assert (tmp_path / "killed" / "model" / "unet" / "model.safetensors").is_file()
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "alone"), rel=1e-6, abs=1e-6)


def test_a_single_process_continues_what_two_workers_began(tmp_path, cluster):
    undisturbed = settings(tmp_path / "alone")
    train(undisturbed, tiny.clips(), build)
    train(settings(tmp_path / "two", workers=2, max_steps=4), tiny.clips(), build)
    assert max(losses(tmp_path / "two")) == 4
    train(settings(tmp_path / "two"), tiny.clips(), build)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "alone"), rel=1e-6, abs=1e-6)
