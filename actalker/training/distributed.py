"""Several workers: on Ray Train, or as `torchrun` starts them.

Each worker builds the same system, prepares its share of the clips and runs the same loop as a single process.
Gradients are averaged by DistributedDataParallel, or everything is divided by `actalker.training.sharding`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from actalker.errors import ActalkerError, MissingPackageError
from actalker.training.config import TrainConfig
from actalker.training.data import ClipSource

Wrap = Callable[[nn.Module], nn.Module]
Work = Callable[[TrainConfig, ClipSource | None, Any, int, int, torch.device, Wrap | None], None]

_PASSED_ON = ("ACTALKER_", "BENCH_VALIDATION_")
"""Beginnings of the environment variables that workers on other machines need, too."""
PATIENCE = timedelta(hours=12)
"""How long workers wait for each other: one prepares more clips than the rest, or validates. torch's own limits of
10 and 30 minutes are there to notice workers that died, which Ray and torchrun do."""


def started_by_torchrun() -> bool:
    """This process is one of several that `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ


def run_as_worker(config: TrainConfig, work: Work, source: ClipSource | None, build: Any) -> None:
    """Run `work` as one of the processes `torchrun` started.

    Args:
        config, work, source, build: as in `run_on_ray`.
    """
    cuda = torch.cuda.is_available() and config.run.device in ("auto", "cuda")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        work(config, source, build, dist.get_rank(), dist.get_world_size(), device, wrapping(config, device))
    finally:
        dist.destroy_process_group()


def wrapping(config: TrainConfig, device: torch.device) -> Wrap:
    """What makes the module in training that of all workers."""
    if config.run.shard:
        from actalker.training.sharding import shard

        return lambda module: shard(module, device)

    def copies(module: nn.Module) -> nn.Module:
        # A closed gate leaves a branch without gradients.
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)

    return copies


def run_on_ray(config: TrainConfig, work: Work, source: ClipSource | None, build: Any) -> None:
    """Run `work` on `config.run.workers` Ray Train workers and wait.

    When a worker dies, all are started again and continue from the last checkpoint, at most
    `config.run.max_failures` times.

    Args:
        config: the training run; it travels to the workers.
        work: called on every worker with config, source, build, rank, world size, device and a function that
            wraps the module whose gradients are to be averaged.
        source: training clips if not those of the config's manifest.
        build: makes the model in training.

    Raises:
        MissingPackageError: Ray is not installed.
        ActalkerError: what a worker raised, the last time it was started.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise MissingPackageError(
            "training on several workers needs Ray",
            "pip install 'ray[train]', start them with torchrun, or set workers = 0 in [run].",
        ) from error
    gpus, config = config.run.gpus_per_worker, absolute(config)
    known = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    environment: dict[str, Any] = {"worker_runtime_env": {"env_vars": known}} if known else {}
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": config, "work": work, "source": source, "build": build},
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=int(PATIENCE.total_seconds())
        ),
        scaling_config=ScalingConfig(
            num_workers=config.run.workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name="actalker",
            storage_path=str(config.run.out / "ray"),
            failure_config=FailureConfig(max_failures=config.run.max_failures),
            **environment,
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        # Ray keeps what workers raised beside a message of tracebacks; what a user can act on is said as it is.
        for failure in getattr(error, "worker_failures", {}).values():
            cause = getattr(failure, "_base_exc", failure)
            if isinstance(cause, ActalkerError):
                raise cause from error
        raise


def absolute(config: TrainConfig) -> TrainConfig:
    """The same run from any working directory."""
    kind, separator, folder = config.model.rpartition(":")  # as in `embedded:FOLDER`
    data = {
        name: path.resolve()
        for name in ("train", "validation", "cache")
        if (path := getattr(config.data, name)) != Path()
    }
    return replace(
        config,
        model=f"{kind}{separator}{Path(folder).resolve() if Path(folder).is_dir() else folder}",
        data=replace(config.data, **data),
        run=replace(config.run, out=config.run.out.resolve()),
    )


def _worker(settings: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    config, device = settings["config"], ray.train.torch.get_device()
    settings["work"](config, settings["source"], settings["build"], rank, world, device, wrapping(config, device))
    ray.train.report({"rank": rank})
