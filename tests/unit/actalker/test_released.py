"""The released files: key lists, strict loading with full error lists, conversion to a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from actalker.attention import Context
from actalker.checkpoints import load_strictly, read_state
from actalker.conditioning.audio import AudioProjection
from actalker.conditioning.identity import IdentityProjection, IResNet
from actalker.conditioning.motion import HeadExpression, HeadPose, MotionProjection
from actalker.conditioning.pose_guider import PoseGuider
from actalker.control import ControlConfig, ScanUnit, cast
from actalker.errors import CheckpointError
from actalker.released import (
    adapter_names,
    convert,
    initialise_from_svd,
    load_released_adapters,
    motion_states,
)
from actalker.unet import ACTalkerUNet, UNetConfig

# File, class, tensors, parameters, sha256 of the sorted `key<TAB>shape` lines of the official list.
OFFICIAL = [
    ("unet", ACTalkerUNet, 1826, 1_775_460_842,
     "cb1468547dbece14693aad3e7873d5bb1db8efe85fad74a34d7fedb6d5e847d7"),
    ("pose_guider", PoseGuider, 16, 1_086_480,
     "2355808b8d48f4a42fefb3bcc7f0f2798978fffcd230883e6be56feb5a0909b5"),
    ("audio_linear", AudioProjection, 8, 54_300_672,
     "0bf16a102892e4769e1b7ac1fd7085a3a4bd385e248f72ac64495a1cdf63b890"),
    ("id_proj_model", IdentityProjection, 6, 2_624_512,
     "d6c84c66640a56405c463f3695d21d69b57c4647057302d5b2e00d2f8d564e2b"),
    ("vasa_linear", MotionProjection, 4, 524_270,
     "78c8abcf614ea40129fabf2ebb91c41e9865126ba3f4dc7dc978de38b9fefedb"),
    ("expression_model", HeadExpression, 161, 24_557_120,
     "5a97f172f563ad9876ad2e092e4e123dcddb4c2d90774156698db5fe221bdaaf"),
    ("pose_model", HeadPose, 62, 11_179_590,
     "81c513e89939d45a2eb1d0f4ebf2f28a26bab20d7ad32005b28e14432b105372"),
    ("arcface_backbone", IResNet, 475, 43_590_848,
     "362bf123e346ca6dcb106e466f5efc7e3936a13455be1289098b5b35f7c0f85f"),
]  # fmt: skip
ADAPTERS = "b99ed8a264a899f1f590c6871725b54041d0c4629a0abeba1504155e2422710f"

TINY = UNetConfig(channels=(32, 32), heads=(1, 1), attention=(True, False), layers=1, condition=16)


def shapes(state: dict[str, torch.Tensor]) -> list[str]:
    return sorted(f"{key}\t{'x'.join(map(str, value.shape))}" for key, value in state.items())


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def on_meta(cls: type) -> nn.Module:
    with torch.device("meta"):
        return cls()


@pytest.mark.parametrize(
    ("name", "cls", "tensors", "parameters", "sha256"), OFFICIAL, ids=[o[0] for o in OFFICIAL]
)
def test_keys_and_shapes_are_the_official_ones(name, cls, tensors, parameters, sha256):
    module = on_meta(cls)
    lines = shapes(module.state_dict())
    assert len(lines) == tensors
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert digest(lines) == sha256


@pytest.mark.parametrize(("name", "cls"), [(o[0], o[1]) for o in OFFICIAL], ids=[o[0] for o in OFFICIAL])
def test_keys_and_shapes_match_the_lists(name, cls, shared_keys):
    listed = (shared_keys / f"actalker_keys_{name}.tsv").read_text().splitlines()
    assert shapes(on_meta(cls).state_dict()) == sorted(listed)


def test_adapter_file_order(request):
    unet = on_meta(ACTalkerUNet)
    state = unet.state_dict()
    names = adapter_names(unet)
    assert len(names) == 128
    assert digest(shapes({key: state[name] for key, name in names.items()})) == ADAPTERS
    assert (
        names["30.to_v_ip.1.weight"]
        == "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_v_ip.1.weight"
    )
    assert names["13.to_k_ip.0.weight"] == (
        "up_blocks.1.attentions.0.temporal_transformer_blocks.0.attn2.processor.to_k_ip.0.weight"
    )


def test_control_layers_are_where_they_should_be():
    keys = on_meta(ACTalkerUNet).state_dict()
    layers = {key.split(".mamba_blocks.")[0] for key in keys if ".mamba_blocks." in key}
    assert layers == {f"down_blocks.{i}.attentions.{j}" for i in range(3) for j in range(2)} | {
        f"up_blocks.{i}.attentions.{j}" for i in range(1, 4) for j in range(3)
    }


def test_wrong_checkpoint_lists_every_key():
    module = IdentityProjection()
    state = dict(module.state_dict())
    del state["proj1.bias"], state["proj3.weight"]
    state["proj4.weight"] = torch.zeros(2)
    state["proj2.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as error:
        load_strictly(module, state, "wrong.pth")
    text = str(error.value)
    assert "2 missing:\n  proj1.bias\n  proj3.weight" in text
    assert "1 unexpected:\n  proj4.weight" in text
    assert "1 mismatched:\n  proj2.bias: checkpoint (7,), model (1024,)" in text


def test_weights_are_assigned_to_a_meta_model_without_a_copy():
    state = {key: torch.randn_like(value) for key, value in IdentityProjection().state_dict().items()}
    module = on_meta(IdentityProjection)
    load_strictly(module, state, "x")
    assert module.proj2.weight.data_ptr() == state["proj2.weight"].data_ptr()


def test_pickles_with_code_are_refused(tmp_path):
    torch.save({"weight": print}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="not a checkpoint of plain tensors"):
        read_state(tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state(tmp_path / "absent.pth")


def test_adapters_are_written_into_the_unet():
    unet = ACTalkerUNet(TINY)
    names = adapter_names(unet)
    state = {key: torch.full_like(unet.get_parameter(name), i) for i, (key, name) in enumerate(names.items())}
    load_released_adapters(unet, state, "adapter_module-1.pth")
    for i, name in enumerate(names.values()):
        assert (unet.get_parameter(name) == i).all()
    with pytest.raises(CheckpointError, match="1 missing"):
        load_released_adapters(unet, dict(list(state.items())[1:]), "adapter_module-1.pth")


def test_training_starts_from_svd():
    unet = ACTalkerUNet(TINY)
    svd = {
        key: torch.randn_like(value)
        for key, value in unet.state_dict().items()
        if ".mamba_blocks." not in key and ".processor." not in key
    }
    initialise_from_svd(unet, svd, "svd")
    attention = unet.down_blocks[0].attentions[0].temporal_transformer_blocks[0].attn2
    assert torch.equal(attention.processor.to_k_ip[1].weight, attention.to_k.weight)
    assert torch.equal(unet.conv_in.weight, svd["conv_in.weight"])
    with pytest.raises(CheckpointError, match="unexpected"):
        initialise_from_svd(unet, {**svd, "extra": torch.zeros(1)}, "svd")


def test_motion_checkpoint_is_split():
    generator = {"expression_model.a": torch.zeros(1), "renderer.expression_model.b": torch.zeros(2)}
    expression, pose = motion_states({"generator": generator, "pose_model": {"c": torch.zeros(3)}}, "x")
    assert set(expression) == {"a"} and set(pose) == {"c"}
    with pytest.raises(CheckpointError, match="has no pose_model"):
        motion_states({"generator": {}}, "x")


def test_conversion_round_trip(tmp_path, monkeypatch, tiny_pipeline):
    """Tiny stand-ins of the released files become a folder whose networks hold the same numbers."""
    import actalker.released as released

    small = {
        "unet": tiny_pipeline.unet,
        "pose_guider": tiny_pipeline.conditioner.pose_guider,
        "audio_linear": tiny_pipeline.conditioner.audio_projection,
        "id_proj_model": tiny_pipeline.conditioner.identity_projection,
        "vasa_linear": tiny_pipeline.conditioner.motion_projection,
    }
    configs = {
        type(m): m.config
        for m in (
            *small.values(),
            *(getattr(tiny_pipeline.conditioner, p) for p in ("expression", "pose", "identity")),
        )
    }
    monkeypatch.setattr(released, "_on_meta", lambda cls: cls(configs[cls]).to("meta"))
    source = tmp_path / "released"
    source.mkdir()
    for name, module in small.items():
        torch.save(module.state_dict(), source / f"{name}-136000.pth")
    conditioner = tiny_pipeline.conditioner
    generator = {f"expression_model.{k}": v for k, v in conditioner.expression.state_dict().items()}
    torch.save({"generator": generator, "pose_model": conditioner.pose.state_dict()}, source / "MX31c_32k.ckpt")
    torch.save(conditioner.identity.state_dict(), source / "backbone.pth")
    for folder in (source / "svd" / "vae", source / "whisper"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    said: list[str] = []
    arguments = {
        "motion": source / "MX31c_32k.ckpt",
        "arcface": source / "backbone.pth",
        "svd": source / "svd",
        "whisper": source / "whisper",
        "out": tmp_path / "model",
        "dtype": torch.float32,
        "report": said.append,
    }
    convert(source, **arguments)
    assert len(said) == 10
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["components"]["codec"] == "actalker.codec:SVDCodec"
    unet = ACTalkerUNet.from_pretrained(tmp_path / "model" / "unet")
    assert unet.config == tiny_pipeline.unet.config
    for key, value in tiny_pipeline.unet.state_dict().items():
        assert torch.equal(unet.state_dict()[key], value)
    pose = HeadPose.from_pretrained(tmp_path / "model" / "conditioner" / "pose")
    assert torch.equal(pose.head_pose_net.fc.bias, conditioner.pose.head_pose_net.fc.bias)
    with pytest.raises(CheckpointError, match="exists already"):
        convert(source, **arguments)


def test_a_model_to_train_is_made_from_svd(tmp_path, monkeypatch, tiny_pipeline):
    """Without the trained files the UNet starts from Stable Video Diffusion's weights."""
    from safetensors.torch import save_file

    import actalker.released as released

    conditioner = tiny_pipeline.conditioner
    encoders = {type(m): m.config for m in (conditioner.expression, conditioner.pose, conditioner.identity)}
    monkeypatch.setattr(released, "_on_meta", lambda cls: cls(encoders[cls]).to("meta"))
    trained = {"unet": (ACTalkerUNet, "unet"), "vasa_linear": (MotionProjection, "conditioner/motion_projection")}
    monkeypatch.setattr(released, "_TRAINED", trained)
    monkeypatch.setattr(ACTalkerUNet, "Config", lambda: TINY)
    for folder in ("svd/vae", "svd/unet", "whisper"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
    svd = {k: torch.randn_like(v) for k, v in ACTalkerUNet(TINY).state_dict().items() if "_ip." not in k}
    svd = {k: v for k, v in svd.items() if ".mamba_blocks." not in k}
    save_file(svd, tmp_path / "svd" / "unet" / "diffusion_pytorch_model.safetensors")
    generator = {f"expression_model.{k}": v for k, v in conditioner.expression.state_dict().items()}
    torch.save({"generator": generator, "pose_model": conditioner.pose.state_dict()}, tmp_path / "motion.ckpt")
    torch.save(conditioner.identity.state_dict(), tmp_path / "backbone.pth")
    convert(
        None, motion=tmp_path / "motion.ckpt", arcface=tmp_path / "backbone.pth", svd=tmp_path / "svd",
        whisper=tmp_path / "whisper", out=tmp_path / "model", dtype=torch.float32,
    )  # fmt: skip
    stored = read_state(tmp_path / "model" / "unet" / "model.safetensors")
    assert torch.equal(stored["conv_out.weight"], svd["conv_out.weight"])
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    # Keys are copies, values start at zero: with signals present the model still computes what it started from.
    assert torch.equal(stored[f"{layer}.processor.to_k_ip.0.weight"], svd[f"{layer}.to_k.weight"])
    assert not stored[f"{layer}.processor.to_v_ip.0.weight"].any()


def test_failed_conversion_leaves_nothing(tmp_path):
    with pytest.raises(CheckpointError, match=r"must hold exactly one unet-\*\.pth; found: none"):
        convert(tmp_path, motion="m", arcface="a", svd=tmp_path, whisper=tmp_path, out=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_unknown_config_key_is_named(tmp_path):
    module = IdentityProjection()
    module.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "widths": 3}))
    with pytest.raises(CheckpointError, match="unknown config keys widths; known: condition, embedding, hidden"):
        IdentityProjection.from_pretrained(tmp_path)


