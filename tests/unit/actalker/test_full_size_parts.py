"""Stable Video Diffusion's autoencoder and Whisper behind the package's interfaces, at toy sizes."""

from __future__ import annotations

import numpy as np
import public_models as public
import pytest
import torch

from actalker.codec import SVDCodec
from actalker.components import AudioEncoder, Codec
from actalker.conditioning.whisper import WhisperEncoder, log_mel
from actalker.errors import CheckpointError


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
    encoder = WhisperEncoder.from_pretrained(public.write_whisper(tmp_path / "published"))
    assert isinstance(encoder, AudioEncoder)
    second = torch.from_numpy(np.sin(np.arange(16_000) / 30).astype(np.float32))
    features = encoder.encode(second)
    assert features.shape == (50, 2, 16)
    encoder.save_pretrained(tmp_path / "again")
    assert torch.equal(WhisperEncoder.from_pretrained(tmp_path / "again").encode(second), features)
    with pytest.raises(CheckpointError, match="it is not Whisper"):
        WhisperEncoder.from_pretrained(tmp_path)


def test_whisper_hears_where_a_tone_lies():
    """A pure tone's energy lies in the band whose centre it is: 80 bands, evenly spaced up to 8 kHz on Slaney's
    scale, which is linear (200/3 Hz) up to 1 kHz and logarithmic (27 steps per factor 6.4) above."""
    spacing = (15 + 27 * np.log(8) / np.log(6.4)) / 81
    for hertz, mel in ((200, 3), (1000, 15), (4000, 15 + 27 * np.log(4) / np.log(6.4))):
        band = round(mel / spacing - 1)
        tone = torch.sin(torch.arange(16_000) * (2 * np.pi * hertz / 16_000))
        assert abs(int(log_mel(tone, 80, 1.0).mean(1).argmax()) - band) <= 1


@torch.no_grad()
def test_whisper_is_the_published_encoder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the transformers package is not installed")
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=50, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    theirs = transformers.WhisperModel(config).eval()
    theirs.save_pretrained(tmp_path)
    sound = np.random.default_rng(0).normal(scale=0.1, size=50_000).astype(np.float32)
    mel = transformers.WhisperFeatureExtractor()(sound, sampling_rate=16_000, return_tensors="pt").input_features
    hidden = theirs.encoder(mel, output_hidden_states=True).hidden_states
    wanted = torch.stack(hidden, 2)[0, :156]
    got = WhisperEncoder.from_pretrained(tmp_path).encode(torch.from_numpy(sound))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_attention_in_parts_is_attention(monkeypatch):
    """In parts of the batch, the same rows; half precision and training stay whole."""
    from actalker import attention

    torch.manual_seed(0)
    q, k, v = torch.randn(7, 2, 5, 8), torch.randn(7, 2, 9, 8), torch.randn(7, 2, 9, 8)
    whole = attention.attend(q, k, v)
    sizes = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        attention.F, "scaled_dot_product_attention", lambda *a: (sizes.append(len(a[0])), fused(*a))[1]
    )
    monkeypatch.setattr(attention, "SCORES_BYTES", 3 * 2 * 5 * 9 * 4)
    torch.testing.assert_close(attention.attend(q, k, v), whole)
    attention.attend(q.half(), k.half(), v.half())
    with torch.enable_grad():
        attention.attend(q, k, v)
    assert sizes == [3, 3, 1, 7, 7]
