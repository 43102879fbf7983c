"""Through another codec and back, in memory: what a clip looks and sounds like after somebody else's encoder."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from bench.media.decode import SAMPLE_RATE
from bench.media.probe import FPS

Frames = npt.NDArray[np.uint8]

# Coding units of 64 pixels make x265 read past the end of frames as small: other bytes on every run.
_QUIET = {
    "libx265": {"x265-params": "log-level=error:pools=none:frame-threads=1:ctu=32"},
    "libx264": {"threads": "1"},
}


def available(codec: str) -> bool:
    """Tell whether the installed codec library can encode with `codec`, e.g. `libx265` or `libmp3lame`."""
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True


def pictures(frames: Frames, codec: str, options: Mapping[str, str]) -> Frames:
    """Return frames after encoding as 4:2:0 video and decoding.

    Args:
        frames: uint8 (n, height, width, 3), RGB, with even sizes.
        codec: encoder, e.g. `libx264`.
        options: of the encoder, e.g. `{"crf": "23"}`.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(FPS), options={**_QUIET.get(codec, {}), **options})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    buffer.seek(0)
    source: Any = av.open(buffer)
    with source:
        decoded = [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in source.decode(video=0)]
    return _as_long(np.stack(decoded), len(frames))


def chroma(frames: Frames) -> Frames:
    """Return frames (n, height, width, 3) after 4:2:0 subsampling of their colour, without any codec."""
    subsampled = (
        av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24").reformat(format="yuv420p")
        for f in frames
    )
    return np.stack([np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in subsampled])


def _as_long(frames: Frames, count: int) -> Frames:
    """Repeat the last frame or cut: encoders may swallow one."""
    missing = max(0, count - len(frames))
    return np.concatenate([frames[:count], np.repeat(frames[-1:], missing, axis=0)])


def sound(samples: npt.NDArray[np.int16], codec: str, bit_rate: int, rate: int) -> npt.NDArray[np.int16]:
    """Return sound after an encoder, brought to its sample rate and back, aligned to the input.

    Args:
        samples: int16 (n,), 16 kHz mono.
        codec: encoder, e.g. `libmp3lame`; `pcm_s16le` only resamples.
        bit_rate: bits per second.
        rate: sample rate the encoder gets.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.codec_context.thread_count = 1
        resampler = av.AudioResampler(
            format=stream.codec_context.format.name, layout="mono", rate=rate, frame_size=stream.frame_size or 0
        )
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    buffer.seek(0)
    back = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    parts = []
    source: Any = av.open(buffer)
    with source:
        for decoded in source.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in back.resample(decoded)]
        parts += [part.to_ndarray()[0] for part in back.resample(None)]
    heard = np.concatenate(parts)
    return aligned(heard, samples)


def aligned(heard: npt.NDArray[np.int16], samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Shift and cut what came back so that it lies on `samples`: encoders put up to 100 ms of silence first."""
    from scipy.signal import correlate

    reach = 2400
    n = min(len(samples), len(heard), 10 * SAMPLE_RATE)
    inner = samples[:n].astype(np.float64)
    padded = np.pad(heard[: n + reach].astype(np.float64), (reach, max(0, n + reach - len(heard))))
    lag = int(np.argmax(correlate(padded, inner, mode="valid", method="fft"))) - reach
    shifted = heard[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag, np.int16), heard])
    return np.pad(shifted[: len(samples)], (0, max(0, len(samples) - len(shifted))))
