"""What happens to unusual files: a case for every row of the table in docs/media.md, and properties over many."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from bench.media.decode import chunks, read_audio, read_image, resample_plan
from bench.media.errors import DecodeError
from bench.media.hdr import hlg_light, pq_light, pq_signal
from bench.media.pictures import MAX_BYTES
from bench.media.probe import probe
from bench.media.sound import read_sound

from .conftest import Mux, numbered_frame, read_number

DOCS = Path(__file__).resolve().parents[3] / "docs" / "media.md"
HALF_A_FRAME = 0.02
CASES: dict[str, Callable[..., None]] = {}


def row(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def keep(case: Callable[..., None]) -> Callable[..., None]:
        CASES[name] = case
        return case

    return keep


def record(
    path: Path,
    sound: np.ndarray,
    times: Sequence[float],
    block: int,
    *,
    rate: int = 16000,
    frames: int = 50,
    ticks: Callable[[int], int] = lambda k: 3600 * k,
) -> Path:
    """Write a film whose block k of PCM sound, `block` samples long, is stamped `times[k]`; NaN leaves it out."""
    with av.open(str(path), "w", format="matroska") as box:
        film = box.add_stream("mpeg4", rate=25, options={"bf": "0"})
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        voice = box.add_stream("pcm_s16le", rate=rate, layout="mono")
        packets = []
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(k), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            packets += film.encode(frame)
        packets += film.encode(None)
        for k, packet in enumerate(packets):
            packet.time_base = Fraction(1, 90000)
            packet.pts = packet.dts = ticks(k)
            packet.duration = 3600
        for k, time in enumerate(times):
            if np.isnan(time):
                continue
            part = av.AudioFrame.from_ndarray(sound[None, k * block :][:, :block], format="s16", layout="mono")
            part.sample_rate, part.pts, part.time_base = rate, k * block, Fraction(1, rate)
            for packet in voice.encode(part):
                packet.time_base = Fraction(1, 90000)
                packet.pts = packet.dts = round(time * 90000)
                packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            box.mux(packet)
    return path


def clicks(heard: np.ndarray) -> np.ndarray:
    """Times of clicks in seconds."""
    loud = np.flatnonzero(np.abs(heard.astype(int)) > 5000) / 16000
    return loud[np.diff(loud, prepend=-1) > 0.05]


def ffmpeg(folder: Path, arguments: str) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("there is no ffmpeg here")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments.split()], cwd=folder, check=True)


@row("sound whose clock runs off")
def drift(tmp_path: Path, mux: Mux) -> None:
    for stretch in (1.01, 0.985):
        sound = np.zeros(round(4 / stretch * 16000), np.int16)
        for second in (1, 2, 3):
            sound[round(second * 16000 / stretch) :][:32] = 22000
        path = record(tmp_path / f"{stretch}.mkv", sound, np.arange(len(sound) // 640) * 0.04 * stretch, 640)
        heard = read_sound(path)
        assert heard is not None
        assert clicks(heard.samples) == pytest.approx([1, 2, 3], abs=0.006)
        assert any(f"by {abs(stretch - 1):.1%}" in note for note in heard.notes)


@row("sound with packets lost")
def losses(tmp_path: Path, mux: Mux) -> None:
    sound = np.zeros(4 * 16000, np.int16)
    for second in (1, 2, 3):
        sound[second * 16000 + 100 :][:32] = 22000
    times = np.arange(200) * 0.02
    times[12::25] = np.nan
    heard = read_sound(record(tmp_path / "lost.mkv", sound, times, 320))
    assert heard is not None
    assert clicks(heard.samples) == pytest.approx(np.array([1, 2, 3]) + 100 / 16000, abs=0.002)
    assert heard.notes == ("160 ms of missing sound filled with silence in 8 places",)


def test_much_drift_over_long_blocks_is_drift_and_no_loss(tmp_path: Path) -> None:
    for stretch in (1.12, 0.88):
        sound = np.zeros(4 * 16000, np.int16)
        for second in (1, 2, 3):
            sound[second * 16000 :][:32] = 22000
        for block in (1024, 8000):
            times = np.arange(len(sound) // block) * block / 16000 * stretch
            heard = read_sound(record(tmp_path / "much.mkv", sound, times, block))
            assert heard is not None
            assert clicks(heard.samples) == pytest.approx(np.array([1, 2, 3]) * stretch, abs=0.006)
            assert [n.split(" by ")[1] for n in heard.notes] == ["12.0%"]


def test_what_is_missing_before_the_first_picture_is_not_noted(tmp_path: Path) -> None:
    """Fragmented MP4 files begin with a block of the encoder's own, and then wait for their pictures."""
    sound = np.zeros(2 * 16000, np.int16)
    sound[16000:16032] = 22000
    times = np.arange(50) * 0.04 + 0.06
    times[0] = 0.0
    heard = read_sound(record(tmp_path / "x.mkv", sound, times, 640, ticks=lambda k: 9000 + 3600 * k))
    assert heard is not None and heard.notes == ()
    assert clicks(heard.samples) == pytest.approx([0.96], abs=0.002)


