from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.media.decode import chunks, read_audio, read_image, resample_plan
from bench.media.encode import write_image, write_wav
from bench.media.probe import probe

from .conftest import click_time, click_track, numbered_frame, read_number


def numbers(path: Path, fps: float | None = 25.0) -> list[int]:
    return [read_number(frame) for chunk in chunks(path, fps) for frame in chunk]


def ffmpeg_fps_filter(path: Path) -> list[int]:
    """What FFmpeg's own `fps=25:round=near` filter shows: the independent reference for resampling."""
    shown = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        rate = graph.add("fps", "fps=25:round=near")
        sink = graph.add("buffersink")
        source.link_to(rate)
        rate.link_to(sink)
        graph.configure()

        def drain() -> None:
            while True:
                try:
                    frame = graph.pull()
                except (av.BlockingIOError, av.EOFError):
                    return
                shown.append(read_number(frame.to_ndarray(format="rgb24")))

        for frame in container.decode(stream):
            graph.push(frame)
            drain()
        graph.push(None)
        drain()
    return shown


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(60)])
def test_constant_rates_become_25_fps_as_ffmpeg_would(mux, rate):
    path = mux(n=61, fps=rate)
    plan = resample_plan(path)
    shown = numbers(path)
    assert shown == ffmpeg_fps_filter(path) == plan.indices.tolist()
    assert plan.frames == round(61 / rate * 25)
    assert plan.duplicated == len(shown) - len(set(shown))
    assert plan.dropped == 61 - len(set(shown))
    found = probe(path)
    assert found.fps == pytest.approx(float(rate), rel=1e-3)
    assert (found.frames, found.vfr) == (61, False)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(5, 160), min_size=1, max_size=40))
def test_variable_rates_become_25_fps_as_ffmpeg_would(mux, steps):
    times = np.concatenate([[0], np.cumsum(steps)]) / 1000
    path = mux("vfr.mkv", times=[Fraction(t).limit_denominator(1000) for t in times])
    plan = resample_plan(path)
    assert numbers(path) == plan.indices.tolist()
    # The last native frame's length is the muxer's guess, so only what lies before it is compared.
    until = round(times[-1] * 25)
    assert plan.indices[:until].tolist() == ffmpeg_fps_filter(path)[:until]


def test_variable_rate_is_reported_and_native_frames_can_be_had(mux):
    path = mux("vfr.mp4", times=[0, 0.04, 0.2, 0.24, 0.25, 0.4])
    assert probe(path).vfr
    assert numbers(path)[:7] == [0, 1, 1, 1, 1, 2, 4]
    assert numbers(path, None) == [0, 1, 2, 3, 4, 5]
    plan = resample_plan(path, None)
    assert (plan.duplicated, plan.dropped, plan.native_frames) == (0, 0, 6)


