"""Synthetic speech: sound, phonemes and articulation that belong together.

A sentence is a chain of (C)V(C) syllables with pauses. Sound comes from harmonics under three moving formant
resonances plus shaped noise for fricatives and bursts; the mouth follows the same phonemes by coarticulation
(dominance-weighted targets, Löfqvist 1990; Cohen and Massaro 1993), and bilabials close the lips completely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE = 16_000  # samples per second
CONTROL = 100  # articulation values per second


@dataclass(frozen=True, slots=True)
class Phone:
    """A speech sound: formants (Hz), voicing (0..1), noise, mouth targets, length.

    `noise` is amplitude, centre (Hz) and width (Hz) of a band; `dominance` the weight in coarticulation.
    """

    formants: tuple[int, int, int]
    voice: float
    noise: tuple[float, float, float]
    open: float
    width: float
    round: float
    milliseconds: float
    dominance: float


def _phone(
    formants: tuple[int, int, int],
    voice: float,
    mouth: tuple[float, float, float],
    milliseconds: float,
    dominance: float,
    noise: tuple[float, float, float] = (0, 0, 1),
) -> Phone:
    return Phone(formants, voice, noise, *mouth, milliseconds, dominance)


PHONES: dict[str, Phone] = {
    "a": _phone((730, 1150, 2440), 1, (0.95, 0.25, 0), 130, 1),
    "A": _phone((660, 1720, 2410), 1, (0.80, 0.60, 0), 125, 1),
    "e": _phone((530, 1840, 2480), 1, (0.50, 0.75, 0), 110, 1),
    "i": _phone((280, 2290, 3010), 1, (0.22, 1.0, 0), 110, 1),
    "o": _phone((570, 840, 2410), 1, (0.60, -0.2, 0.75), 125, 1),
    "u": _phone((310, 870, 2240), 1, (0.25, -0.5, 1.0), 115, 1),
    "@": _phone((500, 1500, 2500), 1, (0.40, 0.2, 0.1), 80, 0.7),
    "m": _phone((260, 1100, 2100), 0.35, (0, 0.1, 0.05), 75, 2.2),
    "b": _phone((250, 800, 2200), 0.12, (0, 0.1, 0.05), 70, 2.4),
    "p": _phone((250, 800, 2200), 0, (0, 0.1, 0.05), 80, 2.4),
    "n": _phone((280, 1600, 2500), 0.35, (0.20, 0.3, 0), 65, 0.8),
    "t": _phone((300, 1750, 2600), 0, (0.18, 0.35, 0), 70, 0.9),
    "d": _phone((300, 1750, 2600), 0.12, (0.18, 0.35, 0), 60, 0.9),
    "k": _phone((300, 1400, 2300), 0, (0.30, 0.2, 0), 75, 0.6),
    "s": _phone((300, 1700, 2600), 0, (0.12, 0.7, 0), 95, 1.3, (0.55, 6000, 1300)),
    "S": _phone((300, 1700, 2500), 0, (0.20, -0.1, 0.65), 95, 1.4, (0.6, 3200, 900)),
    "f": _phone((300, 1100, 2300), 0, (0.06, 0.2, 0), 85, 1.8, (0.22, 5000, 3500)),
    "v": _phone((280, 1100, 2300), 0.4, (0.06, 0.2, 0), 65, 1.6, (0.12, 5000, 3500)),
    "l": _phone((380, 1250, 2600), 0.7, (0.35, 0.3, 0), 65, 0.7),
    "r": _phone((400, 1200, 1600), 0.7, (0.28, -0.1, 0.45), 70, 0.9),
    "w": _phone((300, 700, 2200), 0.7, (0.12, -0.5, 1.0), 70, 1.5),
    "_": _phone((500, 1500, 2500), 0, (0, 0, 0), 180, 1.2),
}
"""The sounds. `@` is schwa, `A` an open front vowel, `S` as in *she*, `_` a pause."""

_VOWELS = ("a", "A", "e", "i", "o", "u", "@")
_VOWEL_SHARES = np.array([0.20, 0.13, 0.16, 0.17, 0.15, 0.12, 0.07])
_CONSONANTS = ("m", "b", "p", "n", "t", "d", "k", "s", "S", "f", "v", "l", "r", "w")
_BILABIALS = ("m", "b", "p")
_BURSTS = {"p": (0.5, 1200), "t": (0.5, 4200), "k": (0.5, 2200), "b": (0.25, 1000), "d": (0.25, 3800)}


@dataclass(frozen=True, slots=True)
class Segment:
    """One phoneme of a sentence: symbol in `PHONES`, start and end in seconds."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Speech:
    """A sentence.

    Attributes:
        audio: (seconds * 16000,) int16, mono.
        segments: phonemes in order, without gaps; the last ones may lie beyond the audio.
        articulation: (4, n) float64 at 100 Hz: mouth open, width, round (units of the expression numbers) and
            accent (standardised prosodic emphasis).
    """

    audio: npt.NDArray[np.int16]
    segments: tuple[Segment, ...]
    articulation: npt.NDArray[np.float64]


