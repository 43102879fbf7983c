"""Cutting by time on the 25 fps grid keeps picture and sound together at any rate."""

from fractions import Fraction

import numpy as np
import pytest

from bench.data.candidates import Box
from bench.media.cut import cut, describe, frame_span
from bench.media.decode import SAMPLE_RATE, read_audio


def test_the_published_example(tmp_path, tree):
    path = tree.write_video(tmp_path / "a.mp4", 200, Fraction(30000, 1001))
    frames = list(cut(path, 2.71, 6.10, size=64))
    sound = read_audio(path)[round(2.71 * SAMPLE_RATE) : round(6.10 * SAMPLE_RATE)]
    assert (len(frames), len(sound)) == (85, 54240)
    assert min(len(frames), len(sound) // 640) == 84


@pytest.mark.parametrize("fps", [25, 24, Fraction(30000, 1001), 50])
@pytest.mark.parametrize("start", [0.0, 1.3, 3.02])
def test_frame_k_shows_time_k(tmp_path, tree, fps, start):
    path = tree.write_video(tmp_path / "a.mp4", round(5 * fps), fps, sound=False)
    frames = list(cut(path, start, start + 1.5, Box("center").resolve(320, 180), 256))
    assert abs(len(frames) - 37.5) <= 1
    for k, frame in enumerate(frames):
        shown = tree.read_code(frame) / float(fps)
        assert abs(shown - start - k / 25) <= 0.5 / 25 + 0.5 / float(fps) + 1e-6


def test_native_frames_are_found_exactly(tmp_path, tree):
    path = tree.write_video(tmp_path / "a.mp4", 120, Fraction(30000, 1001), sound=False)
    start, end = frame_span(path, 31, 90)
    native = list(cut(path, start, end, fps=30000 / 1001))
    assert [tree.read_code(f) for f in native] == list(range(31, 91))
    with pytest.raises(IndexError):
        frame_span(path, 100, 120)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), Fraction(30000, 1001)])
def test_a_click_and_a_flash_stay_together(tmp_path, fps):
    import av

    path = tmp_path / "flash.mp4"
    rate = 48000
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="mono")
        for n in range(150):
            level = 255 if n in (90, 91) else 10
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), "rgb24")))
        container.mux(video.encode(None))
        samples = np.zeros(rate * 5, np.float32)
        samples[round(90 / float(fps) * rate) :][:200] = 0.9
        for begin in range(0, len(samples), 1024):
            piece = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], "fltp", "mono")
            piece.sample_rate, piece.pts = rate, begin
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    start = 1.017
    frames = list(cut(path, start, 4.5))
    heard = read_audio(path)[round(start * SAMPLE_RATE) :]
    flash = int(np.argmax([f.mean() for f in frames])) / 25
    click = int(np.argmax(np.abs(heard.astype(int)))) / SAMPLE_RATE
    assert abs(flash - click) <= 0.020 + 1e-3


def test_describe(media):
    facts = describe(media / "good.mp4")
    assert (facts.width, facts.height, facts.frames, facts.audio_rate) == (320, 180, 63, 48000)
    assert facts.fps == pytest.approx(29.97, abs=0.01) and facts.duration == pytest.approx(2.102, abs=0.01)
    assert describe(media / "mute.mp4").audio_rate == 0
