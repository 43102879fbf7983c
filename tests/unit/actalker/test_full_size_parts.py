"""Stable Video Diffusion's autoencoder and Whisper behind the package's interfaces, at toy sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actalker.codec import SVDCodec
from actalker.components import AudioEncoder, Codec


@pytest.fixture
def vae():
    try:
        from diffusers import AutoencoderKLTemporalDecoder
    except RuntimeError as error:  # diffusers imports torchvision where there is one, even a broken one
        pytest.skip(f"diffusers cannot import its autoencoders here: {error}")
    torch.manual_seed(0)
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 3,
        block_out_channels=(32, 32, 32),
        layers_per_block=1,
    ).eval()


@torch.no_grad()
def test_autoencoder(vae, tmp_path):
    codec = SVDCodec(vae)
    assert isinstance(codec, Codec)
    assert (codec.stride, codec.latent_channels, codec.scaling) == (4, 4, 0.18215)
    images = torch.rand(3, 3, 32, 24) * 2 - 1
    latents = codec.encode(images)
    assert latents.shape == (3, 4, 8, 6)
    torch.testing.assert_close(latents, vae.encode(images).latent_dist.mean)
    assert codec.decode(latents).shape == images.shape
    codec.save_pretrained(tmp_path)
    again = SVDCodec.from_pretrained(tmp_path)
    torch.testing.assert_close(again.encode(images), latents)


@torch.no_grad()
def test_autoencoder_encodes_in_single_precision(vae):
    """The encoder overflows in half; the stored precision comes back afterwards."""
    codec = SVDCodec(vae).to(torch.bfloat16)
    latents = codec.encode(torch.rand(1, 3, 32, 32))
    assert latents.dtype == torch.float32
    assert next(codec.parameters()).dtype == torch.bfloat16


def test_whisper(tmp_path):
    transformers = pytest.importorskip("transformers")
    from actalker.conditioning.whisper import WhisperEncoder

    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=50, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperModel(config).save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    encoder = WhisperEncoder.from_pretrained(tmp_path)
    assert isinstance(encoder, AudioEncoder)
    second = torch.from_numpy(np.sin(np.arange(16_000) / 30).astype(np.float32))
    features = encoder.encode(second)
    assert features.shape == (50, 5, 32)
    # The last layer is the one after the final norm, the first the embedded spectrogram.
    torch.testing.assert_close(features[:, 4].mean(-1), torch.zeros(50), atol=1e-5, rtol=0)
    encoder.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(WhisperEncoder.from_pretrained(tmp_path / "again").encode(second), features)
