"""Mel-frequency cepstral coefficients as SyncNet was trained on them.

The audio tower of SyncNet expects 13 coefficients at 100 Hz, computed from the *int16 amplitudes* of 16 kHz
speech with a rectangular 25 ms window. Samples scaled to [-1, 1] would shift the first coefficient by a
constant (about -20.8) and leave the rest alone, an error no network reports; so only integers are accepted.

Source: S. Davis and P. Mermelstein, "Comparison of parametric representations for monosyllabic word
recognition", 1980; the conventions (half-open triangular filters on FFT bins, log frame energy as first
coefficient, lifter 22) are those of `python_speech_features.mfcc` 0.6 with its defaults.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.fft

SAMPLE_RATE = 16_000
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
N_FILTERS = 26
N_CEPSTRA = 13
PRE_EMPHASIS = 0.97
LIFTER = 22


@cache
def filterbank() -> npt.NDArray[np.float64]:
    """Return the triangular mel filters, shape (26, 257), with edges on FFT bins from 0 to 8000 Hz."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, N_FILTERS + 2) / 2595) - 1)
    edges = np.floor((N_FFT + 1) * hertz / SAMPLE_RATE)
    left, centre, right = (edges[i : i + N_FILTERS, None] for i in range(3))
    bins = np.arange(N_FFT // 2 + 1)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising = (bins - left) / (centre - left)
        falling = (right - bins) / (right - centre)
    rises = (bins >= left) & (bins < centre)
    falls = (bins >= centre) & (bins < right)
    return np.where(rises, rising, np.where(falls, falling, 0.0))


def n_columns(n_samples: int) -> int:
    """Return the number of 10 ms columns of `n_samples`: 4n - 1 for n video frames of 640 samples."""
    return 1 if n_samples <= WINDOW else 1 + -(-(n_samples - WINDOW) // HOP)


def mfcc(audio: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return the coefficients of speech.

    Args:
        audio: integer samples (int16 amplitude), shape (n,), mono, 16 kHz.

    Returns:
        Shape (columns, 13), one row per 10 ms; the first coefficient is the log energy of the frame.
        The last window is completed with zeros. Digital silence gives log(eps) = -36.04 and zeros.

    Raises:
        TypeError: the samples are not integers.
        ValueError: there are none, or there is more than one channel.
    """
    if not np.issubdtype(audio.dtype, np.integer):
        raise TypeError(f"mfcc needs int16 amplitudes, got {audio.dtype}: scaled samples change the result")
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"mfcc needs a non-empty mono signal of shape (n,), got shape {audio.shape}")
    samples = audio.astype(np.float64)
    columns = n_columns(len(samples))
    signal = np.zeros((columns - 1) * HOP + WINDOW)
    signal[: len(samples)] = samples
    signal[1 : len(samples)] -= PRE_EMPHASIS * samples[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames, N_FFT)
    power = (spectrum.real**2 + spectrum.imag**2) / N_FFT
    tiny = np.finfo(np.float64).eps
    energy = power.sum(axis=1)
    bands = power @ filterbank().T
    log_bands = np.log(np.where(bands == 0, tiny, bands))
    order = np.arange(N_CEPSTRA)
    lift = 1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER)
    cepstra = scipy.fft.dct(log_bands, type=2, axis=1, norm="ortho")[:, :N_CEPSTRA] * lift
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstra
