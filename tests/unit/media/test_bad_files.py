"""Whatever is wrong with a file, the error is one paragraph that names the file and the reason."""

from __future__ import annotations

import os
import pickle
import wave
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import BenchError
from bench.media.clip import Clip
from bench.media.decode import chunks, read_audio, read_image
from bench.media.encode import write_clip
from bench.media.errors import DecodeError, EncodeError, InvalidClip
from bench.media.probe import probe
from bench.media.validate import validate

from .conftest import click_track

NAMES = [
    "plain.mp4",
    "with space.mp4",
    "it's.mp4",
    'say "x".mp4',
    "ünï 你好.mp4",
    "100%d.mp4",
    "-dash.mp4",
    "a:b.mp4",
]


def check(error: BenchError, path: Path, *words: str) -> None:
    assert str(path) in error.message
    assert "\n" not in error.message
    assert error.hint
    for word in words:
        assert word in error.message
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.hint) == (type(error), error.message, error.hint)


def decode_all(path: Path) -> None:
    probe(path)
    for _ in chunks(path):
        pass
    read_audio(path)


def test_missing_empty_and_folder(tmp_path):
    for path, word in [(tmp_path / "no.mp4", "no such file"), (tmp_path, "folder")]:
        for read in (probe, read_audio, read_image, Clip, decode_all):
            with pytest.raises(DecodeError) as caught:
                read(path)
            check(caught.value, path, word)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(DecodeError) as caught:
        probe(empty)
    check(caught.value, empty, "0 bytes")


@pytest.mark.parametrize("content", [b"once upon a time\n" * 50, b"\0" * 5000, bytes(range(256)) * 40])
def test_not_media_at_all(tmp_path, content):
    path = tmp_path / "story.mp4"
    path.write_bytes(content)
    for read in (probe, read_audio, read_image):
        with pytest.raises(DecodeError) as caught:
            read(path)
        check(caught.value, path)


def test_playlist_does_not_pull_in_other_files(mux, tmp_path):
    mux("secret.mp4")
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(DecodeError):
        probe(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable(mux):
    path = mux()
    path.chmod(0)
    with pytest.raises(DecodeError) as caught:
        probe(path)
    check(caught.value, path, "permission denied")


def test_unreadable_is_told_from_missing(mux, monkeypatch):
    path = mux()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DecodeError) as caught:
        probe(path)
    check(caught.value, path, "permission denied")


def test_audio_only_file_has_no_video_stream(tmp_path):
    path = tmp_path / "voice.mp4"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.zeros(800, "<i2").tobytes())
    with pytest.raises(DecodeError) as caught:
        probe(path)
    check(caught.value, path, "no video stream", "audio")


def test_video_without_frames(tmp_path):
    import av

    path = tmp_path / "hollow.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(DecodeError) as caught:
        probe(path)
    check(caught.value, path, "no frame")


def test_truncated_at_any_point(mux):
    whole = mux("whole.mp4", n=50, size=(128, 96), audio=click_track(2, [0.5]), options={"movflags": "faststart"})
    data = whole.read_bytes()
    for share in (0.1, 0.5, 0.8, 0.95):
        path = whole.with_name(f"cut{share}.mp4")
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DecodeError) as caught:
            decode_all(path)
        check(caught.value, path)


def test_overwritten_frames(mux):
    path = mux("noise.mp4", n=50, size=(128, 96))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 2000
    data[start : start + 600] = np.random.default_rng(0).integers(0, 256, 600).astype(np.uint8).tobytes()
    path.write_bytes(data)
    with pytest.raises(DecodeError) as caught:
        decode_all(path)
    check(caught.value, path)


@pytest.mark.parametrize("name", NAMES)
def test_awkward_names_work(mux, name):
    path = mux(name, n=3, audio=click_track(0.12, [0.02]))
    assert probe(path).frames == 3
    assert sum(len(c) for c in chunks(path)) == 3
    assert read_audio(path) is not None
    write_clip(path.with_name("out " + name), iter(np.zeros((3, 16, 16, 3), np.uint8)))


def test_one_frame_clip(mux):
    path = mux(n=1)
    clip = Clip(path)
    assert (clip.frames, clip.native.frames, clip.native.vfr) == (1, 1, False)
    assert clip.native.duration == pytest.approx(0.04)
    assert [len(c) for c in clip.chunks()] == [1]


class TestValidate:
    def clip(self, tmp_path, frames=10, level=100, audio=True):
        sound = np.zeros(frames * 640, np.int16) if audio else None
        write_clip(tmp_path / "c.mp4", [np.full((32, 32, 3), level, np.uint8)] * frames, audio=sound)
        return tmp_path / "c.mp4"

    @pytest.mark.parametrize("expected", [9, 10, 11])
    def test_good_clip_and_one_frame_off(self, tmp_path, expected):
        assert validate(self.clip(tmp_path), expected, True).frames == 10

    def test_any_length(self, tmp_path):
        assert validate(self.clip(tmp_path), None, True).frames == 10

    @pytest.mark.parametrize("expected", [8, 12])
    def test_wrong_length(self, tmp_path, expected):
        with pytest.raises(InvalidClip, match=f"10 frames at 25 fps where {expected}"):
            validate(self.clip(tmp_path), expected, True)

    def test_black(self, tmp_path):
        with pytest.raises(InvalidClip, match="black"):
            validate(self.clip(tmp_path, level=0), 10, True)

    def test_audio_missing(self, tmp_path):
        path = self.clip(tmp_path, audio=False)
        with pytest.raises(InvalidClip, match="no audio"):
            validate(path, 10, True)
        assert not validate(path, 10, False).has_audio

    def test_not_a_video(self, tmp_path):
        (tmp_path / "x.mp4").write_text("hello")
        with pytest.raises(DecodeError):
            validate(tmp_path / "x.mp4", 10, True)


@pytest.mark.parametrize(
    ("frames", "audio", "words"),
    [
        ([], None, "not a single frame"),
        ([np.zeros((8, 8, 3), np.float32)], None, "float32"),
        ([np.zeros((8, 8), np.uint8)], None, r"\(8, 8\)"),
        (
            [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)],
            None,
            "frame 1 is 10x8, frame 0 was 8x8",
        ),
        ([np.zeros((8, 8, 3), np.uint8)], np.zeros(640, np.float32), "int16"),
    ],
)
def test_refused_frames_leave_nothing_behind(tmp_path, frames, audio, words):
    with pytest.raises(EncodeError, match=words):
        write_clip(tmp_path / "out.mp4", frames, audio=audio)
    assert list(tmp_path.iterdir()) == []