def speak(seconds: float, rng: np.random.Generator) -> Speech:
    """Make up a sentence of the given length with a random voice."""
    pitch = rng.uniform(85, 240)
    tract = rng.uniform(0.9, 1.0) + (pitch - 85) / 155 * 0.15
    rate = rng.uniform(0.85, 1.2)
    segments = _sentence(seconds + 0.3, rate, rng)
    times = np.arange(int((seconds + 0.3) * CONTROL) + 1) / CONTROL
    emphasis = np.array([rng.uniform(0.75, 1.15) if s.symbol in _VOWELS else 1.0 for s in segments])
    mouth = _coarticulate(segments, emphasis, times)
    accent = _smooth(rng.standard_normal(len(times)), 12) * 3
    audio = _sound(segments, emphasis, accent, times, seconds, pitch, tract, rng)
    return Speech(audio, tuple(segments), np.concatenate([mouth, accent[None]]))


def _sentence(seconds: float, rate: float, rng: np.random.Generator) -> list[Segment]:
    segments: list[Segment] = []

    def add(symbol: str, milliseconds: float | None = None) -> None:
        start = segments[-1].end if segments else 0.0
        length = milliseconds or PHONES[symbol].milliseconds * rng.uniform(0.75, 1.35)
        segments.append(Segment(symbol, start, start + length / 1000 / rate))

    add("_", rng.uniform(20, 250))
    while segments[-1].end < seconds:
        for _ in range(rng.integers(3, 11)):
            if rng.random() < 0.85:
                add(_CONSONANTS[rng.integers(len(_CONSONANTS))])
            add(_VOWELS[rng.choice(len(_VOWELS), p=_VOWEL_SHARES)])
            if rng.random() < 0.25:
                add(_CONSONANTS[rng.integers(len(_CONSONANTS))])
        add("_", rng.uniform(90, 380))
    return segments


