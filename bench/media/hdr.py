"""High dynamic range to the range every metric knows: BT.2100's PQ and HLG to BT.709 colours.

Light is read by ITU-R BT.2100-2 (PQ: table 4; HLG: table 5, for a display of 1000 cd/m^2, system gamma 1.2).
White of ordinary material is 203 cd/m^2 (ITU-R BT.2408-7). What is brighter is compressed by the knee of ITU-R
BT.2390-10 (section 5.4.1), applied to the largest of the three lights so that hues stay. Colours go from
BT.2020 to BT.709 by ITU-R BT.2087-0 and are clipped; the result is coded by sRGB's curve (IEC 61966-2-1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CURVES = {16: "PQ", 18: "HLG"}
"""Names of the transfer characteristics that are tone-mapped, by ITU-T H.273's number."""

PEAK = 1000.0  # cd/m^2 of the display the material was made for
WHITE = 203.0  # cd/m^2 of white in ordinary material
_TO_709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    np.float32,
)
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_M1, _M2, _C1, _C2, _C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_STEPS = 4096

Floats = npt.NDArray[np.floating[Any]]


def pq_light(signal: Floats) -> Floats:
    """Return cd/m^2 from PQ's signal in [0, 1] (BT.2100's EOTF)."""
    root = np.power(signal, 1 / _M2)
    return 10000 * np.power(np.maximum(root - _C1, 0) / (_C2 - _C3 * root), 1 / _M1)


def pq_signal(light: Floats) -> Floats:
    """Return PQ's signal in [0, 1] from cd/m^2: the inverse of `pq_light`."""
    root = np.power(np.asarray(light) / 10000, _M1)
    return np.power((_C1 + _C2 * root) / (1 + _C3 * root), _M2)


def hlg_light(signal: Floats) -> Floats:
    """Return scene light in [0, 1] from HLG's signal in [0, 1] (BT.2100's inverse OETF)."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def compressed(light: Floats) -> Floats:
    """Return light in [0, WHITE] from light in [0, PEAK], in cd/m^2; monotonic, unchanged below the knee.

    BT.2390's Hermite spline on PQ values relative to the peak, from the knee to the peak.
    """
    top = pq_signal(np.array(PEAK))
    most = pq_signal(np.array(WHITE)) / top
    knee = 1.5 * most - 0.5
    value = pq_signal(np.clip(light, 0, PEAK)) / top
    t = np.clip((value - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_light(np.where(value < knee, value, spline) * top)


class ToneMap:
    """Maps 16-bit RGB of one transfer characteristic to 8-bit sRGB.

    Args:
        transfer: 16 (PQ) or 18 (HLG).
        wide: the colours are BT.2020's, not BT.709's.
    """

    def __init__(self, transfer: int, wide: bool = True) -> None:
        self._scene = CURVES[transfer] == "HLG"
        self._wide = wide
        signal = np.arange(65536) / 65535
        light = hlg_light(signal) if self._scene else pq_light(signal)
        self._light = light.astype(np.float32)
        # Gains by the square root of light: even steps of light would be far too coarse in the dark.
        steps = (np.arange(_STEPS) / (_STEPS - 1)) ** 2 * PEAK
        self._gain = (compressed(steps[1:]) / steps[1:] / WHITE).astype(np.float32)
        self._gain = np.concatenate([self._gain[:1], self._gain])
        level = (np.arange(_STEPS) / (_STEPS - 1)) ** 2
        coded = np.where(level <= 0.0031308, 12.92 * level, 1.055 * level ** (1 / 2.4) - 0.055)
        self._code = np.rint(255 * coded).astype(np.uint8)

    def __call__(self, rgb: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """Return uint8 (height, width, 3) from uint16 of the same shape, full range."""
        result = np.empty(rgb.shape, np.uint8)
        rows = max(1, 2**18 // rgb.shape[1])
        for top in range(0, len(rgb), rows):
            light = self._light[rgb[top : top + rows]]
            if self._scene:  # BT.2100's OOTF: the display's light from the scene's
                light *= PEAK * np.power(np.maximum(light @ _LUMA, 1e-9), 0.2)[..., None]
            largest = np.clip(light.max(axis=-1, keepdims=True), 0, PEAK)
            at = np.sqrt(largest / PEAK) * (_STEPS - 1)
            light *= self._gain[at.astype(np.int32)]
            if self._wide:
                light = light @ _TO_709.T
            codes = np.sqrt(np.clip(light, 0, 1)) * (_STEPS - 1)
            result[top : top + rows] = self._code[np.rint(codes).astype(np.int32)]
        return result
