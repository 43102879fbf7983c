from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.core.views import ClipView
from bench.media.clip import Clip
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip
from bench.media.probe import probe

from .conftest import click_time

SCENE = """
import sys, numpy as np
from pathlib import Path
from bench.media.encode import write_clip
rng = np.random.default_rng(5)
base = rng.integers(0, 256, (12, 12, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
frames = [np.roll(base, k, axis=1) for k in range(30)]
audio = (8000 * np.sin(np.arange(30 * 640) * 0.2)).astype(np.int16)
write_clip(Path(sys.argv[1]), frames, audio=audio)
"""


def test_bytes_are_the_same_in_any_process(tmp_path):
    digests = set()
    for k in range(2):
        path = tmp_path / str(k) / "clip.mp4"
        path.parent.mkdir()
        environment = os.environ | {"OMP_NUM_THREADS": str(k + 1), "PYTHONHASHSEED": str(k)}
        subprocess.run([sys.executable, "-c", SCENE, str(path)], check=True, env=environment)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_clicks_land_within_a_millisecond(tmp_path):
    moments = [0.01, 0.5, 1.25, 2.9]
    audio = np.zeros(3 * 16000, np.int16)
    for moment in moments:
        audio[round(moment * 16000) : round(moment * 16000) + 16] = 20000
    write_clip(tmp_path / "c.mp4", [np.full((32, 32, 3), 90, np.uint8)] * 75, audio=audio)
    read = read_audio(tmp_path / "c.mp4")
    assert read is not None and len(read) == len(audio)
    for moment in moments:
        assert click_time(read, moment, reach=0.01) == pytest.approx(moment, abs=1e-3)


@pytest.mark.parametrize("length", [0, 100, 1024, 5000, 6400, 9000])
def test_audio_is_cut_to_the_frames_and_never_stretched(tmp_path, length):
    audio = np.full(length, 3000, np.int16)
    write_clip(tmp_path / "c.mp4", [np.full((32, 32, 3), 90, np.uint8)] * 10, audio=audio)
    clip = Clip(tmp_path / "c.mp4")
    assert clip.frames == 10
    heard = clip.audio()
    # MP4 edit lists count in milliseconds, so an end inside a video frame moves by less than that.
    assert (0 if heard is None else len(heard)) == pytest.approx(min(length, 6400), abs=16)
    assert length < 6400 or len(heard) == 6400


def test_colours_survive(tmp_path):
    """Smooth colour at 64 px loses little; only 4:2:0 chroma detail is bounded, see docs/media.md."""
    y, x = np.mgrid[0:64, 0:64] / 63
    frames = [
        np.rint(np.stack([255 * x, 255 * y, 127 + 120 * np.sin(3 * x + k / 5)], -1)).astype(np.uint8)
        for k in range(12)
    ]
    write_clip(tmp_path / "c.mp4", frames)
    read = np.concatenate(list(chunks(tmp_path / "c.mp4"))).astype(float)
    psnr = 10 * np.log10(255**2 / ((read - np.stack(frames)) ** 2).mean())
    assert psnr > 39


def test_odd_row_and_column_are_cut(tmp_path):
    frames = np.zeros((2, 33, 47, 3), np.uint8) + 80
    frames[:, :, -1] = 255
    write_clip(tmp_path / "c.mp4", frames)
    read = next(chunks(tmp_path / "c.mp4"))
    assert read.shape[1:] == (32, 46, 3)
    assert read.max() < 90


@pytest.mark.parametrize("fps", [24.0, 25.0, 30000 / 1001])
def test_frame_rate_is_kept(tmp_path, fps):
    write_clip(tmp_path / "c.mp4", [np.full((32, 32, 3), 90, np.uint8)] * 12, fps=fps)
    found = probe(tmp_path / "c.mp4")
    assert found.fps == pytest.approx(fps, rel=1e-3)
    assert found.frames == 12


def test_frames_are_consumed_lazily_and_once(tmp_path):
    alive = 0

    def frames():
        nonlocal alive
        for k in range(20):
            alive += 1
            yield np.full((16, 16, 3), k, np.uint8)

    assert write_clip(tmp_path / "c.mp4", frames()) == alive == 20


def test_a_failing_method_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.mp4"
    write_clip(path, [np.zeros((16, 16, 3), np.uint8)])
    before = path.read_bytes()

    def frames():
        yield np.zeros((16, 16, 3), np.uint8)
        raise RuntimeError("model failed")

    with pytest.raises(RuntimeError, match="model failed"):
        write_clip(path, frames())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class TestClip:
    def test_is_a_clip_view(self, mux):
        view: ClipView = Clip(mux(n=4), image=Path("i.png"), truth=Path("t.npz"))
        assert (view.width, view.height, view.frames, view.fps) == (64, 48, 4, 25.0)
        assert (view.image, view.truth) == (Path("i.png"), Path("t.npz"))

    def test_cached_and_streamed_frames_are_equal(self, mux, monkeypatch):
        path = mux(n=50, fps=30)
        cached, streamed = Clip(path), Clip(path, budget=0)
        for size in (7, 32):
            for a, b in zip(cached.chunks(size), streamed.chunks(size), strict=True):
                assert np.array_equal(a, b)
        path.unlink()
        assert sum(len(c) for c in cached.chunks()) == cached.frames

    def test_cached_frames_cannot_be_changed_by_one_metric_for_the_next(self, mux):
        with pytest.raises(ValueError, match="read-only"):
            next(Clip(mux()).chunks())[0, 0, 0, 0] = 1

    def test_features_are_computed_once(self, mux):
        calls = []

        class Mean:
            spec = None

            def extract(self, clip):
                calls.append(clip)
                return {"mean": np.array([c.mean() for c in clip.chunks()])}

        clip = Clip(mux(), extractors={"mean": Mean()})
        assert clip.features("mean") is clip.features("mean")
        assert calls == [clip]
        with pytest.raises(KeyError, match="Did you mean 'mean'"):
            clip.features("means")