def test_half_precision_and_scan_parameters():
    """The released script casts to half and then these parameters back, so they stay rounded."""
    for rounded in (True, False):
        unit = ScanUnit(32, 2, 16)
        exact = unit.A_logs.detach().clone()
        cast(unit, torch.float16, round_scan=rounded)
        assert unit.A_logs.dtype == torch.float32
        assert torch.equal(unit.A_logs, exact.half().float() if rounded else exact)
        assert unit.dt_projs_weight.dtype == torch.float16


@pytest.mark.parametrize(
    "control",
    [
        ControlConfig(),
        ControlConfig(scan="spatio-temporal", residual=True, state=4),
        ControlConfig(identity=False),
        ControlConfig(kind="cross-attention"),
        ControlConfig(kind="none"),
    ],
    ids=["released", "paper", "no-identity", "cross-attention", "none"],
)
def test_every_control_option_trains_and_is_stored(control, tmp_path):
    torch.manual_seed(0)
    config = UNetConfig(
        channels=(32, 32), heads=(1, 1), attention=(True, False), layers=1, condition=16, time_ids=0,
        temporal_masks=True, control=control,
    )  # fmt: skip
    unet = ACTalkerUNet(config)
    context = Context(torch.randn(2, 1, 1, 16), torch.randn(2, 3, 2, 16), torch.randn(2, 3, 1, 16))
    x = torch.randn(2, 3, 8, 8, 8)
    unet(x, torch.tensor([0.1, 0.7]), context).square().mean().backward()
    silent = [name for name, p in unet.named_parameters() if p.grad is None]
    # A query over one token is a constant, so identity and motion have no gradient in queries' and keys' weights.
    assert not [name for name in silent if not name.endswith(("attn2.to_k.weight", "to_k_ip.1.weight"))]
    unet.save_pretrained(tmp_path)
    again = ACTalkerUNet.from_pretrained(tmp_path)
    assert again.config == config
    with torch.no_grad():
        torch.testing.assert_close(again(x, 0.5, context), unet.eval()(x, 0.5, context))


def test_files_are_where_the_index_says():
    import importlib

    from actalker.released import _COMPONENTS, _PARTS

    for target in (*_COMPONENTS.values(), *_PARTS.values()):
        module, _, name = target.partition(":")
        assert hasattr(importlib.import_module(module), name), target
    assert Path(__file__).is_file()
