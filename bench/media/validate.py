"""The check every generated clip must pass before it counts as a result."""

from __future__ import annotations

from pathlib import Path

from bench.media.decode import FPS, chunks, resample_plan
from bench.media.errors import InvalidClip
from bench.media.probe import Probe, probe

_BLACK = 16
"""Grey level up to which a pixel counts as black (limited-range black decodes to a few levels above 0)."""


def validate(path: Path, expected_frames: int | None, expect_audio: bool) -> Probe:
    """Decode the whole clip and return its probe.

    Args:
        path: the clip.
        expected_frames: frames at 25 fps; one more or less passes. None accepts any length.
        expect_audio: the clip must have an audio stream.

    Raises:
        DecodeError: it cannot be read to its end.
        InvalidClip: wrong number of frames, all black, or no audio stream though one was expected.
    """
    found = probe(path)
    frames = resample_plan(path, FPS).frames
    if expected_frames is not None and abs(frames - expected_frames) > 1:
        raise InvalidClip(f"{path} has {frames} frames at {FPS:g} fps where {expected_frames} were expected.")
    brightest = max(int(chunk.max()) for chunk in chunks(path, FPS))
    if brightest <= _BLACK:
        raise InvalidClip(f"{path} is black throughout (brightest value {brightest} of 255).")
    if expect_audio and not found.has_audio:
        raise InvalidClip(f"{path} has no audio stream though the sample has driving speech.")
    return found
