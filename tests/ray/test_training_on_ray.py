"""Ray Train: two CPU workers share one model, survive a death, and hand over to one process.

The job runs in a process of its own, as a user starts it: what other tests left of their Rays in this one, such as
handles and settings that Ray reads once per process, cannot meet it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ray = pytest.importorskip("ray")
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "actalker_training"))

import tiny_system as tiny  # noqa: E402

from actalker.errors import InputError  # noqa: E402
from actalker.training.command import train  # noqa: E402
from actalker.training.config import PhaseConfig, TrainConfig  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.xdist_group("ray")]


MARK = "known to the workers"


class DiesOnce(tiny.TinySystem):
    """The second worker is killed as soon as the first checkpoint is whole."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        assert os.environ.get("ACTALKER_FACE_LANDMARKER") == MARK
        forward, mark = self.parts.forward, folder / "died"

        def watched(*args: object) -> torch.Tensor:
            second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
            if second and list((folder / "checkpoints").glob("*/.metadata")) and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return forward(*args)

        self.parts.forward = watched


def settings(out: Path, **run: object) -> TrainConfig:
    config = tiny.config(out, log_every=1, checkpoint_every=2, **run)
    return replace(config, phases=(PhaseConfig(steps=5, batch=2, frames=2, accumulation=2, lr=1e-2),))


def logged(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))  # none was written twice
    return {line["step"]: line["loss"] for line in lines}


def train_disturbed(out: Path) -> None:
    """Train on a Ray of its own with two workers, of which one is killed."""
    from bench.execute.reaper import Reaper

    reaper = Reaper()  # nothing of this Ray outlives the process, not even when it is killed
    ray.init(
        address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )  # fmt: skip
    os.environ["ACTALKER_FACE_LANDMARKER"] = MARK  # after the start, so that no worker simply inherits it
    ray.cloudpickle.register_pickle_by_value(tiny)  # as this file's classes, which lie in __main__
    try:
        train(settings(out, workers=2, max_steps=4), tiny.clips(), lambda config: DiesOnce(config.run.out))
        impossible = replace(settings(Path("refused"), workers=1, max_failures=0), phases=(PhaseConfig(1, 1, 99),))
        try:
            train(impossible, tiny.clips(), lambda config: tiny.TinySystem())
        except InputError as error:  # as in one process, not Ray's tracebacks
            Path("refused.txt").write_text(error.message)
    finally:
        ray.shutdown()
        reaper.close()


def test_a_killed_worker_changes_nothing_and_one_process_continues(tmp_path: Path) -> None:
    """Two workers, one of them killed with SIGKILL, then one process: the losses of an undisturbed run."""
    train(settings(tmp_path / "alone"), tiny.clips(), lambda config: tiny.TinySystem())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "killed"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=420
    )  # workers have another working directory
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "refused.txt").read_text() == "no training clip has 99 frames"
    undisturbed = logged(tmp_path / "alone")
    assert (tmp_path / "killed" / "died").exists()
    assert (tmp_path / "killed" / "model" / "unet" / "model.safetensors").is_file()
    before = logged(tmp_path / "killed")
    assert before == pytest.approx({step: undisturbed[step] for step in (1, 2, 3, 4)}, rel=1e-6, abs=1e-6)
    train(settings(tmp_path / "killed"), tiny.clips(), lambda config: tiny.TinySystem())
    assert logged(tmp_path / "killed") == pytest.approx(undisturbed, rel=1e-6, abs=1e-6)


if __name__ == "__main__":
    train_disturbed(Path(sys.argv[1]))
