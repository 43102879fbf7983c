"""The optimiser loop: exact resume, averaging, gradients, gates."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny_system as tiny
import torch

from actalker.errors import CheckpointError, DivergedError
from actalker.gates import GATES, Gates
from actalker.training.command import train
from actalker.training.config import GatesConfig, PhaseConfig
from actalker.training.data import step_generator
from actalker.training.distributed import run_as_worker
from actalker.training.ema import Ema
from actalker.training.loop import Trainer, draw_gates, learning_rate, sample

CPU = torch.device("cpu")


def trainer(tmp_path, **run):
    return Trainer(tiny.config(tmp_path, **run), tiny.parts(), tiny.sampler(), CPU)


def run_quietly(t):
    return t.run(lambda *_: None, lambda _: None)


def test_a_resumed_run_ends_with_exactly_the_same_weights(tmp_path):
    whole = trainer(tmp_path / "a")
    assert run_quietly(whole)

    first = trainer(tmp_path / "b")
    for _ in range(2):
        first.train_step()
    first.save(tmp_path / "b")
    torch.manual_seed(999)  # nothing may depend on the global generator
    second = trainer(tmp_path / "b")
    assert second.load(tmp_path / "b")
    assert second.step == 2
    run_quietly(second)

    for name, value in whole.parts.state_dict().items():
        assert torch.equal(value, second.parts.state_dict()[name]), name
    for name, value in whole.ema.shadow.items():
        assert torch.equal(value, second.ema.shadow[name]), name


def test_a_checkpoint_of_another_seed_is_refused(tmp_path):
    trainer(tmp_path).save(tmp_path)
    with pytest.raises(CheckpointError, match="seed 0"):
        trainer(tmp_path, seed=1).load(tmp_path)


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    gradients = []
    for on in (False, True):
        t = trainer(tmp_path, gradient_checkpointing=on)
        t.train_step()
        gradients.append({n: p.detach().clone() for n, p in t.parts.named_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-5, atol=1e-6)


def test_accumulation_averages_the_micro_batches(tmp_path):
    """Two micro-batches of the same data give the gradient of one."""
    norms = []
    for accumulation in (1, 2):
        config = tiny.config(tmp_path)
        phase = replace(config.phases[0], accumulation=accumulation)
        t = Trainer(replace(config, phases=(phase,)), tiny.parts(), _Same(), CPU)
        norms.append(t.train_step()["gradient_norm"])
    # Noise differs between micro-batches, so only the size agrees: a sum would be twice as large.
    assert norms[1] == pytest.approx(norms[0], rel=0.5)


class _Same:
    def draw(self, batch, frames, gates, generator):
        del gates
        return tiny.sampler().draw(batch, frames, Gates(True, True), torch.Generator().manual_seed(1))


def test_training_learns_to_follow_the_audio(tmp_path):
    config = replace(
        tiny.config(tmp_path),
        phases=(PhaseConfig(steps=60, batch=8, frames=1, accumulation=1, lr=2e-2, lr_end=1e-3),),
        gates=GatesConfig(audio=1, visual=0, both=0),
    )
    t = Trainer(config, tiny.parts(), tiny.sampler(), CPU)
    run_quietly(t)
    generator = torch.Generator().manual_seed(5)
    window = tiny.sampler().draw(4, 6, GATES["audio"], generator)
    with t.ema.applied(t.parts):
        made = sample(t.parts.eval(), window, GATES["audio"], generator)
    truth = window.clean.mean((2, 3, 4)).flatten()
    got = made.mean((2, 3, 4)).flatten()
    assert torch.corrcoef(torch.stack([truth, got]))[0, 1] > 0.7


def test_every_gate_is_drawn_as_often_as_configured_and_never_none():
    config = GatesConfig(audio=0.2, visual=0.5, both=0.3)
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_gates(config, generator).name for _ in range(3000)]
    for name, share in (("audio", 0.2), ("visual", 0.5), ("audio+visual", 0.3)):
        assert drawn.count(name) / 3000 == pytest.approx(share, abs=0.03)


def test_a_closed_branch_gets_no_gradient(tmp_path):
    config = replace(tiny.config(tmp_path), gates=GatesConfig(audio=1, visual=0, both=0))
    t = Trainer(config, tiny.parts(), tiny.sampler(), CPU)
    t.train_step()
    assert all(p.grad is None for p in t.parts.motion_projection.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in t.parts.audio_projection.parameters())


def test_the_learning_rate_warms_up_and_decays():
    phase = PhaseConfig(steps=100, lr=1.0, lr_end=0.1)
    assert learning_rate(phase, 0, 10) == pytest.approx(0.1)
    assert learning_rate(phase, 50, 10) == pytest.approx(0.55)
    assert learning_rate(phase, 100, 10) == pytest.approx(0.1)


def test_the_time_limit_stops_with_a_checkpoint(tmp_path):
    saved = []
    t = trainer(tmp_path, max_minutes=1e-9)
    assert not t.run(lambda *_: None, saved.append)
    assert saved == [1]


def test_the_average_follows_and_restores_the_weights():
    layer = torch.nn.Linear(2, 2)
    ema = Ema(layer, decay=0.5)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    ema.update(layer)  # first update: decay min(0.5, 1/10)
    torch.testing.assert_close(ema.shadow["weight"], start + 0.9)
    with ema.applied(layer):
        torch.testing.assert_close(layer.weight.detach(), start + 0.9)
    torch.testing.assert_close(layer.weight.detach(), start + 1)


def test_generators_of_steps_ranks_and_streams_differ():
    drawn = {
        float(torch.rand(1, generator=step_generator(*key)))
        for key in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 0, 0, 1))
    }
    assert len(drawn) == 5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(tmp_path, precision):
    numbers = trainer(tmp_path, precision=precision).train_step()
    assert 0 < numbers["loss"] < 10


def test_infinite_gradients_end_the_run_before_they_reach_the_weights(tmp_path):
    t = trainer(tmp_path)
    before = {name: value.clone() for name, value in t.parts.state_dict().items()}
    t.call = lambda *given: t.parts(*given) * float("inf")
    with pytest.raises(DivergedError, match="step 1 are not finite"):
        t.train_step()
    assert t.step == 0 and all(torch.equal(value, before[n]) for n, value in t.parts.state_dict().items())


def test_workers_wait_for_one_that_prepares_longer(tmp_path, monkeypatch):
    """torch gives up after ten minutes on GPUs."""
    waits = []

    def work(*given):
        backend = torch.distributed.group.WORLD._get_backend(CPU)
        waits.append(backend.options._timeout.total_seconds())
        assert given[3:5] == (0, 1)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 1, "RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    run_as_worker(tiny.config(tmp_path, device="cpu"), work, None, None)
    assert waits[0] >= 6 * 3600 and not torch.distributed.is_initialized()


def test_every_worker_stops_when_one_is_late(tmp_path, monkeypatch):
    from actalker.training import loop

    monkeypatch.setattr(loop.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(loop.dist, "all_reduce", lambda flags, op: flags.fill_(1))  # another worker is late
    made = trainer(tmp_path, max_minutes=1e6)
    assert not made.run(lambda *_: None, lambda _: None)
    assert made.step == 1


WORKER = """
import os, sys; sys.path[:0] = PATH
from dataclasses import replace
from pathlib import Path
import torch
import tiny_system as tiny
from actalker.training import command
from actalker.training.config import PhaseConfig
from actalker.training.data import Manifest
torch.set_num_threads(1)
for how, port in (("copy", PORTS[0]), ("shard", PORTS[1])):
    os.environ["MASTER_PORT"] = str(port)
    out = Path(sys.argv[1]) / how
    config = tiny.config(out, log_every=1, checkpoint_every=2, shard=how == "shard", max_steps=2)
    config = replace(config, phases=(PhaseConfig(steps=3, batch=2, frames=2, accumulation=3, lr=1e-2),))
    command.train(config, Manifest(Path(sys.argv[1]) / "clips.jsonl"), lambda _: tiny.TinySystem())
