"""What a user gave, checked: pictures, sound, driving video, gates and length.

Pictures may be files, PIL images, arrays or tensors; sound a file, an array or a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from actalker import media
from actalker.components import SAMPLE_RATE
from actalker.errors import InputError
from actalker.gates import GATES, Gates

Picture = npt.NDArray[np.uint8]
_SILENCE = 1e-3
"""Peak amplitude (-60 dB) below which a recording counts as silent."""


def as_picture(image: Any, what: str = "the image") -> Picture:
    """uint8 RGB (H, W, 3) of a file, a PIL image, an array or a tensor.

    Args:
        image: a file's path; a PIL image; uint8 or float in [0, 1], (H, W, 3) as an array and (3, H, W) as a
            tensor, with or without a batch dimension of 1.
        what: its name in an error.

    Raises:
        InputError: another shape, type or range.
    """
    if isinstance(image, str | Path):
        return media.read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, torch.Tensor):
        if image.ndim == 4 and len(image) == 1:
            image = image[0]
        if image.ndim != 3 or image.shape[0] != 3:
            raise InputError(f"{what} as a tensor has shape (3, height, width), got {tuple(image.shape)}")
        image = image.detach().cpu().float().permute(1, 2, 0).numpy() if image.is_floating_point() else (
            image.detach().cpu().permute(1, 2, 0).numpy()
        )  # fmt: skip
    if not isinstance(image, np.ndarray):
        raise InputError(f"{what} is a {type(image).__name__}", "Pass a file, a PIL image, an array or a tensor.")
    return _bytes(image[0] if image.ndim == 4 and len(image) == 1 else image, what)


def _bytes(array: npt.NDArray[Any], what: str) -> Picture:
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise InputError(f"{what} as an array has shape (height, width, 3), got {array.shape}")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{what} has {array.dtype} values", "Pass uint8, or floats in [0, 1].")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"{what} has values from {array.min():g} to {array.max():g}", "Floats are in [0, 1]; else pass uint8."
        )
    return np.round(array * 255).astype(np.uint8)


def open_gates(gate: str | Gates | None, has_audio: bool, has_video: bool) -> Gates:
    """The gates named, or those of the signals given.

    Raises:
        InputError: nothing to follow, or an open gate without its signal.
    """
    if gate is None:
        if not (has_audio or has_video):
            raise InputError("neither audio nor video is given", "Pass driving audio, a driving video, or both.")
        return Gates(has_audio, has_video)
    gates = gate if isinstance(gate, Gates) else Gates.parse(gate)
    for name, is_open, given in (("audio", gates.audio, has_audio), ("video", gates.visual, has_video)):
        if is_open and not given:
            raise InputError(
                f"gate {gates.name} needs driving {name}, and none is given",
                f"Pass {name}, or choose another gate: {', '.join(GATES)}.",
            )
    return gates


def as_waveform(audio: str | Path | npt.NDArray[Any] | torch.Tensor) -> npt.NDArray[np.float32]:
    """Mono float32 samples in [-1, 1] at 16 kHz of a file, an array (n,) or a tensor (n,) or (1, n).

    Raises:
        InputError: unreadable, not mono, or not finite.
    """
    if isinstance(audio, torch.Tensor):
        audio = audio.detach().cpu()
        audio = (audio.float() if audio.is_floating_point() else audio).numpy()
        audio = audio[0] if audio.ndim == 2 and len(audio) == 1 else audio
    if isinstance(audio, str | Path):
        return media.read_audio(audio)
    if not isinstance(audio, np.ndarray):
        raise InputError(f"the audio is a {type(audio).__name__}", "Pass a file, an array or a tensor.")
    if audio.ndim != 1:
        raise InputError(f"audio samples must be one-dimensional (mono, 16 kHz), got shape {audio.shape}")
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / np.float32(32768)
    samples = audio.astype(np.float32)
    if not np.isfinite(samples).all():
        raise InputError("the audio samples contain NaN or infinity")
    return samples


def check_sound(waveform: npt.NDArray[np.float32], frames: int, fps: float) -> None:
    """Refuse a recording that is silent or shorter than a frame.

    Raises:
        InputError: saying how loud or long it is.
    """
    if frames < 1:
        raise InputError(
            f"the audio lasts {len(waveform) / SAMPLE_RATE:.3f} s, less than one video frame ({1 / fps:.3f} s)",
            "Pass a longer recording.",
        )
    peak = float(np.abs(waveform).max())
    if peak < _SILENCE:
        raise InputError(
            f"the audio is silent (peak {peak:.1e} of full scale)",
            "Pass a recording with speech, or use gate visual.",
        )


def as_driving(video: Any, fps: float) -> tuple[int, Iterator[Picture]]:
    """Number of driving frames and the frames themselves, at `fps`.

    Args:
        video: a file of any frame rate; at the model's rate: uint8 (n, H, W, 3), a tensor (n, 3, H, W), or a
            sequence of pictures as `as_picture` takes them.
        fps: the model's frame rate.

    Raises:
        InputError: unreadable, or another shape.
    """
    if isinstance(video, str | Path):
        return media.video_length(video, fps), media.video_frames(video, fps)
    if isinstance(video, np.ndarray) and (video.ndim != 4 or video.shape[-1] != 3 or not len(video)):
        raise InputError(f"driving frames must have shape (n, height, width, 3), got {video.shape}")
    if not hasattr(video, "__len__") or not len(video):
        raise InputError("the driving video has no frames", "Pass a file, an array or a sequence of pictures.")
    return len(video), (as_picture(frame, "a driving frame") for frame in video)


def frame_count(frames: int | None, lengths: dict[str, int], fps: float, shortest: bool) -> int:
    """Output frames: those asked for, or as many as the open signals last.

    Args:
        frames: asked for, or None.
        lengths: frames of each open signal.
        fps: the model's frame rate.
        shortest: stop where a shorter driving video ends.

    Raises:
        InputError: more than there are, or a driving video that ends before the sound.
    """
    available = min(lengths.values())
    limiting = min(lengths, key=lambda name: lengths[name])
    if frames is not None:
        if frames < 1:
            raise InputError(f"frames={frames}: ask for at least one frame")
        if frames > available:
            raise InputError(
                f"the {limiting} lasts {available / fps:.2f} s, but {frames} frames at {fps:g} fps need "
                f"{frames / fps:.2f} s",
                f"Ask for at most {available} frames, or pass a longer {limiting}.",
            )
        return frames
    if not shortest and limiting == "video" and max(lengths.values()) > available + 2:
        raise InputError(
            f"the driving video ({available / fps:.2f} s) is shorter than the audio "
            f"({lengths['audio'] / fps:.2f} s)",
            "Pass shortest=True (--shortest) to stop where the video ends, or give the number of frames.",
        )
    return available
