"""Tiny stand-ins of the public models a new model starts from, as their own libraries store them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from actalker.conditioning.identity import IResNet

CONDITION = 32


def write_svd(folder: Path) -> Path:
    """A Stable Video Diffusion folder of diffusers' own classes: two levels, stride 4."""
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=CONDITION,
        num_attention_heads=(1, 2),
    )
    unet.save_pretrained(folder / "unet")
    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 3, block_out_channels=(32, 32, 32), layers_per_block=1
    )
    vae.save_pretrained(folder / "vae")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_type="continuous", timestep_spacing="leading", steps_offset=1, use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    return folder


def write_whisper(folder: Path) -> Path:
    """A Whisper folder with the encoder's weights under the names of the published files."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    width, layers, inner, bins = 16, 1, 32, 80
    config = {
        "d_model": width, "encoder_layers": layers, "encoder_attention_heads": 2, "encoder_ffn_dim": inner,
        "num_mel_bins": bins, "max_source_positions": 1500,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    shapes = {
        "conv1.weight": (width, bins, 3), "conv1.bias": (width,), "conv2.weight": (width, width, 3),
        "conv2.bias": (width,), "embed_positions.weight": (1500, width), "layer_norm.weight": (width,),
        "layer_norm.bias": (width,),
    }  # fmt: skip
    for i in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"layers.{i}.self_attn.{name}.weight"] = (width, width)
            if name != "k_proj":
                shapes[f"layers.{i}.self_attn.{name}.bias"] = (width,)
        shapes |= {
            f"layers.{i}.fc1.weight": (inner, width), f"layers.{i}.fc1.bias": (inner,),
            f"layers.{i}.fc2.weight": (width, inner), f"layers.{i}.fc2.bias": (width,),
        }  # fmt: skip
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"layers.{i}.{norm}.weight": (width,), f"layers.{i}.{norm}.bias": (width,)}
    state = {f"model.encoder.{name}": 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors")
    return folder


def write_arcface(folder: Path) -> Path:
    """The identity encoder's published layout, full size: nothing in the command makes it smaller."""
    torch.manual_seed(2)
    path = folder / "backbone.pth"
    torch.save(IResNet().state_dict(), path)
    return path


def write_onnx_arcface(path: Path, embedding: int = 8, size: int = 32) -> Path:
    """An ONNX file with an identity network's input and output: picture means, then a matrix."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, embedding)).astype("f"), "w")
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["m"]),
            helper.make_node("Flatten", ["m"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["y"]),
        ],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, embedding])],
        [matrix],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path
