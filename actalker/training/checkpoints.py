"""Checkpoints of a run: sharded, written while training goes on, few kept.

`torch.distributed.checkpoint` writes one file per worker and puts the pieces together on any number of workers.
A checkpoint counts when its `.metadata` is there, which is written last. Only tensors are stored, but the
metadata is a pickle of that library: continue your own runs, not folders from others.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from actalker.errors import CheckpointError
from actalker.training.distributed import PATIENCE

FOLDER = "checkpoints"
_METADATA = ".metadata"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the run's folder.
        keep: how many to keep; older ones are removed.
        background: return from `save` before the files are written.
    """

    def __init__(self, folder: Path, keep: int = 2, background: bool = False) -> None:
        self.folder, self.keep, self.background = folder / FOLDER, keep, background
        # The files are written by the CPU, whatever exchanges gradients.
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE) if dist.is_initialized() else None
        self._first = not dist.is_initialized() or dist.get_rank() == 0
        self._pending: Any = None
        # One process without a group is meant. Not only around the calls: the thread that writes warns, too.
        warnings.filterwarnings("ignore", "torch.distributed is disabled")

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        found = (path.parent.name for path in self.folder.glob(f"*/{_METADATA}"))
        return sorted(int(name) for name in found if name.isdigit())

    def path(self, step: int) -> Path:
        """Folder of the checkpoint made after `step` steps."""
        return self.folder / f"{step:08d}"

    def save(self, step: int, state: Mapping[str, Tensor]) -> Path:
        """Write a checkpoint; a crash while writing leaves the previous one.

        Args:
            step: steps made.
            state: tensors by name, on each worker its own parts of them.
        """
        self.wait()
        path = self.path(step)
        if self._first:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        self._together()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.background:
                # Training goes on: what lies in main memory would change under the writer's hands.
                still = {k: v.detach().clone() if v.device.type == "cpu" else v for k, v in state.items()}
                self._pending = dcp.async_save(still, checkpoint_id=path, process_group=self._group)
            else:
                dcp.save(dict(state), checkpoint_id=path, process_group=self._group)
                self._prune()
        return path

    def wait(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None
            self._prune()

    def names(self, step: int) -> dict[str, torch.Size]:
        """Names and shapes of the tensors of a checkpoint."""
        metadata = dcp.FileSystemReader(self.path(step)).read_metadata()
        return {name: getattr(entry, "size", torch.Size()) for name, entry in metadata.state_dict_metadata.items()}

    def load(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Fill `state` with the tensors of the same names.

        Raises:
            CheckpointError: one is missing or has another shape.
        """
        names = self.names(step)
        wrong = [name for name, value in state.items() if names.get(name) != value.shape]
        if wrong:
            raise CheckpointError(
                f"{self.path(step)} does not fit this model; missing or of another shape: {', '.join(wrong[:8])}",
                "Use another [run] out folder, or the model the run was started with.",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(dict(state), checkpoint_id=self.path(step), process_group=self._group)

    def _together(self) -> None:
        if self._group is not None:
            dist.barrier(self._group)

    def _prune(self) -> None:
        self._together()
        if not self._first:
            return
        whole = self.steps()
        for path in self.folder.iterdir():
            kept = path.name.isdigit() and (int(path.name) in whole[-self.keep :] or int(path.name) > whole[-1])
            if not kept:
                shutil.rmtree(path, ignore_errors=True)
