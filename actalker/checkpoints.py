"""Loading weights strictly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from actalker.errors import CheckpointError

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
