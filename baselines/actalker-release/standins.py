"""Stand-in weights for the released ACTalker: its own networks, few layers, and a scan in plain torch.

The widths and the 72 x 72 latents that the code fixes are kept (its scan is built for 576 pixels). `mamba_ssm`,
whose kernels need CUDA, is written beside the program as a loop over positions. The face detector sees one face in
the middle; what refines its points answers always the same.
"""

import json
from typing import List, Tuple

import numpy
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
from src.dataset.vasa_feature_v2 import HeadExpression, HeadPose_train
from src.models.audio_adapter.audio_proj import AudioProjModel, IDProjModel, VasaProjModel
from src.models.audio_adapter.pose_guider import PoseGuider
from src.models.base.unet_spatio_temporal_condition import add_ip_adapters
from src.models.base.unet_spatio_temporal_condition_mambaID_v10_two_ip import UNetSpatioTemporalConditionModel
from src.utils.arcface import get_model
from src.utils.RIFE.IFNet_HDv3 import IFNet
from standins import ring, save, save_safetensors
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

_SIZES = {
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
    "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
    "block_out_channels": [320, 320],
    "num_attention_heads": [5, 5],
    "layers_per_block": 1,
}
_SCAN = '''
import torch
import torch.nn.functional as F


def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, **_):
    """(batch, channels, length) -> the same; B and C are (batch, groups, state, length)."""
    step = delta.float() + (0 if delta_bias is None else delta_bias.float()[:, None])
    step = F.softplus(step) if delta_softplus else step
    width = u.shape[1] // B.shape[1]
    B, C = B.repeat_interleave(width, 1), C.repeat_interleave(width, 1)
    state = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    out = torch.empty_like(u)
    for i in range(u.shape[2]):
        now = step[:, :, i, None]
        state = torch.exp(now * A) * state + now * B[..., i] * u[:, :, i, None]
        out[:, :, i] = (state * C[..., i]).sum(-1)
    return out if D is None else out + D[:, None] * u


selective_scan_ref = selective_scan_fn
'''


class OneFace(torch.nn.Module):
    """A detector: one box in the middle, six tenths of the picture."""

    def forward(self, picture: Tensor, grids: List[Tensor]) -> Tensor:
        height, width = float(picture.shape[2]), float(picture.shape[3])
        places = [0.5, 0.5, 0.6, 0.6, 1.0, 0.38, 0.42, 0.62, 0.42, 0.5, 0.55, 0.4, 0.68, 0.6, 0.68, 1.0]
        row = torch.tensor(places)
        for i in range(16):
            if i != 4 and i != 15:
                row[i] = row[i] * (width if i % 2 == (0 if i < 4 else 1) else height)
        return row.view(1, 1, 16)


class Points(torch.nn.Module):
    """The first of two refinements: points, a confidence, visibility."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.register_buffer("points", points)

    def forward(self, picture: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        return self.points, torch.full([1, 1], 5.0), torch.ones(1, 117)


class Parts(torch.nn.Module):
    """The second: points of eyes and mouth, visibility."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.register_buffer("points", points)

    def forward(self, picture: Tensor) -> Tuple[Tensor, Tensor]:
        return self.points, torch.ones(1, 158)


def make(root):
    """Save everything where config/inference.yaml and src/dataset/test_preprocess.py look for it."""
    scan = root / "mamba_ssm" / "ops" / "selective_scan_interface.py"
    scan.parent.mkdir(parents=True)
    scan.write_text(_SCAN)
    for folder in (scan.parent, scan.parent.parent):
        (folder / "__init__.py").touch()
    base = root / "stable-video-diffusion-img2vid-xt-1-1"
    small = AutoencoderKLTemporalDecoder(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
    )
    small.save_pretrained(base / "vae", variant="fp16")
    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
    ).save_pretrained(base / "scheduler")
    network = UNetSpatioTemporalConditionModel(**_SIZES)
    # Its own configuration names a class, which no JSON holds.
    save_safetensors(base / "unet" / "diffusion_pytorch_model.fp16.safetensors", network.state_dict())
    (base / "unet" / "config.json").write_text(json.dumps(_SIZES))
    adapters = add_ip_adapters(network, [32, 32], [1.0, 1.0])
    states = {
        "unet": network,
        "adapter_module": adapters,
        "pose_guider": PoseGuider(conditioning_embedding_channels=320, block_out_channels=(16, 32, 96, 256)),
        "audio_linear": AudioProjModel(
            seq_len=10, blocks=5, channels=384, intermediate_dim=1024, output_dim=1024, context_tokens=32
        ),
        "id_proj_model": IDProjModel(input_dim=512, output_dim=1024, intermediate_dim=1024),
        "vasa_linear": VasaProjModel(input_dim=512, output_dim=1018),
    }
    for name, part in states.items():
        save(root / "tmp-136000" / (name + "-136000.pth"), part.state_dict())
    expression = {"expression_model." + key: value for key, value in HeadExpression(512).state_dict().items()}
    pose = HeadPose_train().state_dict()
    save(root / "vasa_feat" / "MX31c_32k.ckpt", {"generator": expression, "pose_model": pose})
    extra = root / "enhance_model"
    sizes = {"encoder_layers": 4, "decoder_layers": 1, "encoder_attention_heads": 6, "decoder_attention_heads": 6}
    WhisperModel(WhisperConfig(d_model=384, **sizes)).save_pretrained(extra / "whisper-tiny")
    WhisperFeatureExtractor().save_pretrained(extra / "whisper-tiny")
    save(extra / "RIFE" / "flownet.pkl", {"module." + key: value for key, value in IFNet().state_dict().items()})
    save(extra / "arc2face" / "arcface_torch_models" / "backbone.pth", get_model("r50").state_dict())
    align = extra / "yt_align"
    align.mkdir()
    points = [ring(39, (96, 110), 20), ring(39, (160, 110), 20), ring(39, (128, 180), 30)]
    parts = [ring(43, (128, 128), 40), ring(43, (128, 128), 40), ring(72, (128, 128), 50)]
    for name, network in (
        ("yoloface_v5l.pt", OneFace()),
        ("p1.pt", Points(torch.from_numpy(numpy.concatenate(points)).view(1, 234))),
        ("p2.pt", Parts(torch.from_numpy(numpy.concatenate(parts)).view(1, 316))),
    ):
        torch.jit.script(network).save(str(align / name))
