"""The pipeline with tiny networks: inputs, gates, length, windows, errors, storage."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actalker import media
from actalker.attention import Context
from actalker.conditioning.portrait import PortraitConditioner
from actalker.conditions import Conditions
from actalker.errors import CheckpointError, InputError, MissingPackageError, OutOfMemoryError
from actalker.gates import GATES
from actalker.guidance import Guidance, guidance_rows
from actalker.pipeline import ACTalkerPipeline, choose_device, load_component
from actalker.sampler import SamplerConfig, denoise
from actalker.schedule import ScheduleConfig
from actalker.unet import ACTalkerUNet, UNetConfig


def clip(pipeline, *args, **kwargs) -> np.ndarray:
    return np.stack(list(pipeline(*args, **kwargs)))


def test_audio_needs_no_video(tiny_pipeline, portrait, speech):
    generated = tiny_pipeline(portrait, audio=speech)
    frames = list(generated)
    assert len(frames) == len(generated) == 12  # one second at 12.5 fps
    assert frames[0].shape == (generated.height, generated.width, 3) == (32, 32, 3)
    assert frames[0].dtype == np.uint8


def test_video_needs_no_audio(tiny_pipeline, portrait, driving):
    assert clip(tiny_pipeline, portrait, video=driving, frames=6).shape == (6, 32, 32, 3)


def test_seed_decides_the_clip(tiny_pipeline, portrait, speech):
    a, b, c = (clip(tiny_pipeline, portrait, audio=speech, frames=4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_closed_signal_is_ignored(tiny_pipeline, portrait, speech, driving):
    alone = clip(tiny_pipeline, portrait, audio=speech, frames=4)
    with_video = clip(tiny_pipeline, portrait, audio=speech, video=driving, gate="audio", frames=4)
    joint = clip(tiny_pipeline, portrait, audio=speech, video=driving, frames=4)
    assert np.array_equal(alone, with_video)
    assert not np.array_equal(alone, joint)


def test_each_signal_reaches_the_picture(tiny_pipeline, portrait, speech, driving):
    base = clip(tiny_pipeline, portrait, audio=speech, video=driving, frames=4)
    assert not np.array_equal(
        base, clip(tiny_pipeline, portrait, audio=speech[::-1].copy(), video=driving, frames=4)
    )
    assert not np.array_equal(
        base, clip(tiny_pipeline, portrait, audio=speech, video=driving[::-1].copy(), frames=4)
    )


def test_items_per_call_changes_memory_not_the_clip(tiny_pipeline, portrait, speech):
    one = clip(tiny_pipeline, portrait, audio=speech, frames=7, items_per_call=1)
    many = clip(tiny_pipeline, portrait, audio=speech, frames=7, items_per_call=8)
    assert np.abs(one.astype(int) - many).max() <= 1


def test_long_clip_is_made_of_segments(tiny_pipeline, portrait, speech):
    config = replace(tiny_pipeline.config, segment_frames=5, segment_overlap=2)
    pipeline = ACTalkerPipeline(tiny_pipeline.unet, tiny_pipeline.codec, tiny_pipeline.conditioner, config)
    first_calls: list[int] = []
    generated = pipeline(portrait, audio=speech, progress=lambda done, of: first_calls.append(done))
    iterator = iter(generated)
    next(iterator)
    calls_before_first_frame = len(first_calls)
    frames = [1, *iterator]
    assert len(frames) == 12
    # The first frames come out before the later segments are computed.
    assert calls_before_first_frame < len(first_calls) / 2


def test_speech_is_encoded_in_chunks_as_it_is_needed(tiny_pipeline, tiny_conditioner, portrait, speech):
    encoder = tiny_conditioner.audio_encoder
    whole = clip(tiny_pipeline, portrait, audio=speech)
    encoder.chunk_seconds, encoder.chunks = 0.4, 0
    try:
        generated = tiny_pipeline(portrait, audio=speech)
        assert encoder.chunks == 0
        in_chunks = np.stack(list(generated))
    finally:
        encoder.chunk_seconds = None
    assert encoder.chunks == 3
    assert np.array_equal(whole, in_chunks)


def conditions_for(tiny_pipeline: ACTalkerPipeline, gate: str, frames: int) -> Conditions:
    torch.manual_seed(5)
    face = torch.zeros(1, 1, 32, 32)
    face[..., 4:28, 8:24] = 1
    mouth = torch.zeros(1, 1, 32, 32)
    mouth[..., 16:28, 8:24] = 1
    from actalker.masks import control_masks

    gates = GATES[gate]
    return Conditions(
        reference=torch.randn(1, 1, 4, 8, 8),
        identity=torch.randn(1, 1, 1, 24),
        audio=torch.randn(1, frames, 3, 24) if gates.audio else None,
        silence=torch.randn(1, 1, 3, 24) if gates.audio else None,
        motion=torch.randn(1, frames, 1, 24) if gates.visual else None,
        stillness=torch.randn(1, 1, 1, 24) if gates.visual else None,
        masks=control_masks(face, mouth, audio=gates.audio, visual=gates.visual, mode="paper"),
        spatial=torch.randn(1, 1, 32, 8, 8),
    )


@pytest.mark.parametrize("gate", list(GATES))
def test_result_equals_the_straightforward_path(tiny_pipeline, tiny_unet, straightforward, gate):
    """Merged rows, constants for single tokens, shared keys, skipped branches: the same numbers.

    In double precision, where the order of a sum cannot hide a wrong term; sinusoids stay single, hence 1e-6.
    """
    frames = 5
    conditions = conditions_for(tiny_pipeline, gate, frames).to(torch.device("cpu"), torch.float64)
    tiny_unet = copy.deepcopy(tiny_unet).double()
    config = SamplerConfig(schedule=ScheduleConfig(steps=3, sigma_max=20.0), window=5, shift=2)
    generator = torch.Generator().manual_seed(0)
    ours = denoise(tiny_unet, conditions, frames, GATES[gate], config, 0.5, generator)
    with straightforward.straightforward():
        theirs = released_sampler(tiny_unet, straightforward, conditions, frames, config, 0.5)
    assert ours.abs().mean() > 0.1
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def released_sampler(unet, straightforward, conditions, frames, config, scaling):
    """§4.3-4.5 of the model's description, written out: 4 rows, circular windows, Euler on Karras sigmas."""
    W, total = config.window, frames + config.window
    noise = torch.randn(1, total, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    z = conditions.reference
    ramp = torch.linspace(0, 1, config.schedule.steps, dtype=torch.float64)
    top, bottom = config.schedule.sigma_max ** (1 / 7), config.schedule.sigma_min ** (1 / 7)
    sigmas = [float((top + r * (bottom - top)) ** 7) for r in ramp] + [0.0]
    x = z * scaling + config.schedule.sigma_max * noise
    context, weights = straightforward.four_rows(config.guidance, conditions.padded(W), 3, 1, total)
    image = torch.cat([z * 0, z, z, z]).expand(-1, W, -1, -1, -1)
    ids = torch.tensor([list(config.time_ids)]).expand(4, -1)
    for j in range(len(sigmas) - 1):
        sigma, following = sigmas[j], sigmas[j + 1]
        summed, hits = torch.zeros_like(x), torch.zeros(total, dtype=x.dtype)
        for start in range(0, total, W):
            w = (start - config.shift * j % W + torch.arange(W)) % total
            inputs = (x[:, w] / (sigma**2 + 1) ** 0.5).expand(4, -1, -1, -1, -1)
            from actalker.attention import Context

            local = Context(context.identity, context.audio[:, w], context.motion[:, w])
            v = unet(
                torch.cat([inputs, image], 2),
                torch.tensor(0.25 * np.log(sigma)),
                local,
                conditions.masks,
                ids,
                conditions.spatial,
            )
            v = sum(weight * row for weight, row in zip(weights, v, strict=True))
            x0 = x[0, w] / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5
            summed[0, w] += x[0, w] + (x[0, w] - x0) / sigma * (following - sigma)
            hits[w] += 1
        x = summed / hits[None, :, None, None, None]
    return x[:, :frames]


@pytest.mark.parametrize(("gate", "rows"), [("audio", 3), ("visual", 3), ("audio+visual", 4)])
def test_single_gates_need_three_rows(gate, rows):
    merged = guidance_rows(Guidance(), GATES[gate])
    assert len(merged) == rows
    assert sum(row.weight for row in merged) == pytest.approx(1)


def test_no_guidance_needs_one_row():
    (row,) = guidance_rows(Guidance(1, 1, 1), GATES["audio+visual"])
    assert (row.appearance, row.audio, row.motion, row.weight) == (True, True, True, 1)


def test_stored_pipeline_makes_the_same_clip(
    tiny_pipeline, tiny_conditioner, portrait, speech, tmp_path, storable_parts
):
    before = clip(tiny_pipeline, portrait, audio=speech, frames=3)
    tiny_pipeline.save_pretrained(tmp_path / "model")
    loaded = ACTalkerPipeline.from_pretrained(tmp_path / "model", device="cpu")
    loaded.conditioner._finder = tiny_conditioner.finder
    assert loaded.config == tiny_pipeline.config
    assert np.array_equal(before, clip(loaded, portrait, audio=speech, frames=3))


def test_half_precision_runs(tiny_pipeline, portrait, speech):
    pipeline = ACTalkerPipeline(
        copy.deepcopy(tiny_pipeline.unet),
        copy.deepcopy(tiny_pipeline.codec),
        tiny_pipeline.conditioner,
        tiny_pipeline.config,
    ).to("cpu", torch.bfloat16)
    assert clip(pipeline, portrait, audio=speech, frames=2).shape == (2, 32, 32, 3)
    unit = pipeline.unet.down_blocks[0].attentions[0].mamba_blocks[0].audio_unit
    assert unit.A_logs.dtype == torch.float32 and unit.x_proj_weight.dtype == torch.bfloat16


def test_whole_path_from_files(tiny_pipeline, portrait, speech, driving, tmp_path):
    """Image, 30-fps video and 16-kHz sound from files; the result is written with the sound."""
    from PIL import Image

    Image.fromarray(portrait).save(tmp_path / "face.png")
    media.write_video(tmp_path / "drive.mp4", list(driving) * 3, 30.0, np.tile(speech, 2))
    generated = tiny_pipeline(
        tmp_path / "face.png", audio=tmp_path / "drive.mp4", video=tmp_path / "drive.mp4", frames=10
    )
    written = media.write_video(tmp_path / "out.mp4", generated, generated.fps, speech)
    assert written == 10
    assert media.video_length(tmp_path / "out.mp4", 12.5) == 10
    assert len(media.read_audio(tmp_path / "out.mp4")) >= 0.8 * 16_000


class TestBadInput:
    def test_nothing_to_follow(self, tiny_pipeline, portrait):
        with pytest.raises(InputError, match="neither audio nor video"):
            tiny_pipeline(portrait)

    def test_open_gate_without_signal(self, tiny_pipeline, portrait, speech):
        with pytest.raises(InputError, match=r"gate audio\+visual needs driving video"):
            tiny_pipeline(portrait, audio=speech, gate="audio+visual")

    def test_unknown_gate(self, tiny_pipeline, portrait, speech):
        with pytest.raises(InputError, match=r"unknown gate 'voice'"):
            tiny_pipeline(portrait, audio=speech, gate="voice")

    def test_silent_audio(self, tiny_pipeline, portrait):
        with pytest.raises(InputError, match="silent"):
            tiny_pipeline(portrait, audio=np.zeros(16_000, np.int16))

    def test_short_audio(self, tiny_pipeline, portrait, speech):
        with pytest.raises(InputError, match="less than one video frame"):
            tiny_pipeline(portrait, audio=speech[:600])

    def test_corrupt_audio(self, tiny_pipeline, portrait, tmp_path):
        (tmp_path / "noise.wav").write_bytes(bytes(range(256)) * 4)
        with pytest.raises(InputError, match="cannot be decoded as audio"):
            tiny_pipeline(portrait, audio=tmp_path / "noise.wav")

    def test_missing_file(self, tiny_pipeline, portrait):
        with pytest.raises(InputError, match=r"nowhere\.wav does not exist"):
            tiny_pipeline(portrait, audio="nowhere.wav")

    def test_video_without_sound(self, tiny_pipeline, portrait, driving, tmp_path):
        media.write_video(tmp_path / "silent.mp4", driving, 12.5)
        with pytest.raises(InputError, match="no audio stream"):
            tiny_pipeline(portrait, audio=tmp_path / "silent.mp4")

    def test_video_shorter_than_audio(self, tiny_pipeline, portrait, speech, driving):
        with pytest.raises(InputError, match=r"driving video \(0\.40 s\) is shorter than the audio"):
            tiny_pipeline(portrait, audio=speech, video=driving[:5])
        assert len(tiny_pipeline(portrait, audio=speech, video=driving[:5], shortest=True)) == 5

    def test_more_frames_than_signal(self, tiny_pipeline, portrait, speech):
        with pytest.raises(InputError, match="the audio lasts"):
            tiny_pipeline(portrait, audio=speech, frames=50)

    def test_no_face(self, tiny_pipeline, portrait, speech):
        with pytest.raises(InputError, match="no face found in the image"):
            tiny_pipeline(np.zeros_like(portrait), audio=speech)

    def test_no_face_in_the_driving_video(self, tiny_pipeline, portrait, driving):
        generated = tiny_pipeline(portrait, video=np.zeros_like(driving))
        with pytest.raises(InputError, match="no face found in the first 12 frames of the driving video"):
            list(generated)

    def test_out_of_memory_names_the_setting(self, tiny_pipeline, portrait, speech, monkeypatch):
        def full(*args, **kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(tiny_pipeline.unet, "forward", full)
        with pytest.raises(OutOfMemoryError, match="Set items_per_call to 1"):
            list(tiny_pipeline(portrait, audio=speech, frames=2))

    def test_folder_without_model(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"holds no model_index\.json"):
            ACTalkerPipeline.from_pretrained(tmp_path)

    def test_foreign_component_is_refused(self, tmp_path):
        with pytest.raises(CheckpointError, match="does not belong to actalker"):
            load_component(tmp_path, "os:system")


def test_two_faces_are_refused_unless_told(tiny_pipeline, portrait, speech, monkeypatch):
    from actalker.components import Face

    class TwoFaces:
        def find(self, image):
            return [Face((2, 2, 20, 24)), Face((20, 4, 38, 26))]

    monkeypatch.setattr(tiny_pipeline.conditioner, "_finder", TwoFaces())
    with pytest.raises(InputError, match="shows 2 faces"):
        tiny_pipeline(portrait, audio=speech)
    assert len(tiny_pipeline(portrait, audio=speech, frames=1, largest_face=True)) == 1


def test_missing_face_model_says_what_to_do(monkeypatch):
    from actalker.faces import MediaPipeFaces

    monkeypatch.delenv("ACTALKER_FACE_LANDMARKER", raising=False)
    with pytest.raises(MissingPackageError, match="ACTALKER_FACE_LANDMARKER"):
        MediaPipeFaces()


def test_driving_video_is_resampled_by_time(tmp_path):
    """A ramp filmed at 30 fps and at 10 fps gives the same brightness at the same second."""
    for fps, count in ((30.0, 60), (10.0, 20)):
        ramp = (np.full((32, 32, 3), 20 + 100 * i / fps, np.uint8) for i in range(count))
        path = tmp_path / f"{fps:g}.mp4"
        media.write_video(path, ramp, fps)
        frames = list(media.video_frames(path, 12.5))
        assert len(frames) == media.video_length(path, 12.5) == 25
        for i, frame in enumerate(frames):
            shown = int(i / 12.5 * fps + 1e-6) / fps
            assert frame.mean() == pytest.approx(20 + 100 * shown, abs=4)


def test_conditioner_is_a_module_with_stored_parts(tiny_conditioner, tmp_path, storable_parts):
    tiny_conditioner.save_pretrained(tmp_path)
    assert isinstance(PortraitConditioner.from_pretrained(tmp_path), PortraitConditioner)
    assert {p.name for p in Path(tmp_path).iterdir() if p.is_dir()} == set(PortraitConditioner.parts)


def test_devices_are_checked():
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type in ("cuda", "mps", "cpu")
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="there is no cuda device here"):
            choose_device("cuda:1")


@pytest.mark.parametrize("setting", ["steps", "items_per_call"])
def test_settings_below_one_are_refused(tiny_pipeline, portrait, speech, setting):
    with pytest.raises(InputError, match=f"{setting}=0"):
        tiny_pipeline(portrait, speech, **{setting: 0})


@pytest.mark.parametrize("box", [(5, 5, 5, 20), (0, 0, 41, 20), (-1, 0, 10, 10), (float("nan"), 0, 10, 10)])
def test_a_face_box_outside_the_picture_is_refused(tiny_pipeline, portrait, speech, box):
    with pytest.raises(InputError, match=r"does not lie inside the image \(40x48\)"):
        tiny_pipeline(portrait, speech, face=box)


def test_portrait_and_location_are_encoded_once_per_clip(tiny_pipeline, portrait, speech, driving, monkeypatch):
    codec, guider = tiny_pipeline.codec, tiny_pipeline.conditioner.pose_guider
    calls = []
    for name, part, method in (("codec", codec, "encode"), ("guider", guider, "forward")):
        inner = getattr(part, method)
        monkeypatch.setattr(part, method, lambda x, name=name, inner=inner: (calls.append(name), inner(x))[1])
    tiny_pipeline.config = replace(tiny_pipeline.config, segment_frames=4, segment_overlap=1)
    assert len(clip(tiny_pipeline, portrait, audio=speech, video=driving, frames=9)) == 9
    assert sorted(calls) == ["codec", "guider"]


@torch.no_grad()
def test_compiled_blocks_compute_the_same():
    """Whole blocks are captured; nothing depends on which compiler then takes them."""
    torch.manual_seed(0)
    config = UNetConfig(channels=(32, 32), heads=(1, 1), attention=(False, True), layers=1, condition=24)
    unet = ACTalkerUNet(config).eval()
    context = Context(torch.randn(2, 1, 1, 24), torch.randn(2, 2, 3, 24), torch.randn(2, 2, 1, 24))
    sample, ids = torch.randn(2, 2, 8, 8, 8), torch.tensor([[12.5, 12, 20]])
    expected = unet(sample, 0.3, context, time_ids=ids)
    unet.compile_blocks(backend="eager")
    torch.testing.assert_close(unet(sample, 0.3, context, time_ids=ids), expected)
