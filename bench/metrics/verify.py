"""Our metrics beside the packages they re-implement, on the user's clips: the engine of `bench verify-metrics`.

Both sides get the same frames and the same weights: the official ones where they are installed, otherwise one
random state dict (the arithmetic must agree with any weights). A reference package that is not installed is a row
that says how to install it, never an error.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.errors import UsageError, did_you_mean
from bench.core.spec import Unscored
from bench.metrics import references
from bench.metrics.geometry import resize

FRAMES = 30  # frames of each clip that are compared
VGG_FRAMES = 3  # VGG-16 at full size takes seconds a frame on a CPU

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VerifyRow:
    """One comparison.

    Attributes:
        metric: what was compared.
        ours, reference: a representative number of both sides; NaN without a reference.
        difference: largest deviation, relative where `note` says so; NaN without a reference.
        tolerance: largest difference that counts as parity; NaN where a deviation is reported, not judged.
        speedup: CPU time of the reference over ours, networks loaded; NaN without a reference.
        note: unit of the difference, weights used, or what is missing.
    """

    metric: str
    ours: float
    reference: float
    difference: float
    tolerance: float
    speedup: float
    note: str

    @property
    def ok(self) -> bool | None:
        """Whether the two agree; None when there is nothing to judge."""
        return None if math.isnan(self.difference + self.tolerance) else self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Material:
    """What both sides see: the first frames of every clip, and the speech of the first clip that has any."""

    frames: list[Frames]
    audio: npt.NDArray[np.int16]


def verify(clips: list[Path], metrics: list[str] | None = None) -> list[VerifyRow]:
    """Compare our implementation with every reference package that is installed.

    Args:
        clips: videos to take frames and speech from.
        metrics: families (`sync`, `fid`, `fvd`, `lpips`, `psnr`, `ssim`, `mfcc`) or protocol ids; None for all.

    Raises:
        UsageError: no clip, or an unknown metric.
    """
    return run(_CHECKS, clips, metrics)


Check = Callable[["Material"], Iterable[VerifyRow]]


def run(checks: Mapping[str, Sequence[Check]], clips: list[Path], metrics: list[str] | None) -> list[VerifyRow]:
    """Do the comparisons of the chosen families; `metrics` as in `verify`.

    Raises:
        UsageError: no clip, or a family that is not in `checks`.
    """
    if not clips:
        raise UsageError("Nothing to compare on.", "Name at least one video: bench verify-metrics CLIP...")
    families = list(checks) if metrics is None else [m.partition("/")[0] for m in metrics]
    for family in families:
        if family not in checks:
            raise UsageError(
                f"There is no reference for '{family}'.{did_you_mean(family, list(checks))}",
                f"Known: {', '.join(checks)}",
            )
    material = _material(clips)
    return [row for family in dict.fromkeys(families) for row in _rows(family, checks[family], material)]


def _material(clips: list[Path]) -> Material:
    from bench.media.clip import Clip

    frames, audio = [], None
    for path in clips:
        clip = Clip(path)
        frames.append(next(clip.chunks(FRAMES)))
        audio = clip.audio() if audio is None else audio
    noise = np.random.default_rng(0).normal(0, 3000, FRAMES * 640).astype(np.int16)
    return Material(frames, noise if audio is None or len(audio) < FRAMES * 640 else audio[: FRAMES * 640])


def _rows(family: str, checks: Sequence[Check], material: Material) -> Iterator[VerifyRow]:
    for check in checks:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the packages' own, about their age
                yield from check(material)
        except Unscored as missing:
            nothing = math.nan
            yield VerifyRow(family, nothing, nothing, nothing, nothing, nothing, missing.detail)


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the CPU time; short work is repeated so that imports and caches do not count."""
    start = time.process_time()
    result = function()
    seconds = time.process_time() - start
    for _ in range(4 if seconds < 0.2 else 0):
        start = time.process_time()
        function()
        seconds = min(seconds, time.process_time() - start)
    return result, max(seconds, 1e-9)


def compared(
    metric: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    tolerance: float,
    note: str,
    relative: bool = True,
) -> VerifyRow:
    """Run both sides, which return arrays of equal shape, and compare them."""
    (mine, our_time), (other, their_time) = _timed(ours), _timed(theirs)
    mine, other = np.asarray(mine, np.float64), np.asarray(other, np.float64)
    if mine.shape != other.shape:
        return VerifyRow(metric, len(mine), len(other), math.inf, tolerance, math.nan, f"counts differ; {note}")
    difference = float(np.abs(mine - other).max(initial=0.0))
    if relative and difference:
        difference /= float(np.abs(other).max())
    note = f"{'relative' if relative else 'absolute'}; {note}"
    means = [float(x.mean()) if x.size else math.nan for x in (mine, other)]
    return VerifyRow(metric, means[0], means[1], difference, tolerance, their_time / our_time, note)


