"""What a mouth does while it says this: opening and shape from speech, without any learned weights.

Voiced sound opens the mouth, the more so the higher the first formant; a high second formant spreads the
lips and a low one rounds them; hiss is said with the teeth nearly closed. Formants are read as spectral
centroids of the bands they move in, which is coarse but never loses track, and each speaker's own range is
used because it depends on the vocal tract.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE = 16000
SAMPLES_PER_FRAME = 640
_WINDOW = 512  # 32 ms
_HOP = 160  # 10 ms
_PER_FRAME = SAMPLES_PER_FRAME // _HOP
_FREQUENCY = np.fft.rfftfreq(_WINDOW, 1 / RATE)

# Hz; the ranges the formants of speech move in (Peterson and Barney 1952) and where fricatives hiss.
_FIRST_FORMANT = (220, 1000)
_SECOND_FORMANT = (900, 2800)
_VOICE = (100, 3500)
_HISS = (3800, 7800)

Signal = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Articulation:
    """Mouth parameters at 25 fps.

    Attributes:
        opening: (n,) in [0, 1]: 0 closed, 1 as wide as speech gets.
        spread: (n,) in [-1, 1]: -1 rounded, 1 spread.
    """

    opening: Signal
    spread: Signal


def articulate(audio: npt.NDArray[np.int16], frames: int) -> Articulation:
    """Return the mouth parameters of `frames` frames of speech.

    Args:
        audio: int16 (n,), 16 kHz mono; missing samples at the end count as silence.
        frames: frames at 25 fps; frame k covers samples 640 k to 640 (k + 1).
    """
    power = _spectrogram(audio, frames)
    level = _level(_band(power, _VOICE))
    voiced = np.clip(2.5 * level, 0, 1)
    hiss = _band(power, _HISS) / (_band(power, _VOICE) + _band(power, _HISS) + 1e-9)
    vowels = level * (hiss < 0.5)
    first = _within_own_range(_centroid(power, _FIRST_FORMANT), vowels, 150.0)
    second = 2 * _within_own_range(_centroid(power, _SECOND_FORMANT), vowels, 400.0) - 1
    opening = voiced * (0.1 + 0.9 * first) * (1 - 0.85 * np.clip(2 * hiss - 0.4, 0, 1))
    return Articulation(_at_frames(opening, frames, 2.5), _at_frames(voiced * second, frames, 4.0))


def _spectrogram(audio: npt.NDArray[np.int16], frames: int) -> Signal:
    """Power (frames * 4 + 1, bins) with a window centred on every 10 ms."""
    count = frames * _PER_FRAME + 1
    signal = np.zeros((count - 1) * _HOP + _WINDOW)
    heard = audio[: len(signal) - _WINDOW // 2].astype(np.float64) / 32768
    signal[_WINDOW // 2 : _WINDOW // 2 + len(heard)] = heard
    signal[1:] -= 0.95 * signal[:-1]  # pre-emphasis: evens out the fall of the voice spectrum
    windows = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP][:count]
    return np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1)) ** 2


def _band(power: Signal, band: tuple[int, int]) -> Signal:
    inside = (band[0] <= _FREQUENCY) & (band[1] > _FREQUENCY)
    return np.asarray(power[:, inside].sum(axis=1))


def _centroid(power: Signal, band: tuple[int, int]) -> Signal:
    inside = (band[0] <= _FREQUENCY) & (band[1] > _FREQUENCY)
    weight = np.sqrt(power[:, inside])
    return np.asarray((weight * _FREQUENCY[inside]).sum(axis=1) / (weight.sum(axis=1) + 1e-9))


def _level(energy: Signal) -> Signal:
    """Loudness between the clip's own background (0) and its loud speech (1); all zeros for silence."""
    decibels = 10 * np.log10(energy + 1e-10)
    loud = np.percentile(decibels, 95)
    if loud < -50:
        return np.zeros(len(energy))
    quiet = max(float(np.percentile(decibels, 5)), loud - 40) + 6
    return np.clip((decibels - quiet) / max(loud - quiet, 6), 0, 1)


def _within_own_range(values: Signal, level: Signal, least: float) -> Signal:
    """Map the 10th to 90th percentile over the loud parts to 0..1; a range below `least` is widened to it."""
    loud = values[level > 0.3]
    if len(loud) == 0:
        return np.full(len(values), 0.5)
    low, high = np.percentile(loud, [10, 90])
    return np.clip((values - (low + high) / 2) / max(high - low, least) + 0.5, 0, 1)


def _at_frames(values: Signal, frames: int, sigma: float) -> Signal:
    """Smooth (sigma in steps of 10 ms) and read at the middle of every frame."""
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(values, sigma, mode="nearest")
    return np.asarray(smooth[_PER_FRAME // 2 : frames * _PER_FRAME : _PER_FRAME])
