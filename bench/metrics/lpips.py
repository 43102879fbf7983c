"""LPIPS between generated and ground-truth frames, at native size.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", version 0.1.
ACTalker's paper reports the VGG variant; the two trunks are on different scales, and values change with
resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, resident
from bench.metrics.networks import LPIPS_FILES
from bench.metrics.pairing import paired_chunks, summarize
from bench.metrics.precision import Precision, with_bf16
from bench.weights import ref

if TYPE_CHECKING:
    from bench.metrics.networks.lpips import Distance

SMALLEST = 64  # pixels; AlexNet's last layers vanish below


class _Lpips:
    trunk: Literal["alex", "vgg"]
    batch: int  # frames
    planes: int  # float32 planes of a frame that the activations of a pair take
    default: bool
    precision = Precision.FP32
    code_modules = (
        "bench.metrics.lpips",
        "bench.metrics.pairing",
        "bench.metrics.networks.lpips",
        "bench.metrics.networks.loading",
    )

    def __init__(self) -> None:
        name = {"alex": "AlexNet", "vgg": "VGG-16"}[self.trunk]
        self.spec = MetricSpec(
            id=f"lpips/{self.trunk}_v0.1",
            version="1",
            kind="clip",
            columns=(Column("lpips", f"LPIPS ({self.trunk})", "lower", digits=4),),
            domains=("real",),
            needs=("reference",),
            params={"trunk": self.trunk, "lpips": "0.1", "range": "[-1, 1]", "size": "native"},
            weights=tuple(ref(file) for file in LPIPS_FILES[self.trunk]),
            default=self.default,
            summary=f"Learned perceptual distance to the ground truth, {name} trunk, mean over frames.",
            source="Zhang et al. 2018; lpips 0.1.4",
            device="gpu",
        )
        self._distance: Distance | None = None

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `lpips`.

        Raises:
            Unscored: no reference, lengths or sizes differ, frames under 64 pixels, or missing weights.
        """
        if min(clip.width, clip.height) < SMALLEST:
            raise Unscored(Reason.SHAPE_MISMATCH, f"{clip.width}x{clip.height}; LPIPS needs {SMALLEST}x{SMALLEST}")
        size = self.batch
        if resident(clip) is not None:
            from bench.metrics.networks.loading import batch_size

            size = batch_size(size, self.planes * clip.width * clip.height * 4 / 2**20)
        pairs = paired_chunks(clip, reference, size)
        first = next(pairs)
        if self._distance is None:
            from bench.metrics.networks.lpips import Distance

            self._distance = Distance(self.trunk, precision=self.precision)
        distances = [self._distance.distance(*first), *(self._distance.distance(*pair) for pair in pairs)]
        values = np.concatenate([x.cpu().numpy() for x in distances])
        if not np.isfinite(values).all():
            raise Unscored(Reason.NOT_FINITE, "LPIPS of a frame is NaN or infinite")
        return {"lpips": float(values.mean()), **summarize(values, clip, reference)}


class Alex(_Lpips):
    """LPIPS on AlexNet, the default: VGG-16 at 512x512 costs more CPU time than all other metrics together."""

    trunk, batch, planes, default = "alex", 8, 40, True


class Vgg(_Lpips):
    """LPIPS on VGG-16, the paper's; by name only."""

    trunk, batch, planes, default = "vgg", 1, 600, False


METRICS: tuple[type, ...] = with_bf16(Vgg, Alex)
EXTRACTORS: tuple[type, ...] = ()