@row("sound with one wrong time stamp")
def outlier(tmp_path: Path, mux: Mux) -> None:
    sound = np.zeros(2 * 16000, np.int16)
    sound[16000:16032] = 22000
    times = np.arange(50) * 0.04
    times[20] += 0.03
    heard = read_sound(record(tmp_path / "odd.mkv", sound, times, 640))
    assert heard is not None and heard.notes == ()
    assert clicks(heard.samples) == pytest.approx([1.0], abs=0.002)


@row("a picture that would stand for more than ten seconds")
def jump(tmp_path: Path, mux: Mux) -> None:
    leap = 10 * 3600 * 90000
    path = record(tmp_path / "jump.mkv", np.zeros(0, np.int16), [], 1, ticks=lambda k: 3600 * k + leap * (k > 9))
    with pytest.raises(DecodeError, match=r"picture 9 would stand for 36,000\.0 seconds"):
        resample_plan(path)


@row("pictures with one and the same time stamp")
def frozen_clock(tmp_path: Path, mux: Mux) -> None:
    path = record(tmp_path / "same.mkv", np.zeros(0, np.int16), [], 1, ticks=lambda k: 0)
    with pytest.raises(DecodeError, match="all its 50 pictures have the same time stamp"):
        probe(path)


@row("packets that show nothing")
def hidden(tmp_path: Path, mux: Mux) -> None:
    make = "-f lavfi -i testsrc=s=96x64:r=25:d=2 -c:v libvpx -b:v 150k -auto-alt-ref 1 -lag-in-frames 25 -pass "
    ffmpeg(tmp_path, make + "1 -f null -")
    ffmpeg(tmp_path, make + "2 clip.webm")
    with av.open(str(tmp_path / "clip.webm")) as box:
        assert sum(packet.size > 0 for packet in box.demux(video=0)) > 50
    assert sum(map(len, chunks(tmp_path / "clip.webm"))) == 50


@row("a cut in the middle of an open group of pictures")
def open_gop(tmp_path: Path, mux: Mux) -> None:
    for codec, key in (("libx264", "x264-params"), ("libx265", "x265-params")):
        structure = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
        quiet = ":log-level=none" if codec == "libx265" else ""
        whole = mux(f"{codec}.mkv", n=36, codec=codec, options={key: structure + quiet})
        cut, keys = tmp_path / f"{codec}.cut.mkv", 0
        with av.open(str(whole)) as source, av.open(str(cut), "w") as box:
            copy = box.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                keys += packet.is_keyframe
                if keys > 1 and packet.size:
                    packet.stream = copy
                    box.mux(packet)
        shown = [read_number(frame) for chunk in chunks(cut, None) for frame in chunk]
        assert shown == list(range(shown[0], 36)) and 9 <= shown[0] <= 12
        assert "left out" in " ".join(probe(cut).notes)


@row("several tracks")
def tracks(tmp_path: Path, mux: Mux) -> None:
    ffmpeg(
        tmp_path,
        "-f lavfi -i color=red:s=64x48:r=25:d=1 -f lavfi -i color=blue:s=64x48:r=25:d=1"
        " -f lavfi -t 1 -i anullsrc=r=16000 -f lavfi -t 1 -i sine=440:sample_rate=16000"
        " -map 0 -map 1 -map 2 -map 3 -c:v libx264 -c:a flac -disposition:v:0 0 -disposition:v:1 default"
        " -disposition:a:0 0 -disposition:a:1 default two.mkv",
    )
    assert next(chunks(tmp_path / "two.mkv"))[0, 20, 20].argmax() == 2
    assert probe(tmp_path / "two.mkv").notes == ("track 2 of 2 video tracks is read, the default one",)
    heard = read_sound(tmp_path / "two.mkv")
    assert heard is not None and np.abs(heard.samples.astype(int)).max() > 1000
    assert heard.notes == ("track 2 of 2 sound tracks is read, the default one",)


@row("sound in a codec nobody knows")
def unknown_sound(tmp_path: Path, mux: Mux) -> None:
    path = mux("odd.mov", audio=np.zeros(6400, np.float32), audio_codec="pcm_s16le")
    path.write_bytes(path.read_bytes().replace(b"sowt", b"apac"))
    found = probe(path)
    assert not found.has_audio and read_audio(path) is None
    assert "its sound cannot be decoded here" in found.notes[0]


