"""Putting official weights into a network and preparing it for inference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from bench import weights
from bench.metrics.precision import Precision

# TensorFloat-32 would change low-order digits between machines.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False

State = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)


def device() -> torch.device:
    """Return the device networks run on: the visible GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arrange(network: Network, precision: Precision) -> Network:
    """Put weights into the asked-for arithmetic and the layout that is fastest, channels last."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network.to(torch.bfloat16) if precision is Precision.BF16 else network


def frames_tensor(frames: npt.NDArray[np.uint8]) -> Tensor:
    """Move uint8 frames to the device; the array itself is never written to."""
    # Decoded frames are shared and read-only, which torch cannot express.
    writable = frames if frames.flags.writeable else frames.copy()
    return torch.from_numpy(np.ascontiguousarray(writable)).to(device())


def official(name: str) -> dict[str, Tensor]:
    """Read the state dict of a locked weight file.

    Nested checkpoints (`{"state_dict": ...}`) are opened; `module.` prefixes of data-parallel training are
    dropped.

    Raises:
        Unscored: the file is missing or not what the lock says.
    """
    return read_state(weights.locate(name))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict without executing anything stored in the file."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    if "state_dict" in content:
        content = content["state_dict"]
    return {key.removeprefix("module."): value for key, value in content.items()}


def ready(network: Network, state: State) -> Network:
    """Load `state` (every key must match); return the network frozen, in evaluation mode, on its device."""
    network.load_state_dict(dict(state), strict=True)
    return network.eval().requires_grad_(False).to(device())


def random_state(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return seeded random weights for a network's own keys, scaled to keep activations alive.

    Two implementations of one architecture that load it must agree; it stands in for official weights in
    tests and in `bench verify-metrics`.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        if not value.is_floating_point():
            state[key] = value.clone()
        elif key.endswith("running_var") or (key.endswith("weight") and value.dim() == 1):
            state[key] = torch.rand(value.shape, generator=generator) + 0.5
        elif value.dim() > 1:
            fan_in = value[0].numel()
            state[key] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
        else:
            state[key] = torch.randn(value.shape, generator=generator) * 0.1
    return state


def fold_batchnorm(network: Network) -> Network:
    """Merge every batch normalisation that directly follows a convolution or linear layer into it.

    Equal to the original up to rounding, in evaluation mode only. Pairs are recognised by order inside one
    module, which is the order of use in every network of this package.
    """
    for module in network.modules():
        previous: tuple[str, nn.Module] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and previous is not None:
                before, layer = previous
                fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
                setattr(module, before, fuse(layer, child))
                setattr(module, name, nn.Identity())
            convolution = isinstance(child, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
            previous = (name, child) if convolution else None
    return network.requires_grad_(False)
