"""Where a pipeline's parts are stored and where they are put: components, schedulers, devices."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch

from actalker.errors import CheckpointError, InputError
from actalker.reading import foreign, read_json


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device named, by default the best there is: cuda, else mps, else cpu.

    Raises:
        InputError: there is no such device here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    usable = ", ".join(kind for kind, is_there in there.items() if is_there)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}", f"Choose one of: {usable}.") from error
    if not there.get(device.type, True):
        raise InputError(
            f"there is no {device.type} device here, or PyTorch was installed without it",
            f"Choose one of: {usable}.",
        )
    return device


def component_target(component: Any) -> str:
    """`module:Class`, as stored in `model_index.json`."""
    return f"{type(component).__module__}:{type(component).__qualname__}"


def load_component(folder: Path, target: str) -> Any:
    """Load one stored component. Only this package's own classes can be named.

    Raises:
        CheckpointError: the class is not one of this package's.
    """
    module, _, name = str(target).partition(":")
    if not module.startswith("actalker."):
        raise CheckpointError(f"{folder}: component class {target!r} does not belong to actalker")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{folder}: component class {target!r} does not exist") from error
    if not isinstance(cls, type) or cls.__module__ != module or not hasattr(cls, "from_pretrained"):
        raise CheckpointError(f"{folder}: {target!r} is no component class of actalker")
    with foreign(folder):
        return cls.from_pretrained(folder)


_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_ALWAYS = {"use_safetensors": True, "low_cpu_mem_usage": True, "variant": None, "device_map": None}
"""What `from_pretrained` of diffusers takes and what it always is here."""


def hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those of `from_pretrained`'s options that are for the hub.

    Raises:
        InputError: one that is not known, which diffusers would pass over in silence.
    """
    for name, value in options.items():
        if name not in _HUB and not (name in _ALWAYS and value in (None, _ALWAYS[name])):
            known = ", ".join(("device", "torch_dtype", "unet", "codec", "conditioner", "scheduler", *_HUB))
            raise InputError(f"from_pretrained knows no {name}={value!r}", f"There are: {known}.")
    return {name: value for name, value in options.items() if name in _HUB}


def default_dtype(device: torch.device) -> torch.dtype:
    """Half precision on CUDA, single elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


def load_scheduler(folder: Path) -> Any:
    """A diffusers scheduler by the name in its config.

    Raises:
        CheckpointError: not one of diffusers' schedulers.
    """
    name = str(read_json(folder / "scheduler_config.json").get("_class_name", ""))
    cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if cls is None:
        raise CheckpointError(f"{folder} names {name!r}, which is no scheduler of diffusers")
    with foreign(folder):
        return cls.from_pretrained(str(folder))