@row("a film in a codec nobody knows, or sound alone")
def unknown_film(tmp_path: Path, mux: Mux) -> None:
    path = mux("odd.mov")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1"))
    with pytest.raises(DecodeError):
        probe(path)
    path = mux("voice.mp4", n=0, audio=np.zeros(6400, np.float32))
    with pytest.raises(DecodeError, match=r"no frame|no video stream"):
        probe(path)


@row("mirrored or turned pictures")
def orientations(tmp_path: Path, mux: Mux) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    for number in range(1, 9):
        for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
            tags = Image.Exif()
            tags[0x0112] = number
            more = {"quality": 98, "subsampling": 0} if name == "a.jpg" else {"lossless": True}
            Image.fromarray(picture).save(tmp_path / name, exif=tags, **more)
            with Image.open(tmp_path / name) as stored:
                shown = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
            found = read_image(tmp_path / name)
            assert found.shape == shown.shape, (number, name)
            assert np.abs(found.astype(int) - shown).mean() < 3, (number, name)
    # The same eight as display matrices of video: a, b, c, d take a stored point (x, y) to (ax + cy, bx + dy).
    stored = np.where(np.add.outer(np.arange(48) // 16, np.arange(64) // 32 * 2) % 3, 30, 220).astype(np.uint8)
    stored = np.repeat(stored[..., None], 3, 2)
    for a, b, c, d in (
        (1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1),
        (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0), (0, -1, -1, 0),
    ):  # fmt: skip
        path = tmp_path / "film.mp4"
        with av.open(str(path), "w") as box:
            film = box.add_stream("libx264", rate=25, options={"crf": "4"})
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
            one = 65536
            film.set_display_matrix((a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30))
            box.mux(film.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
            box.mux(film.encode(None))
        y, x = np.mgrid[:48, :64]
        u, v = a * x + c * y, b * x + d * y
        shown = np.zeros((np.ptp(v) + 1, np.ptp(u) + 1, 3), np.uint8)
        shown[v - v.min(), u - u.min()] = stored
        found = next(chunks(path))[0]
        assert found.shape == shown.shape, (a, b, c, d)
        assert np.abs(found.astype(int) - shown).mean() < 4, (a, b, c, d)
        facts = probe(path)
        turned = np.rot90(stored[:, ::-1] if facts.mirrored else stored, facts.rotation // 90)
        assert np.array_equal(turned, shown), (a, b, c, d)


@row("the density of a photograph")
def density(tmp_path: Path, mux: Mux) -> None:
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    for name in ("a.jpg", "a.png", "a.tif", "a.bmp"):
        noise.save(tmp_path / name, dpi=(204, 98))
        assert read_image(tmp_path / name).shape == (90, 70, 3)


@row("pixels more than eight times as wide as high")
def aspect(tmp_path: Path, mux: Mux) -> None:
    for wide in (300, 2**31 - 1):
        path = mux("odd.mp4", sar=Fraction(3, 2))
        box = b"pasp" + (3).to_bytes(4, "big") + (2).to_bytes(4, "big")
        assert box in path.read_bytes()
        path.write_bytes(
            path.read_bytes().replace(box, b"pasp" + wide.to_bytes(4, "big") + (1).to_bytes(4, "big"))
        )
        with pytest.raises(DecodeError, match="times as wide as high"):
            probe(path)
    assert probe(mux("dv.mp4", sar=Fraction(64, 45))).width == 91


@row("transparent pixels")
def transparency(tmp_path: Path, mux: Mux) -> None:
    for name, codec, layout in (
        ("a.mov", "qtrle", "argb"),
        ("b.mov", "prores_ks", "yuva444p10le"),
        ("c.mkv", "ffv1", "bgra"),
        ("d.webm", "libvpx-vp9", "yuva420p"),
    ):
        rgba = np.zeros((48, 64, 4), np.uint8)
        rgba[:, :32, 0], rgba[:, :32, 3] = 200, 255
        rgba[:, 32:, 1], rgba[:, 32:, 3] = 160, 128
        with av.open(str(tmp_path / name), "w") as box:
            film = box.add_stream(codec, rate=25)
            film.width, film.height, film.pix_fmt = 64, 48, layout
            for k in range(2):
                frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=layout)
                frame.pts, frame.time_base = k, Fraction(1, 25)
                box.mux(film.encode(frame))
            box.mux(film.encode(None))
        shown = next(chunks(tmp_path / name))[0].astype(int)
        assert np.abs(shown[20, 10] - (200, 0, 0)).max() <= 5, name
        assert np.abs(shown[20, 50] - (127, 207, 127)).max() <= 5, name  # 160 * 128/255 + 255 * 127/255
    rgba = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    exact = rgba[..., :3] * (rgba[..., 3:] / 255) + 255 - rgba[..., 3:]
    assert np.abs(read_image(tmp_path / "a.png") - exact).max() <= 0.5 + 1e-9


@row("high dynamic range (PQ, HLG)")
def hdr(tmp_path: Path, mux: Mux) -> None:
    assert pq_light(np.array([0.0, 0.5081, 1.0])) == pytest.approx([0, 100, 10000], abs=0.1)  # BT.2100's figures
    assert pq_signal(np.array([203.0])) == pytest.approx([0.5807], abs=1e-4)  # BT.2408, table 1
    assert hlg_light(np.array([0.5, 1.0])) == pytest.approx([1 / 12, 1], abs=1e-4)
    grey = np.array([20, 90, 128, 200])
    light = ((grey / 255 + 0.055) / 1.055) ** 2.4  # part of ordinary white
    scene = (light * 203 / 1000) ** (1 / 1.2)
    hlg = np.where(
        scene <= 1 / 12,
        np.sqrt(3 * scene),
        0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
    )
    for number, name, signal in ((16, "PQ", pq_signal(light * 203)), (18, "HLG", hlg)):
        path = tmp_path / f"{name}.mp4"
        with av.open(str(path), "w") as box:
            film = box.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:lossless=1"})
            film.width, film.height, film.pix_fmt = 64, 64, "yuv420p10le"
            context = film.codec_context
            context.color_trc, context.color_primaries, context.colorspace, context.color_range = number, 9, 9, 1
            luma = np.round(64 + 876 * signal).astype(np.uint16).repeat(16)
            planes = np.concatenate([np.tile(luma, 64), np.full(64 * 64 // 2, 512, np.uint16)])
            frame = av.VideoFrame.from_ndarray(planes.reshape(96, 64), format="yuv420p10le")
            frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = number, 9, 9, 1
            frame.pts, frame.time_base = 0, film.time_base or Fraction(1, 25)
            box.mux(film.encode(frame))
            box.mux(film.encode(None))
        shown = next(chunks(path))[0][32, 8::16].astype(int)
        assert probe(path).notes == (f"HDR ({name}) tone-mapped to BT.709",)
        assert np.ptp(shown, axis=1).max() <= 2, "grey stays grey"
        assert np.abs(shown[:3, 1] - grey[:3]).max() <= 4, "below the knee nothing changes"
        assert 150 < shown[3, 1] <= 200, "above it light is compressed"


@row("TIFF and animated WebP")
def pillow(tmp_path: Path, mux: Mux) -> None:
    picture = (np.add.outer(np.arange(60), np.arange(50))[..., None] + np.array([0, 30, 90])).astype(np.uint8)
    first = Image.fromarray(picture)
    for name, more in (("a.tif", {"compression": "tiff_lzw"}), ("b.tif", {"tiffinfo": {274: 1}}), ("c.webp", {})):
        if name == "c.webp":
            more = {"save_all": True, "append_images": [first.rotate(90)], "lossless": True}
        first.save(tmp_path / name, **more)
        assert np.array_equal(read_image(tmp_path / name), picture)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DecodeError, match=r"cut\.tif"):
        read_image(tmp_path / "cut.tif")


@row("a picture too large to read in 800 MiB")
def huge(tmp_path: Path, mux: Mux) -> None:
    side = 12000
    assert side * side * 7 > MAX_BYTES
    head = Image.new("1", (side, side))
    head.save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[24:26] = bytes([8, 6])  # eight bits of RGBA, says the header
    data[29:33] = __import__("zlib").crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DecodeError):
        read_image(tmp_path / "a.png")


@row("a pipe, a socket, a device")
def special(tmp_path: Path, mux: Mux) -> None:
    os.mkfifo(tmp_path / "p.mp4")
    (tmp_path / "link.mp4").symlink_to("p.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(tmp_path)  # a socket's path has to be short
    listener.bind("s.mp4")
    for name in ("p.mp4", "link.mp4", "zero.mp4", "s.mp4", "loop.mp4"):
        for read in (probe, read_image, read_audio):
            with pytest.raises(DecodeError, match="not a regular file" if name != "loop.mp4" else "symbolic"):
                read(tmp_path / name)
    listener.close()


@row("two channels that cancel each other")
def cancelling(tmp_path: Path, mux: Mux) -> None:
    tone = np.sin(np.arange(16000) * 2 * np.pi * 300 / 16000).astype(np.float32) / 2
    heard = read_sound(mux("anti.mkv", audio=np.stack([tone, -tone]), audio_codec="flac"))
    assert heard is not None and np.abs(heard.samples.astype(int)).max() > 10000
    assert heard.notes == ("its two channels cancel each other and the left one is read",)


@row("sound of less than 1000 samples per second")
def slow_sound(tmp_path: Path, mux: Mux) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1)
        file.writeframes(bytes(32000))
    with pytest.raises(DecodeError, match="1 samples per second"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name", CASES)
def test_row(name: str, tmp_path: Path, mux: Mux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CASES[name](tmp_path, mux)


def test_the_table_has_these_rows() -> None:
    table = DOCS.read_text(encoding="utf-8").split("## What happens to unusual files")[1].split("\n## ")[0]
    assert re.findall(r"^\| (?!file |---)([^|]+?) \|", table, re.MULTILINE) == list(CASES)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([8000, 16000, 44100, 48000]),
    block=st.sampled_from([160, 320, 1024, 2000, 8000]),
    drift=st.floats(-0.02, 0.02) | st.floats(-0.15, 0.15),
    start=st.floats(-0.4, 0.5),
    lost=st.sets(st.integers(5, 80), max_size=6),
    jitter=st.floats(0, 0.0015),
)
def test_clicks_lie_where_their_time_stamps_say(tmp_path, rate, block, drift, start, lost, jitter) -> None:
    count = 4 * rate // block
    moments = np.arange(count) * block / rate * (1 + drift) + start + 1.0
    shaken = moments + np.random.default_rng(0).uniform(-jitter, jitter, count)
    sound = np.zeros(count * block, np.int16)
    marked = [k for k in range(4, count, max(1, count // 12)) if not lost & {k - 1, k, k + 1}]
    for k in marked:
        sound[k * block + block // 2 :][: max(16, rate // 1000)] = 22000
    times = [np.nan if k in lost else float(t) for k, t in enumerate(shaken)]
    wanted = [moments[k] + block // 2 / rate * (1 + drift) - 1.0 for k in marked]
    path = record(tmp_path / "x.mkv", sound, times, block, rate=rate, ticks=lambda k: 90000 + 3600 * k)
    heard = read_sound(path)
    assert heard is not None
    found = clicks(heard.samples)
    for moment in wanted:
        if moment > 0.05:
            assert np.abs(found - moment).min() <= HALF_A_FRAME, (moment, found)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    codec=st.sampled_from([("libx264", "a.mp4"), ("libx265", "a.mkv"), ("libvpx", "a.webm"), ("mpeg4", "a.avi")]),
    rate=st.sampled_from([Fraction(10), Fraction(24000, 1001), Fraction(25), Fraction(50)]),
    rotation=st.sampled_from([0, 90, 180, 270]),
)
def test_frames_lie_where_their_time_stamps_say(mux, codec, rate, rotation) -> None:
    turned = rotation if codec[1] == "a.mp4" else 0
    quiet = {"x265-params": "log-level=none"} if codec[0] == "libx265" else {}
    rate = Fraction(25) if codec[0] == "mpeg4" else rate
    path = mux(codec[1], n=30, fps=rate, codec=codec[0], rotation=turned, options=quiet)
    frames = [np.rot90(f, -turned // 90) for chunk in chunks(path) for f in chunk]
    for slot, frame in enumerate(frames):
        shown = read_number(frame)
        following = float((shown + 1) / rate) if shown < 29 else np.inf
        assert float(shown / rate) <= slot / 25 + HALF_A_FRAME + 1e-3
        assert following >= slot / 25 - HALF_A_FRAME - 1e-3


def test_what_was_changed_in_reading_stands_with_the_clip(tmp_path: Path) -> None:
    import bench
    from bench.data.folder import load_folder

    (tmp_path / "clips").mkdir()
    sound = (3000 * np.sin(np.arange(32000) / 7)).astype(np.int16)
    times = np.arange(50) * 0.04 * 1.01
    times[20] = np.nan
    record(tmp_path / "clips" / "off.mkv", sound, times, 640)
    notes = load_folder(tmp_path / "clips", tmp_path / "cache").notes
    assert any("off (sound stretched by 1.0%; 40 ms of missing sound" in note for note in notes)
    done = bench.score(tmp_path / "clips", metrics=["flicker"], home=tmp_path / "home", say=lambda line: None)
    scored = done.rows[done.rows["status"] == "ok"]
    assert len(scored) and scored["detail"].str.contains("sound stretched by 1.0%").all()
