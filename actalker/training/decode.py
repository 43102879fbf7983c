"""Reading training videos with PyAV: frames at 25 fps, sound at 16 kHz."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from actalker.errors import InputError

FPS, SAMPLE_RATE = 25, 16_000
_PER_FRAME = SAMPLE_RATE // FPS


def read_clip(video: Path, sound: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    """Read frames (T, H, W, 3), RGB, resampled to 25 fps by time stamp, and sound cut or padded to T * 640 samples.

    Raises:
        InputError: a file cannot be decoded or holds no picture; `sound` holds no sound.
    """
    try:
        frames, times = _pictures(video)
        audio = _sound(sound)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"cannot read {video} with sound {sound}: {error}") from error
    if not frames:
        raise InputError(f"{video} holds no picture")
    count = max(1, round((times[-1] - times[0]) * FPS) + 1)
    wanted = times[0] + np.arange(count) / FPS
    nearest = np.abs(np.asarray(times)[None] - wanted[:, None]).argmin(1)
    audio = np.pad(audio, (0, max(0, count * _PER_FRAME - len(audio))))[: count * _PER_FRAME]
    return np.stack([frames[i] for i in nearest]), audio


def _pictures(path: Path) -> tuple[list[npt.NDArray[np.uint8]], list[float]]:
    frames, times = [], []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(container.streams.video[0])):
            frames.append(frame.to_ndarray(format="rgb24"))
            times.append(number / FPS if frame.time is None else float(frame.time))
    return frames, times


def _sound(path: Path) -> npt.NDArray[np.int16]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    parts = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(parts).astype(np.int16) if parts else np.zeros(0, np.int16)
