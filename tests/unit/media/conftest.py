"""Media files made on the spot, so that every test runs without any downloaded clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture(scope="session")
def shared_media(shared: Path) -> Path:
    """The folder of real clips, where there is one."""
    return shared / "media"


def numbered_frame(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A grey frame with its index written as eight black or white blocks along the top."""
    frame = np.full((height, width, 3), 96, np.uint8)
    for bit in range(8):
        block = slice(bit * (width // 8), (bit + 1) * (width // 8))
        frame[: height // 2, block] = 230 if index >> bit & 1 else 20
    return frame


def read_number(frame: np.ndarray) -> int:
    """The index `numbered_frame` wrote."""
    height, width = frame.shape[:2]
    blocks = frame[height // 8 : height // 4, : width // 8 * 8].reshape(height // 4 - height // 8, 8, -1)
    return sum(1 << bit for bit in range(8) if blocks[:, bit].mean() > 125)


Mux = Callable[..., Path]


@pytest.fixture
def mux(tmp_path: Path) -> Mux:
    """Return a function that writes a video with exactly the properties asked for."""

    def write(
        name: str = "clip.mp4",
        *,
        times: Sequence[Fraction | float] | None = None,
        n: int = 10,
        fps: Fraction | float = 25,
        size: tuple[int, int] = (64, 48),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        audio: np.ndarray | None = None,
        audio_codec: str = "aac",
        audio_rate: int = 16000,
        audio_start: float = 0.0,
        rotation: int = 0,
        sar: Fraction | None = None,
        options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tick = Fraction(1, 25 if codec == "mpeg4" else 90000)
        rate = Fraction(fps).limit_denominator(1001)
        moments = list(times) if times is not None else [k / rate for k in range(n)]
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=rate, options=options or {})
            video.width, video.height, video.pix_fmt = size[0], size[1], pix_fmt
            video.time_base = video.codec_context.time_base = tick
            if sar:
                video.codec_context.sample_aspect_ratio = sar
            if rotation:
                video.set_display_rotation(rotation)
            sound = None
            if audio is not None:
                layout = "mono" if audio.ndim == 1 else "stereo"
                sound = container.add_stream(audio_codec, rate=audio_rate, layout=layout)
            for index, moment in enumerate(moments):
                frame = av.VideoFrame.from_ndarray(numbered_frame(index, *size), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                frame.pts, frame.time_base = round(Fraction(moment) / tick), tick
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if sound is not None and audio is not None:
                samples = audio.reshape(1, -1) if audio.ndim == 1 else audio
                step = sound.codec_context.frame_size or 1024
                for at in range(0, samples.shape[1], step):
                    piece = np.ascontiguousarray(samples[:, at : at + step], np.float32)
                    block = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                    block.sample_rate, block.time_base = audio_rate, Fraction(1, audio_rate)
                    block.pts = at + round(audio_start * audio_rate)
                    container.mux(sound.encode(block))
                container.mux(sound.encode(None))
        return path

    return write


def click_track(seconds: float, at: Sequence[float], rate: int = 16000) -> np.ndarray:
    """Silence with 1 ms clicks, float32 in [-1, 1]."""
    audio = np.zeros(round(seconds * rate), np.float32)
    for moment in at:
        begin = round(moment * rate)
        audio[begin : begin + rate // 1000] = 0.7
    return audio


def click_time(audio: np.ndarray, near: float, rate: int = 16000, reach: float = 0.03) -> float:
    """Energy centroid in seconds of the click around `near`, minus half its width."""
    lo = max(0, round((near - reach) * rate))
    window = audio[lo : round((near + reach) * rate)].astype(np.float64) ** 2
    assert window.sum() > 1e4, "no click there"
    return (lo + (np.arange(len(window)) * window).sum() / window.sum()) / rate - 0.0005
