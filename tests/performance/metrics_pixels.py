"""Time PSNR, SSIM and flicker against scikit-image and NumPy on 512x512 frames; run as a script.

python tests/performance/metrics_pixels.py [frames]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench.metrics.pixels import psnr, ssim
from bench.metrics.temporal import change


def frames(n: int, size: int = 512, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return two uint8 clips (n, size, size, 3): a drifting smooth picture, and the same with noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    clip = np.stack([128 + 100 * np.sin(x / 31 + t / 7) * np.cos(y / 47) for t in range(n)])
    clip = np.repeat(clip[..., None], 3, axis=3)
    noisy = clip + generator.normal(0, 6, clip.shape)
    return clip.round().astype(np.uint8), noisy.round().clip(0, 255).astype(np.uint8)


def best(call: Callable[[], np.ndarray], repeats: int = 3) -> tuple[float, np.ndarray]:
    """Return the shortest of several wall times in seconds and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def tool_ssim(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return scikit-image's SSIM with the settings of the protocol."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return np.array(
        [
            structural_similarity(a, b, data_range=255, channel_axis=-1, **options)
            for a, b in zip(ours, theirs, strict=True)
        ]
    )


def tool_psnr(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return scikit-image's PSNR."""
    return np.array([peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(ours, theirs, strict=True)])


def plain_flicker(clip: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return adjacent differences the obvious way."""
    return np.array([np.abs(b.astype(float) - a).mean() for a, b in pairwise(clip)])


def our_flicker(clip: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Return adjacent differences as `flicker/mae` computes them."""
    return np.array([change(a, b) for a, b in pairwise(clip)])


def main() -> None:
    """Print one line per metric: milliseconds per frame pair, ratio, largest difference."""
    pair = frames(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
    print(f"{'metric':10} {'ours ms':>9} {'tool ms':>9} {'ratio':>7} {'max diff':>10}")
    for name, ours, tool in (
        ("ssim", ssim, tool_ssim),
        ("psnr", psnr, tool_psnr),
        ("flicker", our_flicker, plain_flicker),
    ):
        fast, value = best(lambda call=ours: call(*pair))
        slow, expected = best(lambda call=tool: call(*pair))
        scale = 1000 / len(pair[0])
        print(
            f"{name:10} {fast * scale:9.2f} {slow * scale:9.2f} {slow / fast:7.1f} "
            f"{np.abs(value - expected).max():10.1e}"
        )


if __name__ == "__main__":
    main()
