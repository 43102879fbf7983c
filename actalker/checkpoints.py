"""Loading weights strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actalker.errors import CheckpointError
from actalker.reading import read_tensors

_NESTED = ("ema", "ema_state_dict", "state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.")
_ALIGNMENT = 64
"""Bytes; what PyTorch's CPU allocator guarantees."""


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], source: str, *, dtype: torch.dtype | None = None
) -> None:
    """Assign `state` to `module` (which may be on the meta device) if every key and shape fits.

    Args:
        module: receives the tensors themselves, without a copy when `dtype` does not change them.
        state: the checkpoint's tensors by key.
        source: what to call the checkpoint in an error.
        dtype: converts floating tensors; None keeps what is stored.

    Raises:
        CheckpointError: lists every missing, unexpected and mismatched key.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    mismatched = [
        f"{key}: checkpoint {tuple(state[key].shape)}, model {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        f"{len(keys)} {title}:\n  " + "\n  ".join(keys)
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("mismatched", mismatched))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{source} does not fit {type(module).__name__}\n" + "\n".join(problems))
    converted = {
        key: _aligned(value.to(dtype) if dtype is not None and value.is_floating_point() else value)
        for key, value in state.items()
    }
    module.load_state_dict(converted, strict=True, assign=True)


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor in memory as PyTorch allocates it; a copy only where a file's mapping put it elsewhere.

    A safetensors file aligns its tensors to 8 bytes, and MKL picks kernels, thus roundings, by the alignment of
    its operands: without this a model just read gives other last bits than the same weights held in memory.
    """
    return tensor.clone() if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT else tensor


def read_state(path: str | Path, note: Callable[[str], None] = lambda message: None) -> dict[str, Any]:
    """Tensors of a `.safetensors` file or of a pickled state dict, memory-mapped where the format allows.

    What wrappers and trainers put around a state dict is taken off: an outer `state_dict`, `model`, `module` or
    `ema` (the average where both are there), and the prefixes `module.` and `_orig_mod.` where all keys have them.

    Args:
        path: the file.
        note: called with a sentence per thing taken off.

    Raises:
        CheckpointError: not a file, not a state dict, or a pickle with more than tensors in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return unwrapped(read_tensors(path), path.name, note)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch and its unpickler raise many kinds for damaged files
        raise CheckpointError(f"{path} is not a checkpoint of plain tensors: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a state dict")
    return unwrapped(state, path.name, note)


def unwrapped(state: dict[str, Any], name: str, note: Callable[[str], None]) -> dict[str, Any]:
    """A state dict without what wrappers put around it, see `read_state`."""
    while not any(isinstance(value, Tensor) for value in state.values()):
        inner = next((key for key in _NESTED if isinstance(state.get(key), dict)), None)
        if inner is None:
            return state
        note(f"{name}: took the state dict under {inner!r}")
        state = state[inner]
    for prefix in _PREFIXES * 2:  # a compiled module may be wrapped, and a wrapped one compiled
        if state and all(key.startswith(prefix) for key in state):
            note(f"{name}: took the prefix {prefix!r} off every key")
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