"""


def losses(folder):
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in (folder / "log.jsonl").read_text().splitlines()
    ]


def train_alone(folder):
    config = tiny.config(folder, log_every=1, checkpoint_every=2)
    phases = (PhaseConfig(steps=3, batch=2, frames=2, accumulation=3, lr=1e-2),)
    train(replace(config, phases=phases), tiny.clips(), lambda _: tiny.TinySystem())
    return losses(folder)


@pytest.fixture(scope="module")
def losses_of_one(tmp_path_factory):
    return train_alone(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def runs_of_two(tmp_path_factory):
    """Runs of two workers, by copies and by shards: both in one pair of processes."""
    folder = tmp_path_factory.mktemp("two")
    for i, clip in enumerate(tiny.clips()):
        np.savez(folder / f"{i}.npz", frames=clip.frames, audio=clip.audio)
    (folder / "clips.jsonl").write_text("".join(f'{{"clip": "{i}.npz"}}\n' for i in range(len(tiny.clips()))))
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1] for free in (one, other)]
    script = folder / "worker.py"
    script.write_text(WORKER.replace("PATH", repr(sys.path)).replace("PORTS", repr(ports)))
    shared = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    workers = []
    try:
        for rank in ("0", "1"):
            own = {**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}  # as torchrun sets them
            workers.append(subprocess.Popen([sys.executable, str(script), str(folder)], env=own))
        assert [worker.wait(300) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return folder


@pytest.mark.parametrize("how", ["copy", "shard"])
def test_two_workers_train_what_one_does_and_one_continues(runs_of_two, losses_of_one, how):
    """Three micro-batches on two workers, then on one: the same losses, per gate, as one worker throughout."""
    run = runs_of_two / how
    assert (run / "model" / "unet" / "model.safetensors").is_file()
    assert [line["step"] for line in losses(run)] == [1, 2]
    two = train_alone(run)
    assert [line["step"] for line in two] == [1, 2, 3]
    for mine, theirs in zip(losses_of_one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_what_is_trained_on_does_not_depend_on_prefetching(tmp_path):
    made = []
    for ahead in (0, 3):
        config = tiny.config(tmp_path)
        t = Trainer(replace(config, data=replace(config.data, prefetch=ahead)), tiny.parts(), tiny.sampler(), CPU)
        assert run_quietly(t)
        made.append(t.parts.state_dict())
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer(tmp_path).save(tmp_path)
    other = trainer(tmp_path)
    other.parts.audio_projection.norm = torch.nn.LayerNorm(7)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        other.load(tmp_path)
