"""Training on Ray Train, from one CPU worker to many GPUs.

Each worker builds the same system, prepares the clips of its own shard (rank, rank + world, ...) and runs the
same loop as a single process; gradients are averaged by DistributedDataParallel. Rank 0 writes checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from actalker.errors import MissingPackageError
from actalker.training.config import TrainConfig
from actalker.training.data import ClipSource

Wrap = Callable[[nn.Module], nn.Module]
Work = Callable[[TrainConfig, ClipSource | None, Any, int, int, torch.device, Wrap | None], None]


def run_on_ray(config: TrainConfig, work: Work, source: ClipSource | None, build: Any) -> None:
    """Run `work` on `config.run.workers` Ray Train workers and wait.

    Args:
        config: the training run; it travels to the workers.
        work: called on every worker with config, source, build, rank, world size, device and a function that
            wraps the module whose gradients are to be averaged.
        source: training clips if not those of the config's manifest.
        build: makes the model in training.

    Raises:
        MissingPackageError: Ray is not installed.
    """
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise MissingPackageError(
            "training on several workers needs Ray", "pip install 'ray[train]', or set workers = 0 in [run]."
        ) from error
    gpus = config.run.gpus_per_worker
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": config, "work": work, "source": source, "build": build},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.run.workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(name="actalker", storage_path=str(config.run.out.resolve() / "ray")),
    )
    trainer.fit()


def _worker(settings: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()

    def wrap(module: nn.Module) -> nn.Module:
        # A closed gate leaves a branch without gradients.
        prepared: nn.Module = ray.train.torch.prepare_model(
            module, parallel_strategy_kwargs={"find_unused_parameters": True}
        )
        return prepared

    device = ray.train.torch.get_device()
    settings["work"](settings["config"], settings["source"], settings["build"], rank, world, device, wrap)
    ray.train.report({"rank": rank})
