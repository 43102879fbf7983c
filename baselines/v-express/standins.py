"""Stand-in weights for V-Express: its networks with few layers, a small VAE and wav2vec2, a constant detector.

The widths that the code fixes (320 at the entrance, 768 for speech) are kept; everything that comes from the
downloaded configuration files is small.
"""

import json

from diffusers import AutoencoderKL
from modules import AudioProjection, UNet2DConditionModel, UNet3DConditionModel, VKpsGuider
from omegaconf import OmegaConf
from standins import save, save_insightface
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    Wav2Vec2Processor,
)

_SIDE = 64  # of the pictures in a rehearsal
_CROSS = 768  # as the code hands it
_SIZES = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": _SIDE // 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320] * 4,
    "layers_per_block": 1,
    "cross_attention_dim": _CROSS,
    "attention_head_dim": 8,
}


def make(root):
    """Save everything under model_ckpts/, where the README moves the download to."""
    weights = root / "model_ckpts"
    sizes = weights / "stable-diffusion-v1-5" / "unet" / "config.json"
    sizes.parent.mkdir(parents=True)
    sizes.write_text(json.dumps(_SIZES))
    own = weights / "v-express"
    save(own / "reference_net.bin", UNet2DConditionModel.from_config(str(sizes)).state_dict())
    extra = OmegaConf.load(root / "inference_v2.yaml").unet_additional_kwargs
    denoising = UNet3DConditionModel.from_config_2d(str(sizes), unet_additional_kwargs=extra).state_dict()
    save(own / "denoising_unet.bin", {k: v for k, v in denoising.items() if "motion_modules" not in k})
    save(own / "motion_module.bin", {k: v for k, v in denoising.items() if "motion_modules" in k})
    save(own / "v_kps_guider.bin", VKpsGuider(320, block_out_channels=(16, 32, 96, 256)).state_dict())
    projection = AudioProjection(
        dim=_CROSS,
        depth=4,
        dim_head=64,
        heads=12,
        num_queries=5,
        embedding_dim=768,
        output_dim=_CROSS,
        ff_mult=4,
        max_seq_len=10,
    )
    save(own / "audio_projection.bin", projection.state_dict())
    blocks = {"block_out_channels": (32,) * 4, "layers_per_block": 1, "norm_num_groups": 8}
    blocks["down_block_types"] = ("DownEncoderBlock2D",) * 4
    blocks["up_block_types"] = ("UpDecoderBlock2D",) * 4
    AutoencoderKL(**blocks).save_pretrained(weights / "sd-vae-ft-mse")
    speech = weights / "wav2vec2-base-960h"
    Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=1, intermediate_size=768)).save_pretrained(speech)
    (speech / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5}))
    words = Wav2Vec2CTCTokenizer(str(speech / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), words).save_pretrained(speech)
    save_insightface(weights / "insightface_models" / "models" / "buffalo_l", _SIDE)
