"""A model to train, made from public models alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import public_models as public
import pytest
import torch

from actalker.attention import Context
from actalker.checkpoints import read_state
from actalker.components import Face
from actalker.conditioning.blendshapes import Blendshapes, HeadMatrix
from actalker.conditioning.identity import IdentityProjection, OnnxIdentity
from actalker.control import ControlConfig
from actalker.errors import CheckpointError, InputError
from actalker.faces import head_position
from actalker.hub import resolve
from actalker.masks import ControlMasks
from actalker.released import convert
from actalker.unet import ACTalkerUNet


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("public")
    public.write_svd(root / "svd")
    public.write_whisper(root / "whisper")
    public.write_onnx_arcface(root / "arcface.onnx", embedding=512, size=112)
    return root


@pytest.fixture(scope="module")
def model(sources):
    out = sources / "model"
    convert(
        None, motion="blendshapes", arcface=sources / "arcface.onnx", svd=sources / "svd",
        whisper=sources / "whisper", out=out, dtype=torch.float32, image_size=64,
    )  # fmt: skip
    return out


@torch.no_grad()
@pytest.mark.parametrize("signals", [(), ("audio",), ("motion",), ("audio", "motion")])
def test_step_zero_is_stable_video_diffusion(sources, model, signals):
    """Against diffusers' own class, with and without driving signals."""
    from diffusers import UNetSpatioTemporalConditionModel

    ours = ACTalkerUNet.from_pretrained(model / "unet").double()
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(sources / "svd" / "unet").double().eval()
    torch.manual_seed(3)
    sample, ids = torch.randn(2, 3, 8, 16, 16).double(), torch.tensor([[12.0, 30.0, 0.0]]).double()
    identity = torch.randn(2, 1, 1, public.CONDITION).double()
    tokens = {"audio": torch.randn(2, 3, 5, public.CONDITION), "motion": torch.randn(2, 3, 1, public.CONDITION)}
    given = {name: tokens[name].double() if name in signals else None for name in tokens}
    got = ours(sample, 0.5, Context(identity, **given), ControlMasks(), ids)
    wanted = theirs(sample, torch.tensor(0.5), identity[:, 0], ids.expand(2, -1)).sample
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)  # sinusoids are single precision in both


@torch.no_grad()
@pytest.mark.parametrize("signals", [False, True])
def test_untrained_control_changes_no_bit(model, signals):
    """The control layers of a new model, against the same network without any."""
    unet = ACTalkerUNet.from_pretrained(model / "unet")
    plain = ACTalkerUNet(replace(unet.config, control=ControlConfig(kind="none"))).eval()
    plain.load_state_dict({k: v for k, v in unet.state_dict().items() if ".mamba_blocks." not in k})
    torch.manual_seed(4)
    sample, ids = torch.randn(1, 2, 8, 16, 16), torch.tensor([[12.0, 30.0, 0.0]])
    audio = torch.randn(1, 2, 5, public.CONDITION) if signals else None
    motion = torch.randn(1, 2, 1, public.CONDITION) if signals else None
    context = Context(torch.randn(1, 1, 1, public.CONDITION), audio, motion)
    assert torch.equal(unet(sample, 0.5, context, None, ids), plain(sample, 0.5, context, None, ids))


def test_sizes_follow_the_public_models(model):
    unet = ACTalkerUNet.from_pretrained(model / "unet").config
    assert (unet.channels, unet.heads, unet.attention, unet.layers) == ((32, 64), (1, 2), (True, False), 1)
    assert (unet.condition, unet.time_ids, unet.time_id_channels) == (32, 3, 32)
    assert unet.control.residual


def test_motion_comes_from_the_face_itself():
    face = Face((0, 0, 8, 8), blendshapes=tuple(i / 52 for i in range(52)), head=(1, 2, 3, 4, 5, 6))
    assert Blendshapes().read(face).shape == (1, 52) and HeadMatrix().read(face).tolist() == [[1, 2, 3, 4, 5, 6]]
    with pytest.raises(InputError, match="52 blendshapes"):
        Blendshapes().read(Face((0, 0, 8, 8)))
    with pytest.raises(InputError, match="matrix"):
        HeadMatrix().read(Face((0, 0, 8, 8)))


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 0, 0), (0, -25, 0), (0, 0, 40), (12, 33, -7)])
def test_head_position_reads_the_angles_of_a_rotation(angles):
    pitch, yaw, roll = np.radians(angles)
    x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = z @ y @ x, (1, -2, -40)
    assert head_position(matrix) == pytest.approx((*angles, 0.1, -0.2, -4.0))


def test_identity_may_be_an_onnx_file(tmp_path):
    encoder = OnnxIdentity(public.write_onnx_arcface(tmp_path / "small.onnx"))
    assert (encoder.config.embedding, encoder.config.size) == (8, 32)
    head = torch.rand(3, 3, 32, 32)
    encoder.save_pretrained(tmp_path / "stored")
    again = OnnxIdentity.from_pretrained(tmp_path / "stored")
    assert torch.equal(encoder(head), again(head)) and encoder(head).shape == (3, 8)
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not an identity network"):
        OnnxIdentity(tmp_path / "bad.onnx")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": state, "step": 3},
        lambda state: {"state_dict": {k: v + 1 for k, v in state.items()}, "ema": state},
        lambda state: {"model": {f"module._orig_mod.{k}": v for k, v in state.items()}},
    ],
    ids=["module", "compiled", "nested", "ema", "both"],
)
def test_wrapped_checkpoints_load_with_a_note(tmp_path, wrap):
    state = IdentityProjection(IdentityProjection.Config(4, 4, 4)).state_dict()
    torch.save(wrap(state), tmp_path / "x.pth")
    notes = []
    read = read_state(tmp_path / "x.pth", notes.append)
    assert notes and set(read) == set(state)
    assert all(torch.equal(read[key], state[key]) for key in state)


def test_an_unwrapped_checkpoint_needs_no_note(tmp_path):
    torch.save({"module.a": torch.zeros(1), "b": torch.ones(1)}, tmp_path / "x.pth")
    notes = []
    assert set(read_state(tmp_path / "x.pth", notes.append)) == {"module.a", "b"} and not notes


def test_hub_ids_are_looked_up_locally_when_offline(tmp_path, monkeypatch):
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        resolve(tmp_path / "absent" / "deep")
    with pytest.raises(CheckpointError, match="not found in the local hub cache"):
        resolve("nobody/nothing", offline=True, cache_dir=tmp_path)
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **o: asked.update(name=name, **o) or "x"
    )
    resolve("openai/whisper-tiny", ("config.json",), revision="main")
    assert asked["name"] == "openai/whisper-tiny" and asked["revision"] == "main"
    assert asked["allow_patterns"] == ["config.json"] and asked["local_files_only"] is False


def test_released_files_need_the_released_motion_encoders(sources, tmp_path):
    for name in ("unet", "pose_guider", "audio_linear", "id_proj_model", "vasa_linear"):
        torch.save({}, tmp_path / f"{name}-1.pth")
    with pytest.raises(CheckpointError, match="not with blendshapes"):
        convert(
            tmp_path, arcface="a", svd=sources / "svd", whisper=sources / "whisper", out=tmp_path / "model"
        )  # fmt: skip
