"""What a user of diffusers expects of a pipeline."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from actalker import ACTalkerPipeline
from actalker.codec import SVDCodec
from actalker.control import ControlConfig
from actalker.errors import CheckpointError, InputError
from actalker.schedule import ScheduleConfig
from actalker.unet import ACTalkerUNet, UNetConfig


@pytest.fixture
def tiny_pipeline(tiny_pipeline):
    """Without the window of padding, which more than doubles the work and means nothing to these tests."""
    settings = tiny_pipeline.config
    tiny_pipeline.config = replace(settings, sampler=replace(settings.sampler, circular=False))
    return tiny_pipeline


def clip(pipeline, *args, **kwargs) -> np.ndarray:
    return np.stack(list(pipeline(*args, **{"frames": 2, **kwargs})))


def test_it_is_a_diffusion_pipeline_of_three_parts(tiny_pipeline, portrait, speech):
    assert isinstance(tiny_pipeline, diffusers.DiffusionPipeline)
    again = ACTalkerPipeline(**tiny_pipeline.components, config=tiny_pipeline.config)
    assert np.array_equal(clip(again, portrait, speech), clip(tiny_pipeline, portrait, speech))
    assert (tiny_pipeline.device.type, tiny_pipeline.dtype) == ("cpu", torch.float32)


def test_pictures_and_sound_come_in_every_usual_form(tiny_pipeline, portrait, speech, tmp_path):
    Image.fromarray(portrait).save(tmp_path / "face.png")
    tensor = torch.from_numpy(portrait).permute(2, 0, 1)
    wanted = clip(tiny_pipeline, portrait, speech)
    pictures = [
        str(tmp_path / "face.png"), Image.fromarray(portrait), Image.fromarray(portrait).convert("RGBA"), tensor,
        tensor[None].float() / 255, portrait[None], portrait.astype(np.float32) / 255,
    ]  # fmt: skip
    for picture in pictures:
        assert np.array_equal(clip(tiny_pipeline, picture, speech), wanted)
    for sound in (torch.from_numpy(speech), torch.from_numpy(speech)[None]):
        assert np.array_equal(clip(tiny_pipeline, portrait, sound), wanted)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.full((8, 8, 3), 2.0), "values from 2 to 2"),
        (np.zeros((8, 8), np.uint8), "has shape"),
        (torch.zeros(8, 8, 3), "as a tensor has shape"),
        (np.zeros((8, 8, 3), np.int64), "int64 values"),
        (3, "is a int"),
    ],
)
def test_other_pictures_are_refused(tiny_pipeline, speech, picture, said):
    with pytest.raises(InputError, match=said):
        tiny_pipeline(picture, speech)


def test_driving_pictures_come_in_every_usual_form(tiny_pipeline, portrait, driving):
    wanted = clip(tiny_pipeline, portrait, video=driving[:4])
    tensor = torch.from_numpy(driving[:4]).permute(0, 3, 1, 2)
    for video in (tensor, [Image.fromarray(frame) for frame in driving[:4]]):
        assert np.array_equal(clip(tiny_pipeline, portrait, video=video), wanted)


def test_noise_comes_from_the_generator(tiny_pipeline, portrait, speech):
    by_seed = clip(tiny_pipeline, portrait, speech, seed=7)
    by_generator = clip(tiny_pipeline, portrait, speech, generator=torch.Generator().manual_seed(7))
    assert np.array_equal(by_seed, by_generator)


def test_steps_have_the_usual_name_and_are_reported(tiny_pipeline, portrait, speech):
    seen = []

    def watch(pipeline, step, time, values):
        assert pipeline is tiny_pipeline
        seen.append((step, float(time), tuple(values["latents"].shape)))
        return values

    made = clip(tiny_pipeline, portrait, speech, num_inference_steps=3, callback_on_step_end=watch)
    assert [step for step, _, _ in seen] == [0, 1, 2] and seen[0][1] == pytest.approx(0.25 * np.log(700))
    assert np.array_equal(made, clip(tiny_pipeline, portrait, speech, steps=3))
    flat = clip(
        tiny_pipeline, portrait, speech,
        callback_on_step_end=lambda p, step, time, values: {"latents": torch.zeros_like(values["latents"])},
    )  # fmt: skip
    assert flat.std() < made.std() / 2


@pytest.mark.parametrize(("kind", "type_"), [("pil", Image.Image), ("pt", torch.Tensor), ("np", np.ndarray)])
def test_frames_come_as_asked(tiny_pipeline, portrait, speech, kind, type_):
    (frame,) = tiny_pipeline(portrait, speech, frames=1, output_type=kind)
    assert isinstance(frame, type_)
    with pytest.raises(InputError, match="output_type"):
        tiny_pipeline(portrait, speech, output_type="jpeg")


def test_the_own_schedule_is_diffusers_euler(tiny_pipeline, portrait, speech):
    own = clip(tiny_pipeline, portrait, speech, steps=4)
    tiny_pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(tiny_pipeline.scheduler.config)
    assert np.abs(own.astype(int) - clip(tiny_pipeline, portrait, speech, steps=4)).max() <= 1


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_another_scheduler_takes_its_place(tiny_pipeline, portrait, speech, name):
    own = clip(tiny_pipeline, portrait, speech, steps=4)
    tiny_pipeline.scheduler = getattr(diffusers, name).from_config(tiny_pipeline.scheduler.config)
    made = clip(tiny_pipeline, portrait, speech, steps=4)
    assert not np.array_equal(made, own)
    assert np.array_equal(made, clip(tiny_pipeline, portrait, speech, steps=4))
    tiny_pipeline.scheduler = None
    assert np.array_equal(own, clip(tiny_pipeline, portrait, speech, steps=4))


def test_a_scheduler_that_asks_twice_a_step_is_refused(tiny_pipeline):
    with pytest.raises(InputError, match="more than once a step"):
        tiny_pipeline.scheduler = diffusers.HeunDiscreteScheduler()


def test_a_scheduler_is_stored_with_the_model(tiny_pipeline, tiny_conditioner, tmp_path, storable_parts):
    tiny_pipeline.scheduler = diffusers.UniPCMultistepScheduler.from_config(tiny_pipeline.scheduler.config)
    tiny_pipeline.save_pretrained(tmp_path)
    loaded = ACTalkerPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16, device="cpu")
    assert isinstance(loaded.scheduler, diffusers.UniPCMultistepScheduler) and loaded.dtype == torch.bfloat16
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "os"}')
    with pytest.raises(CheckpointError, match="no scheduler of diffusers"):
        ACTalkerPipeline.from_pretrained(tmp_path)


def test_moving_follows_torch(tiny_pipeline):
    unet = ACTalkerUNet(
        UNetConfig(channels=(32, 32), heads=(1, 1), attention=(True, False), layers=1, condition=24)
    )
    codec, conditioner = copy.deepcopy((tiny_pipeline.codec, tiny_pipeline.conditioner))  # other tests use them
    pipeline = ACTalkerPipeline(unet, codec, conditioner, tiny_pipeline.config)
    assert pipeline.to(torch.bfloat16).dtype == torch.bfloat16
    assert pipeline.to("cpu").dtype == torch.bfloat16
    assert pipeline.to(device="cpu", dtype=torch.float32, silence_dtype_warnings=True).dtype == torch.float32


def test_offloading_brings_each_part_only_while_it_works(tiny_pipeline, portrait, speech, monkeypatch):
    wanted = clip(tiny_pipeline, portrait, speech)
    moves = []
    tiny_pipeline.enable_model_cpu_offload(device="cpu")
    for name, part in tiny_pipeline.components.items():
        move = part.to
        monkeypatch.setattr(part, "to", lambda *a, name=name, move=move: (moves.append(name), move(*a))[1])
    assert np.array_equal(clip(tiny_pipeline, portrait, speech), wanted)
    both = ["conditioner", "codec", "codec", "conditioner"]
    assert moves == [*both, *both, "unet", "unet", "codec", "codec"]
    with pytest.raises(InputError, match="one by one"):
        tiny_pipeline.enable_sequential_cpu_offload()


def test_it_is_pushed_as_it_is_saved(tiny_pipeline, tmp_path, monkeypatch, storable_parts):
    from diffusers.pipelines import pipeline_utils

    pushed = {}
    monkeypatch.setattr(pipeline_utils, "create_repo", lambda name, **o: type("Repo", (), {"repo_id": name}))
    monkeypatch.setattr(pipeline_utils, "load_or_create_model_card", lambda *a, **o: _Card())
    monkeypatch.setattr(pipeline_utils, "populate_model_card", lambda card: card)
    monkeypatch.setattr(
        ACTalkerPipeline, "_upload_folder", lambda self, folder, repo, **o: pushed.update(folder=folder, repo=repo)
    )
    import diffusers.utils.hub_utils as hub

    for name in ("create_repo", "load_or_create_model_card", "populate_model_card"):
        if hasattr(hub, name):
            monkeypatch.setattr(hub, name, getattr(pipeline_utils, name))
    tiny_pipeline.push_to_hub("someone/talker")
    assert pushed["repo"] == "someone/talker"


class _Card:
    def save(self, path):
        Path(path).touch()


def test_ids_are_fetched_and_folders_are_not(tiny_pipeline, tmp_path, monkeypatch, storable_parts):
    import huggingface_hub

    tiny_pipeline.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **o: str(tmp_path / "model"))
    assert ACTalkerPipeline.from_pretrained("someone/talker", "cpu").config == tiny_pipeline.config


def test_parts_may_be_given_when_a_model_is_loaded(tiny_pipeline, tmp_path, storable_parts):
    tiny_pipeline.save_pretrained(tmp_path)
    unipc = diffusers.UniPCMultistepScheduler.from_config(tiny_pipeline.scheduler.config)
    loaded = ACTalkerPipeline.from_pretrained(
        tmp_path, "cpu", unet=tiny_pipeline.unet, scheduler=unipc, use_safetensors=True
    )
    assert loaded.unet is tiny_pipeline.unet and loaded.scheduler is unipc
    assert loaded.codec is not tiny_pipeline.codec
    again = ACTalkerPipeline.from_pipe(loaded, codec=tiny_pipeline.codec)
    assert (again.unet, again.codec, again.scheduler) == (loaded.unet, tiny_pipeline.codec, unipc)
    assert again.config == loaded.config
    with pytest.raises(InputError, match="knows no torchdtype"):
        ACTalkerPipeline.from_pretrained(tmp_path, torchdtype=torch.float16)


def test_storing_writes_into_the_folder_and_not_where_a_link_leads(
    tiny_pipeline, portrait, speech, tmp_path, storable_parts
):
    foreign = tmp_path / "foreign"
    foreign.write_text("mine")
    (tmp_path / "model" / "unet").mkdir(parents=True)
    links = [
        tmp_path / "model" / name for name in ("model_index.json", "unet/model.safetensors", "unet/config.json")
    ]
    for link in links:
        link.symlink_to(foreign)
    tiny_pipeline.save_pretrained(tmp_path / "model")
    assert foreign.read_text() == "mine" and not any(link.is_symlink() for link in links)
    loaded = ACTalkerPipeline.from_pretrained(tmp_path / "model", "cpu")
    assert np.array_equal(*(clip(p, portrait, speech, face=(10, 10, 30, 40)) for p in (loaded, tiny_pipeline)))


def test_given_noise_levels_are_the_steps(tiny_pipeline, portrait, speech):
    levels = diffusers.schedulers.AysSchedules["StableDiffusionVideoSigmas"][:-1]
    seen = []
    clip(
        tiny_pipeline, portrait, speech, sigmas=levels,
        callback_on_step_end=lambda p, step, time, values: seen.append(float(time)),
    )  # fmt: skip
    assert np.exp(4 * np.array(seen)) == pytest.approx(levels, rel=1e-4)
    karras = ScheduleConfig(steps=4)
    from actalker.schedule import EulerKarras

    same = tuple(EulerKarras(karras).levels()[:-1].tolist())
    by_hand = clip(tiny_pipeline, portrait, speech, sigmas=same)
    assert np.array_equal(by_hand, clip(tiny_pipeline, portrait, speech, steps=4))
    with pytest.raises(InputError, match="fall from step to step"):
        tiny_pipeline(portrait, speech, sigmas=(1, 2))


def test_guidance_may_be_limited_to_an_interval(tiny_pipeline, portrait, speech):
    calls = []
    options = {"steps": 4, "items_per_call": 1, "progress": lambda done, total: calls.append(done)}
    everywhere = clip(tiny_pipeline, portrait, speech, **options)
    guided = len(calls)
    whole = clip(tiny_pipeline, portrait, speech, guidance_interval=(0, 1e9), **options)
    assert np.array_equal(whole, everywhere)
    calls.clear()
    part = clip(tiny_pipeline, portrait, speech, guidance_interval=(1, 100), **options)
    assert len(calls) < guided and not np.array_equal(part, everywhere)


def test_inner_features_may_be_used_again(tiny_pipeline, portrait, speech):
    inner_calls = []
    tiny_pipeline.unet.mid_block.register_forward_hook(lambda *_: inner_calls.append(1))
    options = {"steps": 4, "frames": 6}
    everything = clip(tiny_pipeline, portrait, speech, **options)
    calls = len(inner_calls)
    assert np.array_equal(clip(tiny_pipeline, portrait, speech, cache_interval=1, **options), everything)
    inner_calls.clear()
    cached = clip(tiny_pipeline, portrait, speech, cache_interval=2, **options)
    assert 2 * len(inner_calls) == calls
    assert not np.array_equal(cached, everything)
    one_row_a_call = clip(tiny_pipeline, portrait, speech, cache_interval=2, items_per_call=1, **options)
    assert np.abs(one_row_a_call.astype(int) - cached).max() <= 1
    # A level of guidance that comes in between has nothing to use again.
    clip(tiny_pipeline, portrait, speech, cache_interval=4, guidance_interval=(1, 100), **options)
    with pytest.raises(InputError, match="cache_interval=0"):
        tiny_pipeline(portrait, speech, cache_interval=0)


@torch.no_grad()
def test_inner_features_of_the_same_input_change_no_bit(tiny_unet):
    from actalker.attention import Context
    from actalker.unet import InnerFeatures

    torch.manual_seed(0)
    ids = torch.tensor([[12.5, 12, 20]])
    context = Context(torch.randn(1, 1, 1, 24), torch.randn(1, 2, 3, 24), torch.randn(1, 2, 1, 24))
    first, second = torch.randn(2, 1, 2, 8, 8, 8)
    inner = InnerFeatures()
    wanted = tiny_unet(first, 0.3, context, time_ids=ids)
    assert torch.equal(tiny_unet(first, 0.3, context, time_ids=ids, inner=inner), wanted)
    assert torch.equal(tiny_unet(first, 0.3, context, time_ids=ids, inner=inner), wanted)
    other = tiny_unet(second, 0.3, context, time_ids=ids)
    assert not torch.equal(tiny_unet(second, 0.3, context, time_ids=ids, inner=inner), other)


def test_weights_may_be_kept_in_eight_bits(tiny_pipeline, portrait, speech):
    wanted = clip(tiny_pipeline, portrait, speech)
    tiny_pipeline.unet = copy.deepcopy(tiny_pipeline.unet)  # other tests use it
    size = sum(p.nbytes for p in tiny_pipeline.unet.parameters())
    tiny_pipeline.unet.enable_layerwise_casting()
    assert sum(p.nbytes for p in tiny_pipeline.unet.parameters()) < 0.5 * size
    assert tiny_pipeline.dtype == torch.float32
    made = clip(tiny_pipeline, portrait, speech)
    change = np.abs(made.astype(float) - wanted).mean()
    assert 0 < change < 0.5 * np.abs(wanted - wanted.mean()).mean()


class Enlarge:
    """A decoder that works on every cell by itself: three channels, twice the size."""

    config = SimpleNamespace(block_out_channels=(1, 1), latent_channels=4, scaling_factor=1.0)
    device, dtype = torch.device("cpu"), torch.float32

    def decode(self, latents, num_frames):
        assert len(latents) == num_frames
        return SimpleNamespace(sample=torch.nn.functional.interpolate(latents[:, :3], scale_factor=2))


@pytest.mark.parametrize("shape", [(20, 14), (9, 8), (8, 33)])
def test_tiles_of_the_decoder_blend_to_the_whole(shape):
    codec = SVDCodec(Enlarge())
    latents = torch.rand(2, 4, *shape)
    whole = codec.decode(latents)
    codec.tile = 8
    torch.testing.assert_close(codec.decode(latents), whole)


def test_slicing_and_tiling_are_settings(tiny_pipeline, portrait, speech):
    tiny_pipeline.enable_vae_slicing()
    assert tiny_pipeline.config.decode_chunk == 1
    tiny_pipeline.disable_vae_slicing()
    assert tiny_pipeline.config.decode_chunk == 4
    with pytest.raises(InputError, match="no tiles"):
        tiny_pipeline.enable_vae_tiling()
    svd = ACTalkerPipeline(tiny_pipeline.unet, SVDCodec(diffusers.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",), block_out_channels=(32,), layers_per_block=1
    )), tiny_pipeline.conditioner)  # fmt: skip
    svd.enable_vae_tiling(16)
    assert svd.codec.tile == 16 and svd.vae is svd.codec.vae
    svd.disable_vae_tiling()
    assert svd.codec.tile is None


def test_low_rank_adaptations_are_trained_stored_and_merged(tmp_path, tiny_pipeline):
    pytest.importorskip("peft", reason="the peft package is not installed")
    from actalker.attention import Context
    from actalker.lora import add_lora, fuse_lora, save_lora

    config = UNetConfig(
        channels=(32, 32), heads=(1, 1), attention=(True, False), layers=1, condition=24, time_ids=0,
        control=ControlConfig(residual=True),
    )  # fmt: skip
    torch.manual_seed(0)
    start = ACTalkerUNet(config)
    unet = ACTalkerUNet(config)
    unet.load_state_dict(start.state_dict())
    add_lora(unet, rank=2)
    trained = [p for p in unet.parameters() if p.requires_grad]
    assert trained and sum(p.numel() for p in trained) < sum(p.numel() for p in start.parameters()) / 10
    x, context = torch.randn(1, 2, 8, 8, 8), Context(torch.randn(1, 1, 1, 24), torch.randn(1, 2, 3, 24), None)
    optimiser = torch.optim.SGD(trained, 1.0)
    for _ in range(2):
        optimiser.zero_grad()
        unet(x, 0.3, context).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        wanted = unet(x, 0.3, context)
    save_lora(unet, tmp_path / "lora")
    fuse_lora(unet)
    assert set(unet.state_dict()) == set(start.state_dict())
    pipeline = ACTalkerPipeline(start, tiny_pipeline.codec, tiny_pipeline.conditioner)
    pipeline.load_lora_weights(tmp_path / "lora")
    with torch.no_grad():
        torch.testing.assert_close(pipeline.unet(x, 0.3, context), wanted, rtol=1e-4, atol=1e-5)
    assert set(start.state_dict()) == set(unet.state_dict())


def test_low_rank_adaptations_need_peft(tmp_path, tiny_pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    from actalker.errors import MissingPackageError

    with pytest.raises(MissingPackageError, match="peft"):
        tiny_pipeline.load_lora_weights(tmp_path)


def test_a_model_of_clean_latents_has_no_scheduler(tiny_pipeline):
    sampler = replace(tiny_pipeline.config.sampler, schedule=ScheduleConfig(kind="flow"))
    tiny_pipeline.config = replace(tiny_pipeline.config, sampler=sampler)
    assert tiny_pipeline.scheduler is None
    with pytest.raises(InputError, match="its own schedule"):
        tiny_pipeline.scheduler = diffusers.EulerDiscreteScheduler()
