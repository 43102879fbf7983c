"""Numbers of a run: on the terminal, in `log.jsonl`, at TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actalker.errors import ActalkerError, MissingPackageError
from actalker.reading import parse_json
from actalker.training.config import TrainConfig
from actalker.writing import write_text


class Log:
    """Numbers per step: printed, appended to `log.jsonl`, and to TensorBoard and Weights & Biases if asked.

    Args:
        folder: the run's folder.
        step: the step the run continues from; what an interrupted run logged after it is dropped, as those steps
            are made again.
        config: the run.

    Raises:
        MissingPackageError: TensorBoard or Weights & Biases is asked for and not installed.
    """

    def __init__(self, folder: Path, step: int, config: TrainConfig) -> None:
        self.path = folder / "log.jsonl"
        self.start = time.monotonic()
        self.writer: Any = None
        self.wandb: Any = None
        if config.run.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingPackageError(
                    "TensorBoard logs need the tensorboard package",
                    "pip install 'actalker-bench[train]', or set tensorboard = false in [run].",
                ) from error
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        if config.run.wandb:
            try:
                import wandb
            except ImportError as error:
                raise MissingPackageError(
                    "logging to Weights & Biases needs the wandb package", 'pip install wandb, or set wandb = "".'
                ) from error
            settings = json.loads(json.dumps(asdict(config), default=str))
            self.wandb = wandb.init(
                project=config.run.wandb, id=_wandb_id(folder), name=folder.resolve().name, resume="allow",
                dir=folder, config=settings,
            )  # fmt: skip
        self._drop_after(step)

    def _drop_after(self, step: int) -> None:
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(errors="replace").splitlines():
            try:
                made = int(parse_json(line, self.path)["step"])
            except (
                ActalkerError,
                ValueError,
                KeyError,
                TypeError,
                OverflowError,
            ):  # the last of a killed process
                continue
            if made <= step:
                kept.append(line + "\n")
        write_text(self.path, "".join(kept))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        line = {"step": step, "seconds": round(time.monotonic() - self.start, 1), **numbers}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shown = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(f"step {step} {shown}", flush=True)
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(dict(numbers), step=step)

    def close(self) -> None:
        """Flush TensorBoard and finish at Weights & Biases."""
        if self.writer is not None:
            self.writer.close()
        if self.wandb is not None:
            self.wandb.finish()


def _wandb_id(folder: Path) -> str:
    """Name of the run at Weights & Biases: kept in its folder, as the folder's name may be that of others."""
    path = folder / "wandb.id"
    if not path.is_file():
        path.write_text(secrets.token_hex(8) + "\n")
    return path.read_text().strip()
