"""Modules that are built from a plain dataclass and stored as `config.json` + safetensors."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from actalker.checkpoints import load_strictly
from actalker.errors import CheckpointError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class Configured(nn.Module):
    """Base of every trained component: built from a frozen dataclass `config` of JSON values.

    A subclass sets `Config` to its dataclass and takes one instance of it as its only constructor argument.
    """

    Config: ClassVar[type]
    config: Any

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> Self:
        """Build from the values of `config.json`.

        Raises:
            CheckpointError: a key the class does not know.
        """
        known = {field.name for field in fields(cls.Config)}
        values = {key: value for key, value in values.items() if not key.startswith("_")}
        unknown = sorted(set(values) - known)
        if unknown:
            raise CheckpointError(
                f"{cls.__name__}: unknown config keys {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        tuples = {key: _tuples(value) for key, value in values.items()}
        return cls(cls.Config(**tuples))

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors` (floating tensors as `dtype`, default as they are)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": type(self).__name__, **asdict(self.config)}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        state = {
            name: (value.to(dtype) if dtype is not None and value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        save_file(state, folder / WEIGHTS_FILE)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = torch.float32) -> Self:
        """Build on the meta device and assign the stored tensors, converted to `dtype` (None: as stored).

        Raises:
            CheckpointError: files missing, or keys or shapes that do not fit.
        """
        folder = Path(folder)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} holds no {name}, so it is not a stored {cls.__name__}")
        with torch.device("meta"):
            module = cls.from_config(json.loads((folder / CONFIG_FILE).read_text()))
        load_strictly(module, load_file(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE), dtype=dtype)
        return module.eval()


def _tuples(value: Any) -> Any:
    """JSON lists as tuples, so that a config read back equals the one written."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
