"""How far bfloat16 networks are from float32 ones on the user's clips: `bench verify-metrics --precision bf16`.

Both sides are ours, with the same weights. There is no tolerance: whether a deviation matters depends on the
differences a user wants to see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.precision import Precision
from bench.metrics.verify import Check, Material, VerifyRow, batches, compared, neighbours, run, weights


def deviations(clips: list[Path], metrics: list[str] | None = None) -> list[VerifyRow]:
    """Compare bfloat16 (as `ours`) with float32 (as `reference`).

    Args:
        clips: videos to take frames and speech from.
        metrics: families (`sync`, `fid`, `fvd`, `lpips`) or protocol ids; None for all.

    Raises:
        UsageError: no clip, or a metric without networks.
    """
    return run(_CHECKS, clips, metrics)


def _row(name: str, rough: Callable[[], Any], exact: Callable[[], Any], note: str) -> VerifyRow:
    return compared(f"{name}{Precision.BF16.suffix}", rough, exact, math.nan, f"to float32; {note}")


def _both(build: Callable[[Precision], Any]) -> tuple[Any, Any]:
    return build(Precision.BF16), build(Precision.FP32)


def _sync(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.geometry import resize
    from bench.metrics.mfcc import mfcc
    from bench.metrics.networks import syncnet
    from bench.metrics.sync_search import search

    (state,), note = weights("syncnet_v2")
    crops = np.stack([resize(f, syncnet.SIDE, syncnet.SIDE) for f in material.frames[0]])
    coefficients = mfcc(material.audio)
    windows = len(crops) - 5

    def scores(embedder: syncnet.Embedder) -> list[float]:
        found = search(embedder.lips(crops)[:windows], embedder.voice(coefficients, windows))
        return [found.confidence, found.distance]

    rough, exact = _both(lambda precision: syncnet.Embedder(state, precision))
    yield _row("sync C and D", lambda: scores(rough), lambda: scores(exact), f"whole frames; {note}")


def _faces(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.networks import s3fd

    (state,), note = weights("sfd_face")
    frames = material.frames[0]
    small, (height, width) = s3fd.quarter(frames), frames.shape[1:3]
    rough, exact = _both(lambda precision: s3fd.Detector(state, precision))

    def found(detector: s3fd.Detector) -> npt.NDArray[np.float32]:
        return np.concatenate(detector(small, width, height))

    yield _row("sync faces", lambda: found(rough), lambda: found(exact), f"corners and scores; {note}")


def _fid(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics import frechet
    from bench.metrics.networks import inception

    (state,), note = weights("inception_fid")
    rough, exact = _both(lambda precision: inception.FrameFeatures(state, precision=precision))
    first = material.frames[0]
    other = material.frames[1] if len(material.frames) > 1 else first[::-1] // 2

    def distance(network: inception.FrameFeatures) -> list[float]:
        sets = [np.concatenate([network(b) for b in batches(frames)]) for frames in (first, other)]
        return [frechet.distance(*map(frechet.state, sets))]

    yield _row("fid distance", lambda: distance(rough), lambda: distance(exact), f"two clips; {note}")


def _fvd(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.networks import video

    (state,), note = weights("i3d_kinetics400")
    frames = material.frames[0]
    rough, exact = _both(lambda precision: video.WholeClip(state, precision=precision))
    yield _row(
        "fvd features",
        lambda: rough(batches(frames, 16), len(frames)),
        lambda: exact(batches(frames, 16), len(frames)),
        note,
    )


def _lpips(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.networks import LPIPS_FILES, lpips

    parts, note = weights(*LPIPS_FILES["alex"])
    state = lpips.state(*parts)
    first, second = neighbours(material)
    rough, exact = _both(lambda precision: lpips.Distance("alex", state, precision))
    yield _row("lpips alex", lambda: rough(first, second), lambda: exact(first, second), note)


_CHECKS: dict[str, tuple[Check, ...]] = {
    "sync": (_sync, _faces),
    "fid": (_fid,),
    "fvd": (_fvd,),
    "lpips": (_lpips,),
}
