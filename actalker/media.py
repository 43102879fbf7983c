"""Reading pictures, speech and driving video, and writing clips, with PyAV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actalker.components import SAMPLE_RATE
from actalker.errors import InputError, MissingPackageError
from actalker.writing import replacing

Frame = npt.NDArray[np.uint8]
Waveform = npt.NDArray[np.float32]

_CONTAINERS = (".mp4", ".mov", ".mkv")


def _av() -> Any:
    """PyAV, loaded when the first file is opened: a machine that trains from prepared features needs none.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("reading and writing media needs the package av", "pip install av") from error
    return av


def _decode_errors() -> tuple[type[Exception], ...]:
    return (_av().FFmpegError, OSError, IndexError)


def read_image(path: str | Path) -> Frame:
    """First frame of any picture PyAV reads, RGB (H, W, 3).

    Raises:
        InputError: missing, empty or undecodable file.
    """
    for frame in _decode_video(path):
        return frame
    raise InputError(f"{path} contains no picture", "Pass a PNG, JPEG or WebP file.")


def read_audio(path: str | Path) -> Waveform:
    """Audio of a sound or video file as mono float32 in [-1, 1] at 16 kHz.

    Raises:
        InputError: missing or undecodable file, or one without an audio stream.
    """
    av = _av()
    try:
        with av.open(_existing(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path} has no audio stream", "Pass a WAV, FLAC, MP3 or a video with sound.")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            parts = [
                part.to_ndarray().reshape(-1)
                for frame in container.decode(audio=0)
                for part in resampler.resample(frame)
            ]
            parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
    except _decode_errors() as error:
        raise InputError(f"{path} cannot be decoded as audio: {error}", "Re-encode it, e.g. to WAV.") from error
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def has_sound(path: str | Path) -> bool:
    """Whether a file has an audio stream.

    Raises:
        InputError: missing or unreadable file.
    """
    try:
        with _av().open(_existing(path)) as container:
            return bool(container.streams.audio)
    except _decode_errors() as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def video_frames(path: str | Path, fps: float) -> Iterator[Frame]:
    """Frames of a video at a constant rate, chosen by timestamp from whatever rate the file has.

    Output frame i is the last source frame shown at or before second i / fps; the clip's first frame is
    at second 0 and its last one is shown for its own duration.

    Raises:
        InputError: missing or undecodable file.
    """
    shown: Frame | None = None
    i = 0
    for time, _, frame in _timed_frames(path):
        while shown is not None and i / fps < time - 1e-6:
            yield shown
            i += 1
        shown = frame
        last = time
    if shown is None:
        raise InputError(f"{path} contains no video frames", "Pass a video file.")
    end = last + frame_duration(path)
    while i / fps < end - 1e-6:
        yield shown
        i += 1


def frame_duration(path: str | Path) -> float:
    """Nominal duration of one frame of a video in seconds."""
    with _av().open(_existing(path)) as container:
        rate = container.streams.video[0].average_rate
    return 1 / float(rate) if rate else 1 / 25


def video_length(path: str | Path, fps: float) -> int:
    """Number of frames `video_frames` yields, from packet timestamps without decoding.

    Raises:
        InputError: missing or unreadable file, or one without a video stream.
    """
    try:
        with _av().open(_existing(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video stream", "Pass a video file.")
            stream = container.streams.video[0]
            times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
            base = float(stream.time_base or 0)
    except _decode_errors() as error:
        raise InputError(f"{path} cannot be read as video: {error}", "Re-encode it, e.g. to MP4.") from error
    if not times:
        raise InputError(f"{path} contains no video frames", "Pass a video file.")
    end = (max(times) - min(times)) * base + frame_duration(path)
    return math.ceil(end * fps - 1e-6 * fps)


def write_video(path: str | Path, frames: Iterable[Frame], fps: float, audio: Waveform | None = None) -> int:
    """Write H.264 (and AAC) and return the number of frames; the file appears only when it is complete.

    Args:
        path: output file, usually `.mp4`.
        frames: RGB frames (H, W, 3) of one size.
        fps: frame rate.
        audio: mono float32 at 16 kHz, cut to the clip's length.

    Raises:
        InputError: no frames, or a file name of another kind than `.mp4`, `.mov` or `.mkv`.
    """
    path, av = Path(path), _av()
    if path.suffix.lower() not in _CONTAINERS:
        raise InputError(
            f"cannot write {path}: {path.suffix or 'a name without ending'} is no container for H.264",
            f"Choose one of: {', '.join(_CONTAINERS)}.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as partial, av.open(str(partial), "w") as container:
        video = None
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if audio is not None else None
        for array in frames:
            if video is None:
                video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                video.height, video.width = array.shape[0] // 2 * 2, array.shape[1] // 2 * 2
                video.pix_fmt = "yuv420p"
                video.options = {"crf": "14", "preset": "medium"}
            even = np.ascontiguousarray(array[: video.height, : video.width])
            container.mux(video.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            count += 1
        if video is None:
            raise InputError("there are no frames to write")
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            samples = audio[: round(count / fps * SAMPLE_RATE)].reshape(1, -1)
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
            block.sample_rate = SAMPLE_RATE
            container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return count


def _decode_video(path: str | Path) -> Iterator[Frame]:
    for _, _, frame in _timed_frames(path):
        yield frame


def _timed_frames(path: str | Path) -> Iterator[tuple[float, int, Frame]]:
    """(seconds since the first frame, index, upright RGB frame) of every frame."""
    try:
        with _av().open(_existing(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no picture or video stream", "Pass an image or video file.")
            first: float | None = None
            for index, frame in enumerate(container.decode(video=0)):
                time = frame.time if frame.time is not None else index / 25
                first = time if first is None else first
                array = frame.to_ndarray(format="rgb24")
                yield time - first, index, np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90)))
    except _decode_errors() as error:
        raise InputError(f"{path} cannot be decoded: {error}", "Re-encode it, e.g. to PNG or MP4.") from error


def _existing(path: str | Path) -> str:
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist or is not a file")
    return str(path)
