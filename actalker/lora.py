"""Low-rank adaptations of the UNet, through PEFT (an optional package)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from actalker.errors import CheckpointError, MissingPackageError
from actalker.reading import foreign, read_tensors
from actalker.writing import write_tensors, write_text

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "in_proj1", "in_proj2", "out_proj", "audio_proj", "exp_proj")
"""Layers that are adapted: attention, and the matrices of the control layers."""
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingPackageError(
            "low-rank adaptations need the package peft", "pip install 'actalker-bench[lora]'"
        ) from error
    return peft


def add_lora(unet: nn.Module, rank: int, alpha: float | None = None, targets: Sequence[str] = TARGETS) -> None:
    """Put trainable low-rank matrices beside a UNet's layers and freeze everything else in it.

    Args:
        unet: changed in place.
        rank: of the matrices.
        alpha: scale times rank; default the rank.
        targets: ends of the adapted layers' names.

    Raises:
        MissingPackageError: peft is not installed.
    """
    peft = _peft()
    config = peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=list(targets))
    peft.inject_adapter_in_model(config, unet)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)


def save_lora(unet: nn.Module, folder: str | Path) -> None:
    """Write the matrices in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""
    peft, folder = _peft(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = peft.get_peft_model_state_dict(unet)
    write_tensors(folder / _WEIGHTS, {key: value.detach().cpu() for key, value in state.items()})
    with tempfile.TemporaryDirectory() as place:
        unet.peft_config["default"].save_pretrained(place)  # type: ignore[union-attr, index]
        write_text(folder / _CONFIG, (Path(place) / _CONFIG).read_text())


def fuse_lora(unet: nn.Module) -> None:
    """Add the matrices to the weights and take them out, which leaves a plain UNet."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(unet.named_modules()):
        if isinstance(module, LoraLayer):
            merged: Any = module
            merged.merge()
            parent, _, child = name.rpartition(".")
            setattr(unet.get_submodule(parent), child, merged.get_base_layer())
    if hasattr(unet, "peft_config"):
        del unet.peft_config
    unet.requires_grad_(False)


def merge_lora(unet: nn.Module, folder: Path, scale: float = 1.0) -> None:
    """Add a stored adaptation to a UNet's weights.

    Args:
        unet: changed in place.
        folder: as `save_lora` writes it.
        scale: how much of it.

    Raises:
        MissingPackageError: peft is not installed.
        CheckpointError: no adaptation in the folder, or one of another model.
    """
    peft = _peft()
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} holds no {name}, so it is not a low-rank adaptation")
    with foreign(folder / _CONFIG):
        config = peft.LoraConfig.from_pretrained(str(folder))
    config.lora_alpha *= scale
    try:
        peft.inject_adapter_in_model(config, unet)
    except ValueError as error:
        raise CheckpointError(f"{folder} does not fit this model: {error}") from error
    with foreign(folder / _WEIGHTS):
        result = peft.set_peft_model_state_dict(unet, read_tensors(folder / _WEIGHTS))
    unexpected = list(getattr(result, "unexpected_keys", []))
    if unexpected:
        fuse_lora(unet)
        raise CheckpointError(f"{folder} does not fit this model; unexpected: {', '.join(unexpected)}")
    fuse_lora(unet)
