"""Fréchet video distances: the same formula as the FID on one feature vector per clip.

Unterthiner et al. 2018, "Towards Accurate Generative Models of Video: A New Metric & Challenges". Network, frames,
resize and value range decide the number; each protocol here names its own. With N clips the covariance has rank
N - 1, and the bias of small N dominates: compare equal N only, and look at the ground-truth floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from bench.core.spec import Column, ExtractorSpec, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features, resident
from bench.metrics import frechet
from bench.metrics.precision import Precision, with_bf16
from bench.weights import ref

SEGMENT = 16  # frames
SHORTEST = 10  # frames an I3D pass over the whole clip needs
PEAK = 40.0  # MiB of a network's activations per frame


@cache
def _network(name: str, precision: Precision) -> Any:
    from bench.metrics.networks import video

    return getattr(video, name)(precision=precision)


class WholeClipI3d:
    """Kinetics-400 class scores of I3D, averaged over the whole clip."""

    precision = Precision.FP32
    code_modules = (
        "bench.metrics.fvd",
        "bench.metrics.networks.video",
        "bench.metrics.networks.i3d",
        "bench.metrics.networks.loading",
    )

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name="i3d",
            version="1",
            params={
                "frames": "all",
                "resize": "224x224 bicubic, antialiased",
                "range": "[-1, 1]",
                "last_pool": "1x7x7",
            },
            weights=(ref("i3d_kinetics400"),),
            device="gpu",
            hears=False,
        )

    def extract(self, clip: ClipView) -> Features:
        """Return `features` float32 (1, 400).

        Raises:
            Unscored: fewer than ten frames, or missing weights.
        """
        if clip.frames < SHORTEST:
            raise Unscored(Reason.TOO_SHORT, f"{clip.frames} frames; I3D needs {SHORTEST}")
        from bench.metrics.networks.loading import batches

        return {"features": _network("WholeClip", self.precision)(batches(clip, 16, PEAK), clip.frames)}


class Segments3dResNet:
    """Pooled features of the 3-D ResNet-50, averaged over 16-frame segments."""

    precision = Precision.FP32
    code_modules = (
        "bench.metrics.fvd",
        "bench.metrics.networks.video",
        "bench.metrics.networks.resnet3d",
        "bench.metrics.networks.loading",
    )

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name="resnet3d50",
            version="1",
            params={
                "segment": SEGMENT,
                "last_segment": "last frame repeated",
                "resize": "112x112 bicubic, antialiased",
                "range": "0..255 minus mean",
            },
            weights=(ref("resnet50_kinetics"),),
            device="gpu",
            hears=False,
        )

    def extract(self, clip: ClipView) -> Features:
        """Return `features` float32 (1, 2048).

        Raises:
            Unscored: the weights are missing.
        """
        from bench.metrics.networks.loading import batches

        return {"features": _network("Segments", self.precision)(batches(clip, SEGMENT, PEAK))}


class FirstFramesI3d:
    """Class scores of the TorchScript I3D on the first 16 frames."""

    precision = Precision.FP32
    code_modules = ("bench.metrics.fvd", "bench.metrics.networks.video", "bench.metrics.networks.loading")

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name="i3d_torchscript",
            version="1",
            params={"frames": "0-15", "resize": "in the graph", "range": "0..255, rescaled in the graph"},
            weights=(ref("i3d_torchscript"),),
            device="gpu",
            hears=False,
        )

    def extract(self, clip: ClipView) -> Features:
        """Return `features` float32 (1, 400).

        Raises:
            Unscored: fewer than 16 frames, or missing weights.
        """
        if clip.frames < SEGMENT:
            raise Unscored(Reason.TOO_SHORT, f"{clip.frames} frames; the protocol takes the first {SEGMENT}")
        frames = resident(clip)
        first = next(iter(clip.chunks(SEGMENT))) if frames is None else frames[:SEGMENT]
        return {"features": _network("FirstFrames", self.precision)(first)}


class _Fvd:
    protocol: str
    features: str
    weight: str
    label: str
    summary: str
    source: str
    biased = False
    code_modules = ("bench.metrics.fvd", "bench.metrics.frechet")

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"fvd/{self.protocol}",
            version="1",
            kind="set",
            columns=(
                Column("fvd", self.label, "lower"),
                Column("padded_clips", "clips under 16 frames", "none", digits=0),
            ),
            domains=("real",),
            needs=("reference",),
            features=(self.features,),
            params={"covariance": "biased" if self.biased else "unbiased"},
            weights=(ref(self.weight),),
            summary=self.summary,
            source=self.source,
        )

    def state(self, clip: ClipView) -> Features:
        """Return the clip's contribution."""
        features = clip.features(self.spec.features[0])["features"]
        return {**frechet.state(features), "short": np.array(float(clip.frames < SEGMENT))}

    def merge(self, states: list[Features]) -> Features:
        """Combine contributions."""
        short = np.array(sum(float(s["short"]) for s in states))
        return {**frechet.merge([{k: v for k, v in s.items() if k != "short"} for s in states]), "short": short}

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return `fvd` and the number of generated clips with fewer than 16 frames.

        Raises:
            Unscored: fewer than two clips on a side.
        """
        return {
            "fvd": frechet.distance(generated, reference, biased=self.biased),
            "padded_clips": float(generated["short"]),
        }


class DiscoI3d(_Fvd):
    """I3D over the whole clip, the assumed FVD-Inc of ACTalker's tables."""

    protocol, features, weight, label = "disco_i3d", "i3d", "i3d_kinetics400", "FVD-Inc (assumed)"
    summary = "FVD of whole clips on I3D class scores, as DisCo; assumed to be what ACTalker calls FVD-Inc."
    source = "Wang et al. 2023 (DisCo), tool/metrics, `fvd`; Carreira and Zisserman 2017"


class DiscoRes50(_Fvd):
    """3-D ResNet-50 over 16-frame segments, the assumed FVD-Res of ACTalker's tables."""

    protocol, features, weight, label = "disco_res50", "resnet3d50", "resnet50_kinetics", "FVD-Res (assumed)"
    summary = "FID-VID of DisCo on 3-D ResNet-50 features; assumed to be what ACTalker calls FVD-Res."
    source = "Wang et al. 2023 (DisCo), tool/metrics, `fid-vid`; Hara et al. 2018"


class FirstSixteen(_Fvd):
    """TorchScript I3D on the first 16 frames, closest to the FVD of StyleGAN-V."""

    protocol, features, weight, label = "i3d_ts_16f_first", "i3d_torchscript", "i3d_torchscript", "FVD (16 frames)"
    summary = "FVD of the first 16 frames on the TorchScript I3D, biased covariance, as StyleGAN-V."
    source = "Skorokhodov et al. 2022 (StyleGAN-V); differs in the fixed start and the number of clips"
    biased = True


METRICS: tuple[type, ...] = with_bf16(DiscoI3d, DiscoRes50, FirstSixteen)
EXTRACTORS: tuple[type, ...] = with_bf16(WholeClipI3d, Segments3dResNet, FirstFramesI3d)
