"""Parameters, gradients and optimiser state divided over the workers (FSDP2: `fully_shard`).

Workers exchange gradients block by block, so all of them must have the same ones. A branch whose gate a worker
drew closed would have none: every block adds zero times its parameters to its output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from actalker.blocks import SpatioTemporalResBlock
from actalker.transformer import SpatioTemporalTransformer


def shard(parts: nn.Module, device: torch.device) -> nn.Module:
    """Divide a module over all workers, block by block, in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    units: list[tuple[str, nn.Module]] = [
        (name, module)
        for name, module in parts.named_modules()
        if isinstance(module, SpatioTemporalTransformer | SpatioTemporalResBlock)
    ]
    inside = tuple(f"{name}." for name, _ in units)
    for name, unit in units:
        _touch(parts, unit, [n for n, _ in parts.named_parameters() if n.startswith(f"{name}.")])
        fully_shard(unit, mesh=mesh)
    _touch(parts, parts, [n for n, _ in parts.named_parameters() if not n.startswith(inside)])
    fully_shard(parts, mesh=mesh)
    return parts


def _touch(root: nn.Module, unit: nn.Module, names: list[str]) -> None:
    """Let every parameter of a unit take part in each of its calls."""
    places = []
    for name in names:
        owner, _, attribute = name.rpartition(".")
        places.append((root.get_submodule(owner), attribute))

    def hook(module: nn.Module, given: Any, result: Tensor) -> Tensor:
        # Looked up at each call: while the unit works, its parameters are whole.
        for owner, attribute in places:
            result = result + 0 * getattr(owner, attribute).flatten()[0].to(result.dtype)
        return result

    unit.register_forward_hook(hook)
