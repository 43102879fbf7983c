"""The ablations of the paper's Table 3: the model without one part of its control.

Each is a few config fields, so an ablated model is stored, loaded and run like any other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from actalker.errors import CheckpointError
from actalker.masks import MaskMode
from actalker.unet import ACTalkerUNet, UNetConfig

Ablation = Literal["none", "no-pcm", "no-mask-drop", "no-identity"]


def ablate(ablation: Ablation, unet: UNetConfig, masks: MaskMode) -> tuple[UNetConfig, MaskMode]:
    """Return UNet config and mask mode of a model without the part `ablation` names.

    Args:
        ablation: `no-pcm` puts a spatial cross-attention where the parallel-control Mamba layers are (the paper's
            "Baseline"), `no-mask-drop` lets every open branch act on all tokens ("w/o MD"), `no-identity` keeps
            the identity token out of the control layers ("w/o ID"; the cross-attention keeps it). `none`
            changes nothing.
        unet: config of the whole model's UNet.
        masks: mask mode of the whole model. Train and generate with the one returned.
    """
    if ablation == "no-pcm":
        unet = replace(unet, control=replace(unet.control, kind="cross-attention"))
    elif ablation == "no-identity":
        unet = replace(unet, control=replace(unet.control, identity=False))
    elif ablation == "no-mask-drop":
        masks = "none"
    return unet, masks


def rebuild(unet: ACTalkerUNet, config: UNetConfig) -> ACTalkerUNet:
    """Return a UNet of another control config with the weights of `unet` outside what differs.

    New control layers start from their initialisation.

    Raises:
        CheckpointError: the two differ in more than their control layers.
    """
    if config == unet.config:
        return unet
    made = ACTalkerUNet(config)
    old, new = unet.state_dict(), made.state_dict()
    kept = {key: value for key, value in old.items() if key in new and value.shape == new[key].shape}
    foreign = sorted(key for key in (set(old) | set(new)) - set(kept) if ".mamba_blocks." not in key)
    if foreign:
        raise CheckpointError("the UNets differ outside their control layers: " + ", ".join(foreign))
    with torch.no_grad():
        made.load_state_dict(kept, strict=False)
    return made
