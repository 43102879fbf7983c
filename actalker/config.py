"""Modules that are built from a plain dataclass and stored as `config.json` + safetensors."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

from actalker.checkpoints import load_strictly
from actalker.errors import CheckpointError
from actalker.reading import foreign, read_json, read_tensors
from actalker.writing import write_json, write_tensors

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

C = TypeVar("C")


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
        return cls(from_json(cls.Config, values))

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors` (floating tensors as `dtype`, default as they are)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG_FILE, {"_class_name": type(self).__name__, **asdict(self.config)})
        state = {
            name: value.to(dtype) if dtype is not None and value.is_floating_point() else value
            for name, value in self.state_dict().items()
        }
        write_tensors(folder / WEIGHTS_FILE, state)

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
        with foreign(folder / CONFIG_FILE), torch.device("meta"):
            module = cls.from_config(read_json(folder / CONFIG_FILE))
        load_strictly(module, read_tensors(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE), dtype=dtype)
        return module.eval()


def from_json(cls: type[C], values: dict[str, Any]) -> C:
    """Build a config dataclass, and those nested in it, from JSON values; it equals the one written.

    Keys that start with an underscore are notes and ignored.

    Raises:
        CheckpointError: a key the class does not know.
    """
    values = {key: value for key, value in values.items() if not key.startswith("_")}
    types = get_type_hints(cls)
    unknown = sorted(set(values) - set(types))
    if unknown:
        known = ", ".join(sorted(types))
        raise CheckpointError(f"{cls.__name__}: unknown config keys {', '.join(unknown)}; known: {known}")
    made = {key: _convert(types[key], value) for key, value in values.items()}
    for key, value in made.items():
        if not _fits(types[key], value):
            raise CheckpointError(f"{cls.__name__}: {key} = {value!r} is of another type")
    return cls(**made)


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a declared type, as far as JSON can get it wrong."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if origin is tuple:
        kinds = get_args(kind)
        return isinstance(value, tuple) and all(_fits(kinds[0], item) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    expected = origin or kind
    return not isinstance(expected, type) or isinstance(value, expected)


def _convert(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(value, dict):
        return from_json(kind, value)  # type: ignore[arg-type]
    return tuple(_convert(None, item) for item in value) if isinstance(value, list) else value