@pytest.mark.parametrize("size", [1, 3, 32, 100])
def test_chunk_size_changes_nothing(mux, size):
    path = mux(n=40)
    parts = list(chunks(path, size=size))
    assert all(len(part) == size for part in parts[:-1])
    assert [read_number(f) for part in parts for f in part] == list(range(40))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_metadata_is_applied(mux, rotation):
    path = mux(n=3, rotation=rotation)
    found = probe(path)
    assert found.rotation == rotation
    assert (found.width, found.height) == ((64, 48) if rotation == 180 else (48, 64))
    frame = next(chunks(path))[2]
    assert frame.shape == (found.height, found.width, 3)
    # FFmpeg documents the display matrix angle as counter-clockwise.
    expected = np.rot90(numbered_frame(2), rotation // 90).astype(int)
    assert np.abs(frame.astype(int) - expected).mean() < 4


def test_non_square_pixels_become_square(mux):
    path = mux(n=2, sar=Fraction(3, 2))
    found = probe(path)
    assert (found.width, found.height) == (96, 48)
    assert next(chunks(path)).shape[1:] == (48, 96, 3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size", "name"),
    [
        ("libx264", "yuv444p", (65, 49), "odd.mp4"),
        ("libx264", "yuv420p10le", (64, 48), "ten.mp4"),
        ("libx265", "yuv420p", (64, 48), "hevc.mp4"),
        ("libvpx-vp9", "yuv420p", (64, 48), "vp9.webm"),
        ("mpeg4", "yuv420p", (64, 48), "old.avi"),
        ("mjpeg", "yuvj420p", (64, 48), "full_range.mov"),
    ],
)
def test_codecs_depths_ranges_and_odd_sizes(mux, codec, pix_fmt, size, name):
    path = mux(name, n=6, codec=codec, pix_fmt=pix_fmt, size=size)
    frames = np.concatenate(list(chunks(path)))
    assert frames.shape == (6, size[1], size[0], 3)
    assert [read_number(f) for f in frames] == list(range(6))
    grey = frames[:, -8:, :, :].astype(int)
    assert np.abs(grey - 96).mean() < 3, "wrong colour range or matrix"


def test_colour_matrix_tag_is_honoured(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    from av.video.reformatter import ColorRange, Colorspace

    for number, matrix in ((1, Colorspace.ITU709), (6, Colorspace.ITU601)):
        path = tmp_path / f"{number}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace = number
            frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        assert np.abs(next(chunks(path))[0].astype(int) - red).max() <= 4


def test_audio_is_mono_16_khz_at_the_right_place(mux):
    left = click_track(2, [0.3, 1.5], 44100)
    path = mux(n=50, audio=np.stack([left, 0 * left]), audio_rate=44100)
    audio = read_audio(path)
    assert audio is not None and audio.dtype == np.int16
    assert len(audio) == pytest.approx(32000, abs=1)
    for moment in (0.3, 1.5):
        assert click_time(audio, moment) == pytest.approx(moment, abs=5e-4)
    stereo_peak = np.abs(audio.astype(int)).max()
    both = read_audio(mux("both.mp4", n=50, audio=np.stack([left, left]), audio_rate=44100))
    assert both is not None
    assert np.abs(both.astype(int)).max() == pytest.approx(2 * stereo_peak, rel=0.02), "channels are averaged"


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_audio_that_starts_late_is_filled_with_silence(mux, container):
    path = mux(f"late.{container}", n=50, audio=click_track(1.5, [0.2]), audio_start=0.4)
    audio = read_audio(path)
    assert audio is not None
    assert not audio[: round(0.35 * 16000)].any()
    assert click_time(audio, 0.6) == pytest.approx(0.6, abs=1.5e-3)  # Matroska counts in milliseconds


def test_audio_that_starts_before_the_picture_is_cut(mux):
    times = [Fraction(1, 2) + Fraction(k, 25) for k in range(25)]
    path = mux("early.mkv", times=times, audio=click_track(1.5, [0.2, 0.9]))
    audio = read_audio(path)
    assert audio is not None
    assert len(audio) == pytest.approx(16000, abs=1100)  # Matroska does not store where AAC padding ends
    assert click_time(audio, 0.4) == pytest.approx(0.4, abs=1.5e-3)


def test_mp3_inside_mp4(mux):
    path = mux(n=50, audio=click_track(2, [0.5, 1.2], 44100), audio_codec="mp3", audio_rate=44100)
    audio = read_audio(path)
    assert audio is not None
    assert click_time(audio, 1.2) - click_time(audio, 0.5) == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "sound", "rate"),
    [
        ("a.mp4", "libx264", "aac", 44100),
        ("a.webm", "libvpx", "libopus", 48000),
        ("a.avi", "mpeg4", "pcm_u8", 8000),
        ("a.mov", "libx264", "pcm_s24le", 96000),
        ("a.mkv", "libx264", "flac", 48000),
    ],
)
def test_a_stretch_of_sound_is_that_of_the_whole(mux, name, codec, sound, rate):
    track = np.sin(np.arange(3 * rate) * 2 * np.pi * 300 / rate).astype(np.float32) * np.linspace(0, 0.5, 3 * rate)
    path = mux(name, n=75, codec=codec, audio=track.astype(np.float32), audio_codec=sound, audio_rate=rate)
    whole = read_audio(path)
    assert whole is not None and np.abs(whole.astype(int)).max() > 10000
    for start, end in ((0.0, 1.0), (1.37, 2.11), (2.5, 9.0), (5.0, 6.0)):
        part = read_audio(path, start, end)
        assert part is not None
        assert np.array_equal(part, whole[round(start * 16000) : round(end * 16000)])