def _coarticulate(
    segments: list[Segment], emphasis: npt.NDArray[np.float64], times: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return mouth open, width and round over time, (3, n)."""
    total = np.zeros(len(times))
    mouth = np.zeros((3, len(times)))
    closure = np.zeros(len(times))
    for segment, loud in zip(segments, emphasis, strict=True):
        phone = PHONES[segment.symbol]
        middle, length = (segment.start + segment.end) / 2, segment.end - segment.start
        weight = phone.dominance * np.exp(-0.5 * ((times - middle) / max(length * 0.42, 0.025)) ** 2) + 1e-9
        total += weight
        mouth += weight * np.array([[phone.open * loud], [phone.width], [phone.round]])
        if segment.symbol in _BILABIALS:
            closure = np.maximum(closure, np.exp(-0.5 * ((times - middle) / (length * 0.45)) ** 2))
    mouth /= total
    mouth[0] *= 1 - closure
    return mouth


def _smooth(values: npt.NDArray[np.float64], sigma: int) -> npt.NDArray[np.float64]:
    steps = np.arange(-4 * sigma, 4 * sigma + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    return np.convolve(np.pad(values, len(steps) // 2, mode="edge"), kernel / kernel.sum(), "valid")


def _sound(
    segments: list[Segment],
    emphasis: npt.NDArray[np.float64],
    accent: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    seconds: float,
    pitch: float,
    tract: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    ends = np.array([s.end for s in segments])
    at = np.minimum(np.searchsorted(ends, times, side="right"), len(segments) - 1)
    phones = [PHONES[s.symbol] for s in segments]
    formants = np.array([p.formants for p in phones], float).T[:, at] * tract
    formants = np.stack([_smooth(row, 2) for row in formants])
    voice = _smooth(np.array([p.voice for p in phones])[at] * emphasis[at], 1)
    noise, centre, spread = np.array([p.noise for p in phones], float).T[:, at]
    noise = _smooth(noise, 1)
    for segment in segments:
        step = int(segment.end * CONTROL)
        if segment.symbol in _BURSTS and step < len(times):
            burst, frequency = _BURSTS[segment.symbol]
            noise[step] += burst
            centre[step], spread[step] = frequency, 900
    contour = pitch * np.exp(0.10 * accent - 0.12 * (times % 2.2) / 2.2)

    count = round(seconds * RATE)
    samples = np.arange(count) / RATE
    voiced = _harmonics(contour, formants, voice, pitch, times, samples)
    hiss = _shaped_noise(noise, centre, spread, voice, count, rng)
    audio = 0.05 * voiced + 0.35 * hiss + 0.0008 * rng.standard_normal(count)
    return np.round(audio / (np.abs(audio).max() + 1e-6) * 0.7 * 32767).astype(np.int16)


def _harmonics(
    contour: npt.NDArray[np.float64],
    formants: npt.NDArray[np.float64],
    voice: npt.NDArray[np.float64],
    pitch: float,
    times: npt.NDArray[np.float64],
    samples: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Add up sines at multiples of the pitch, with amplitudes read off the formant resonances."""
    number = np.arange(1, int(min(4500 / pitch, 48)) + 1)[:, None]
    frequency = number * contour[None]
    level = np.ones_like(frequency)
    for resonance, width in zip(formants, (80, 100, 140), strict=True):
        level *= resonance**2 / np.sqrt((resonance**2 - frequency**2) ** 2 + (width * frequency) ** 2 + 1e-3)
    level *= 3500.0**2 / np.sqrt((3500.0**2 - frequency**2) ** 2 + (250 * frequency) ** 2)
    level = (level * (frequency / pitch) ** -1.1 * (frequency < 7600) * voice).astype(np.float32)
    phase = 2 * np.pi * np.cumsum(np.interp(samples, times, contour)) / RATE
    step = np.minimum((samples * CONTROL).astype(int), len(times) - 2)
    share = (samples * CONTROL - step).astype(np.float32)
    turn = np.exp(1j * phase).astype(np.complex64)
    wave = turn.copy()
    audio = np.zeros(len(samples), np.float32)
    for row in level:
        audio += wave.imag * (row[step] * (1 - share) + row[step + 1] * share)
        wave *= turn
    return audio


def _shaped_noise(
    level: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    voice: npt.NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Filter white noise frame by frame (10 ms hop, overlap-add): Gaussian band plus a little breath."""
    window, hop = 320, 160
    frames = count // hop
    taper = np.hanning(window + 1)[:window]
    spectrum = np.fft.rfft(rng.standard_normal((frames, window)) * taper, axis=1)
    frequency = np.fft.rfftfreq(window, 1 / RATE)[None]
    band = np.exp(-0.5 * ((frequency - centre[:frames, None]) / spread[:frames, None]) ** 2)
    pieces = np.fft.irfft(spectrum * (level[:frames, None] * band + 0.004 * voice[:frames, None]), axis=1)
    audio = np.zeros(count + window)
    audio[: frames * hop] += pieces[:, :hop].reshape(-1)
    audio[hop : hop + frames * hop] += pieces[:, hop:].reshape(-1)
    return audio[:count]
