"""Putting official weights into a network and preparing it for inference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from bench import weights
from bench.core.errors import in_words
from bench.core.spec import Reason, Unscored
from bench.core.views import ClipView, resident
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


LARGEST_BATCH = 256  # frames
_SHARE = 0.5  # of the free memory for one batch


def batches(clip: ClipView, size: int, pixels: float = 1.0) -> Iterable[Any]:
    """Yield a clip's frames in order, as many at a time as suit the device.

    Args:
        clip: frames on the GPU are cut out of the clip there, others come from `chunks`.
        size: frames at a time on a CPU, where a network's largest activation should stay in cache. On a GPU the
            free memory decides, up to `LARGEST_BATCH`, in multiples of `size`.
        pixels: rough peak of a network's memory per frame, in MiB.

    Yields:
        uint8 (n, height, width, 3): arrays, or tensors on the GPU; `frames_tensor` takes either.
    """
    frames = resident(clip)
    return clip.chunks(size) if frames is None else frames.split(batch_size(size, pixels))


def batch_size(size: int, pixels: float) -> int:
    """Return how many frames fit a GPU at once, see `batches`."""
    most = min(LARGEST_BATCH, int(_SHARE * free_memory() / (pixels * 2**20)))
    return max(size, most // size * size)


def free_memory() -> int:
    """Return the bytes that are free on the device, what torch keeps for later included."""
    if not torch.cuda.is_available():
        return 2**30
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + cached


def frames_tensor(frames: npt.NDArray[np.uint8] | Tensor) -> Tensor:
    """Move uint8 frames to the device, unless they are there; the array itself is never written to."""
    if isinstance(frames, Tensor):
        return frames
    # Decoded frames are shared and read-only, which torch cannot express.
    writable = frames if frames.flags.writeable else frames.copy()
    return torch.from_numpy(np.ascontiguousarray(writable)).to(device())


def downloaded(parts: Sequence[Tensor]) -> npt.NDArray[np.float32]:
    """Return the joined results of batches as one float32 array: the host waits for the device here only."""
    return torch.cat([part.float() for part in parts]).cpu().numpy()


def official(name: str) -> dict[str, Tensor]:
    """Read the state dict of a locked weight file.

    Nested checkpoints (`{"state_dict": ...}`) are opened; `module.` prefixes of data-parallel training are
    dropped.

    Raises:
        Unscored: the file is missing or not what the lock says.
    """
    with weights.opened(name) as file:
        return read_state(file)


def read_state(file: IO[bytes]) -> dict[str, Tensor]:
    """Read the state dict of an open file without executing anything stored in it.

    Raises:
        Unscored: it is none. A pinned file never is, but the lock does not pin every one.
    """
    try:
        if file.name.endswith(".safetensors"):
            from safetensors.torch import load

            return load(file.read())
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
        if "state_dict" in content:
            content = content["state_dict"]
        return {key.removeprefix("module."): value for key, value in content.items()}
    except Exception as error:  # the formats' readers raise many kinds for damaged files
        raise Unscored(Reason.MISSING_WEIGHTS, f"{file.name} holds no weights: {in_words(error)}") from error


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