def test_a_stretch_across_late_sound_keeps_its_place(mux):
    path = mux("late.mkv", n=75, audio=click_track(2, [0.2]), audio_start=0.7)
    whole, part = read_audio(path), read_audio(path, 0.5, 1.1)
    assert whole is not None and part is not None
    assert np.array_equal(part, whole[8000:17600]) and not part[:2000].any() and part.any()


def test_missing_audio_is_none(mux):
    path = mux()
    assert read_audio(path) is None
    assert not probe(path).has_audio


def test_wav_round_trip_is_exact(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 5000).astype(np.int16)
    write_wav(tmp_path / "a.wav", samples)
    read = read_audio(tmp_path / "a.wav")
    assert read is not None and np.array_equal(read, samples)


def test_png_round_trip_is_exact_whatever_the_name(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (31, 17, 3)).astype(np.uint8)
    for name in ("a.png", "100%d.png", 'it\'s "quoted" ü 你好.png', "concat:x.png"):
        write_image(tmp_path / name, rgb)
        assert np.array_equal(read_image(tmp_path / name), rgb)


def test_picture_orientation_and_transparency(tmp_path):
    from PIL import Image

    rgb = np.zeros((24, 40, 3), np.uint8)
    rgb[:8, :8] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to show"
    Image.fromarray(rgb).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    shown = read_image(tmp_path / "phone.jpg")
    assert shown.shape == (40, 24, 3)
    assert shown[4, 20, 0] > 200 and shown[4, 4, 0] < 50

    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, 8:] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "cut_out.png")
    flat = read_image(tmp_path / "cut_out.png")
    assert flat[0, 0].tolist() == [255, 255, 255]
    assert flat[0, 12].tolist() == [10, 20, 30]


def test_ten_minutes_decode_in_bounded_memory(mux):
    path = mux("long.mp4", n=3000, size=(64, 48), options={"preset": "ultrafast"})
    tracemalloc.start()
    count = sum(len(chunk) for chunk in chunks(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3000
    assert peak < 5 * 2**20 < 3000 * 64 * 48 * 3


def test_every_real_clip_can_be_read(shared_media):
    clips = sorted(shared_media.rglob("*.mp4"))
    assert clips
    for path in clips:
        found = probe(path)
        assert found.has_audio == (read_audio(path) is not None)
        assert resample_plan(path).frames == round(found.duration * 25)


def test_a_raw_stream_without_times_can_be_read_and_cut(tmp_path, mux):
    from bench.media.cut import cut

    source, path = mux(n=100, options={"bf": "0"}), tmp_path / "raw.h264"
    with av.open(str(source)) as packed, av.open(str(path), "w", format="h264") as raw:
        stream = raw.add_stream_from_template(packed.streams.video[0])
        to_annexb = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", packed.streams.video[0], stream)
        for packet in packed.demux(video=0):
            for piece in to_annexb.filter(packet if packet.size else None):
                piece.stream = stream
                raw.mux(piece)
    assert [read_number(f) for chunk in chunks(path) for f in chunk] == list(range(100))
    assert [read_number(f) for f in cut(path, 2.4, 2.8)] == list(range(60, 70))