def weights(*files: str) -> tuple[list[dict[str, Any]], str]:
    """Return the official state dicts, or random ones, and which."""
    from bench.metrics.networks.loading import official

    try:
        return [official(name) for name in files], "official weights"
    except Unscored:
        return [references.random_weights(name) for name in files], "random weights"


# --- weight-free ------------------------------------------------------------------------------------------


def _mfcc(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.mfcc import mfcc

    package = references.module("python_speech_features")
    audio = material.audio
    yield compared(
        "mfcc", lambda: mfcc(audio), lambda: package.mfcc(audio, 16000), 1e-9, "coefficients", relative=False
    )


def _psnr(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.pixels import psnr

    package = references.module("skimage.metrics")
    first, second = neighbours(material)
    yield compared(
        "psnr",
        lambda: psnr(first, second),
        lambda: [
            package.peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(first, second, strict=True)
        ],
        1e-9,
        "dB",
        relative=False,
    )


def _ssim(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.pixels import ssim

    package = references.module("skimage.metrics")
    first, second = neighbours(material)
    options: dict[str, Any] = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
        "channel_axis": 2,
    }
    yield compared(
        "ssim",
        lambda: ssim(first, second),
        lambda: [package.structural_similarity(a, b, **options) for a, b in zip(first, second, strict=True)],
        1e-9,
        "per frame",
        relative=False,
    )


def neighbours(material: Material, count: int = 8) -> tuple[Frames, Frames]:
    """Return frames and the frames after them: two pictures that differ a little."""
    frames = material.frames[0][: count + 1]
    if len(frames) < 2:
        raise UsageError("The first clip has a single frame.", "Name a longer one first.")
    return frames[:-1], frames[1:]


# --- networks ---------------------------------------------------------------------------------------------


def _sync(material: Material) -> Iterable[VerifyRow]:
    import torch

    from bench.metrics.mfcc import mfcc
    from bench.metrics.networks import syncnet
    from bench.metrics.sync_search import search

    (state,), note = weights("syncnet_v2")
    network = references.module("syncnet_python.SyncNetModel").S()
    instance = references.module("syncnet_python.SyncNetInstance")
    network.load_state_dict(state, strict=True)
    network.eval()
    ours = syncnet.Embedder(state)
    crops = np.stack([resize(f, syncnet.SIDE, syncnet.SIDE) for f in material.frames[0]])
    coefficients = mfcc(material.audio)
    windows = len(crops) - 5
    clip = torch.from_numpy(crops).flip(-1).permute(3, 0, 1, 2)[None].float()
    columns = torch.from_numpy(coefficients.T).float()[None, None]

    @torch.inference_mode()
    def their_lips() -> torch.Tensor:
        # As shipped: twenty windows at a time, each with its five frames.
        parts = [clip[:, :, i : i + 5] for i in range(windows)]
        return torch.cat([network.forward_lip(torch.cat(parts[i : i + 20])) for i in range(0, windows, 20)])

    @torch.inference_mode()
    def their_voice() -> torch.Tensor:
        return network.forward_aud(torch.cat([columns[..., 4 * i : 4 * i + 20] for i in range(windows)]))

    yield compared("sync lips", lambda: ours.lips(crops)[:windows], their_lips, 1e-5, note)
    yield compared("sync voice", lambda: ours.voice(coefficients, windows), their_voice, 1e-5, note)

    def our_search() -> list[float]:
        found = search(ours.lips(crops)[:windows], ours.voice(coefficients, windows))
        return [found.confidence, found.distance]

    def their_search() -> list[float]:
        lags = instance.calc_pdist(their_lips(), their_voice(), vshift=15)
        mean = torch.stack(lags, 1).mean(1)
        return [float(mean.median() - mean.min()), float(mean.min())]

    yield compared("sync C and D", our_search, their_search, 0.02, f"whole frames; {note}", relative=False)


def _faces(material: Material) -> Iterable[VerifyRow]:
    from bench.metrics.networks import s3fd

    (state,), note = weights("sfd_face")
    network = references.module("syncnet_python.detectors.s3fd.nets").S3FDNet(device="cpu")
    network.load_state_dict(state, strict=True)
    theirs = references.module("syncnet_python.detectors.s3fd").S3FD(network.eval(), device="cpu")
    ours = s3fd.Detector(state)
    frames = material.frames[0]
    height, width = frames.shape[1:3]
    yield compared(
        "sync faces",
        lambda: np.concatenate(ours(s3fd.quarter(frames), width, height)),
        lambda: np.concatenate([theirs.detect_faces(f, conf_th=0.9, scales=[0.25]) for f in frames]),
        1e-5,
        f"corners and scores; {note}",
    )


def _fid(material: Material) -> Iterable[VerifyRow]:
    import torch

    from bench.metrics import frechet
    from bench.metrics.networks import inception

    (state,), note = weights("inception_fid")
    module: Any = references.module("pytorch_fid.inception")
    original, module.load_state_dict_from_url = module.load_state_dict_from_url, lambda *a, **k: state
    try:
        network = module.InceptionV3([3]).eval()
    finally:
        module.load_state_dict_from_url = original
    ours = inception.FrameFeatures(state)

    @torch.inference_mode()
    def their_features(frames: Frames) -> npt.NDArray[Any]:
        return network(torch.from_numpy(frames.copy()).permute(0, 3, 1, 2) / 255)[0][:, :, 0, 0].numpy()

    frames = material.frames[0]
    yield compared(
        "fid features",
        lambda: np.concatenate([ours(b) for b in batches(frames)]),
        lambda: their_features(frames),
        1e-5,
        note,
    )
    other = material.frames[1] if len(material.frames) > 1 else frames[::-1] // 2
    sets = [their_features(f).astype(np.float64) for f in (frames, other)]
    distance = references.module("pytorch_fid.fid_score").calculate_frechet_distance

    def their_distance() -> list[float]:
        return [distance(*(m for x in sets for m in (x.mean(0), np.cov(x, rowvar=False))))]

    yield compared(
        "fid distance",
        lambda: [frechet.distance(*map(frechet.state, sets))],
        their_distance,
        1e-3,
        f"same features; {note}",
    )


def batches(frames: Frames, size: int = 8) -> Iterator[Frames]:
    """Yield consecutive frames, at most `size` at a time."""
    for start in range(0, len(frames), size):
        yield frames[start : start + size]


def _fvd(material: Material) -> Iterable[VerifyRow]:
    import torch

    from bench.metrics.networks import i3d, video

    (state,), note = weights("i3d_kinetics400")
    network = references.module("cdfvd.third_party.i3d.pytorch_i3d").InceptionI3d(400, in_channels=3)
    network.load_state_dict(state, strict=True)
    network.eval()
    ours = video.WholeClip(state, pool_frames=2)
    frames = material.frames[0]
    if len(frames) < 10:
        raise UsageError(f"The first clip has {len(frames)} frames; I3D needs 10.", "Name a longer one first.")

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return network((video.squash(frames, i3d.SIDE) / 127.5 - 1)[None].permute(0, 4, 1, 2, 3))

    yield compared(
        "fvd features",
        lambda: ours(batches(frames, 16), len(frames)),
        theirs,
        1e-5,
        f"pool 2x7x7, cd-fvd's; {note}",
    )


def _lpips(material: Material) -> Iterable[VerifyRow]:
    import torch

    from bench.metrics.networks import LPIPS_FILES, lpips

    package = references.module("lpips")
    trunks: tuple[lpips.Trunk, ...] = ("alex", "vgg")
    for trunk in trunks:
        parts, note = weights(*LPIPS_FILES[trunk])
        state = lpips.state(*parts)
        network = package.LPIPS(net=trunk, pnet_rand=True, pretrained=False, verbose=False).eval()
        own = network.state_dict()
        for key in own:
            if key.startswith("net."):
                own[key] = state[f"trunk.features.{key.split('.', 2)[2]}"]
            elif key.startswith("lin") and key[3].isdigit():
                own[key] = state[f"heads.{key[3]}"].reshape(own[key].shape)
        network.load_state_dict({k: v for k, v in own.items() if not k.startswith("lins")}, strict=False)
        ours = lpips.Distance(trunk, state)
        first, second = neighbours(material, 8 if trunk == "alex" else VGG_FRAMES)

        @torch.inference_mode()
        def theirs(network: Any = network, first: Frames = first, second: Frames = second) -> torch.Tensor:
            pair = [torch.from_numpy(x.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (first, second)]
            return network(*pair).flatten()

        def mine(ours: lpips.Distance = ours, first: Frames = first, second: Frames = second) -> npt.NDArray[Any]:
            return ours(first, second)

        yield compared(f"lpips {trunk}", mine, theirs, 1e-5, note)


_CHECKS: dict[str, tuple[Check, ...]] = {
    "mfcc": (_mfcc,),
    "psnr": (_psnr,),
    "ssim": (_ssim,),
    "sync": (_sync, _faces),
    "fid": (_fid,),
    "fvd": (_fvd,),
    "lpips": (_lpips,),
}
