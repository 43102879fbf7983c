"""Metrics of the synthetic world, on networks that come with the package.

They have the same definitions as the metrics of real videos, but other networks, so their numbers are on a
scale of their own: every protocol id says `synthetic`. Networks were trained on the world's renderer; the
features of FVD and FID also on labels of artificial corruptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, Domain, ExtractorSpec, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.metrics import frechet
from bench.metrics.pairing import check_lengths, require_reference, summarize
from bench.metrics.sync_search import search
from bench.synthetic import embedded, geometry
from bench.synthetic.labels import RANGES, READINGS

DOMAIN: tuple[Domain, ...] = ("synthetic",)
SILENCE = 33.0  # RMS of int16 samples, -60 dB of full scale
SYNC_FRAMES, SYNC_COLUMNS = 5, 20  # video frames and 10 ms sound columns of one 0.2 s window
WINDOW = 16  # frames of one clip feature
_CODE = (
    "bench.synthetic.geometry",
    "bench.synthetic.networks",
    "bench.synthetic.reader",
    "bench.synthetic.embedded",
    "bench.synthetic.labels",
)
_BATCH = 64


def _batches(clip: ClipView) -> Any:
    """Yield network inputs (n, 3, 64, 64) of consecutive frames."""
    from bench.synthetic.reader import to_input

    for chunk in clip.chunks(_BATCH):
        yield to_input(chunk)


class SyncEmbeddings:
    """Mouth and sound embeddings of every 0.2 s window, times 10."""

    spec = ExtractorSpec("synthetic_sync", "1", weights=(embedded.ref("sync"),))
    code_modules = (__name__, "bench.metrics.mfcc", *_CODE)

    def extract(self, clip: ClipView) -> Features:
        """Return `video` and `audio`, each (N, 128) float32, N = min(frames, samples // 640) - 5.

        As in the released evaluation of SyncNet, the last window is left out: its sound is one column short.
        """
        audio = clip.audio()
        if audio is None:
            raise Unscored(Reason.NO_AUDIO, "the clip has no sound")
        level = float(np.sqrt(np.mean(audio.astype(np.float64) ** 2))) if len(audio) else 0.0
        if level < SILENCE:
            raise Unscored(
                Reason.NO_SPEECH, f"the sound's level is {level:.1f} of 32768; {SILENCE:.0f} is silence"
            )
        frames = min(clip.frames, len(audio) // 640)
        if frames <= SYNC_FRAMES:
            raise Unscored(Reason.TOO_SHORT, f"{frames} frames with sound; at least {SYNC_FRAMES + 1} are needed")
        import torch

        from bench.metrics.mfcc import mfcc
        from bench.synthetic.networks import MOUTH_LEFT, MOUTH_SIZE, MOUTH_TOP

        net = embedded.load("sync")
        rows, columns = slice(MOUTH_TOP, MOUTH_TOP + MOUTH_SIZE), slice(MOUTH_LEFT, MOUTH_LEFT + MOUTH_SIZE)
        mouths = torch.cat([x[:, :, rows, columns] for x in _batches(clip)])[: frames - 1]
        stacked = mouths.unfold(0, SYNC_FRAMES, 1).permute(0, 4, 1, 2, 3).flatten(1, 2)
        sound = mfcc(audio[: frames * 640]).astype(np.float32)
        heard = torch.from_numpy(sound).unfold(0, SYNC_COLUMNS, 4).transpose(1, 2)
        with torch.inference_mode():
            seen = torch.cat([net.embed_video(x) for x in stacked.split(_BATCH)])
            told = torch.cat([net.embed_audio(x) for x in heard.split(_BATCH)])
        return {"video": seen.numpy() * net.SCALE, "audio": told.numpy() * net.SCALE}


class FaceReadings:
    """Expression readings, pose and landmarks of every frame."""

    spec = ExtractorSpec("synthetic_face", "1", weights=(embedded.ref("frame"), embedded.ref("face")), hears=False)
    code_modules = (__name__, *_CODE)

    def extract(self, clip: ClipView) -> Features:
        """Return `readings` (T, 10), `pose` (T, 6) and `landmarks` (T, 43, 2), see `bench.synthetic.reader`."""
        from bench.synthetic.reader import read

        parts = [read(chunk) for chunk in clip.chunks(_BATCH)]
        return {
            "readings": np.concatenate([p.readings for p in parts]),
            "pose": np.concatenate([p.pose for p in parts]),
            "landmarks": np.concatenate([p.landmarks for p in parts]),
        }


class IdentityEmbeddings:
    """Identity embedding of every frame."""

    spec = ExtractorSpec("synthetic_identity", "1", weights=(embedded.ref("identity"),), hears=False)
    code_modules = (__name__, *_CODE)

    def extract(self, clip: ClipView) -> Features:
        """Return `embeddings`, (T, 128) float32 unit vectors."""
        import torch

        net = embedded.load("identity")
        with torch.inference_mode():
            return {"embeddings": torch.cat([net(x) for x in _batches(clip)]).numpy()}


class FrameFeatures:
    """Features of every frame for the synthetic FID."""

    spec = ExtractorSpec("synthetic_frame", "1", weights=(embedded.ref("frame"),), hears=False)
    code_modules = (__name__, *_CODE)

    def extract(self, clip: ClipView) -> Features:
        """Return `features`, (T, 64) float32."""
        import torch

        net = embedded.load("frame")
        with torch.inference_mode():
            return {"features": torch.cat([net.features(x) for x in _batches(clip)]).numpy()}


class ClipFeatures:
    """Features of consecutive 16-frame windows for the synthetic FVD."""

    spec = ExtractorSpec(
        "synthetic_clip", "1", params={"window": WINDOW}, weights=(embedded.ref("clip"),), hears=False
    )
    code_modules = (__name__, *_CODE)

    def extract(self, clip: ClipView) -> Features:
        """Return `features`, (T // 16, 32) float32; frames after the last full window are left out."""
        count = clip.frames // WINDOW
        if count < 1:
            raise Unscored(Reason.TOO_SHORT, f"{clip.frames} frames; a window has {WINDOW}")
        import torch
        from torch.nn.functional import avg_pool2d

        net = embedded.load("clip")
        small = torch.cat([avg_pool2d(x, 2) for x in _batches(clip)])[: count * WINDOW]
        windows = small.unflatten(0, (count, WINDOW)).transpose(1, 2)
        with torch.inference_mode():
            return {"features": torch.cat([net.features(x) for x in windows.split(16)]).numpy()}


class Sync:
    """Sync-C, Sync-D and offset by the published search over lags, with zero rows around the sound."""

    valid_only = False
    spec = MetricSpec(
        id="sync/synthetic_v1",
        version="1",
        kind="clip",
        columns=(
            Column("sync_c", "Sync-C", "higher"),
            Column("sync_d", "Sync-D", "lower"),
            Column("offset", "AV offset", "none", unit="frames", digits=1),
            Column("sync_d0", "Sync-D@0", "lower"),
            Column("unreliable", "Sync unreliable", "none", digits=2),
        ),
        domains=DOMAIN,
        needs=("audio",),
        features=("synthetic_sync",),
        params={"vshift": 15, "window": SYNC_FRAMES, "ends": "zero rows", "scale": 10},
        weights=(embedded.ref("sync"),),
        summary="Audio-video synchrony on the embedded network; comparable between clips of equal length only.",
        source="Chung & Zisserman 2016; Wav2Lip's LSE-C and LSE-D (evaluation code); embedded weights",
    )
    code_modules = (__name__, "bench.metrics.sync_search", *_CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return confidence, distance, offset (positive: the sound is early), distance at lag 0, and a flag.

        `unreliable` is 1 with fewer than 50 windows or when the best lag is the first or last one searched.
        """
        found = clip.features("synthetic_sync")
        result = search(found["video"], found["audio"], 15, valid_only=self.valid_only)
        return {
            "sync_c": result.confidence,
            "sync_d": result.distance,
            "offset": float(result.offset),
            "sync_d0": result.distance_at_zero,
            "unreliable": float(result.unreliable),
        }


class SyncValid(Sync):
    """The same search averaged over existing pairs only, which does not depend on the clip's length."""

    valid_only = True
    spec = MetricSpec(
        id="sync/synthetic_valid_v1",
        version="1",
        kind="clip",
        columns=Sync.spec.columns,
        domains=DOMAIN,
        needs=("audio",),
        features=("synthetic_sync",),
        params={"vshift": 15, "window": SYNC_FRAMES, "ends": "left out", "scale": 10},
        weights=(embedded.ref("sync"),),
        default=False,
        summary="As sync/synthetic_v1, but lags average only windows that have a partner.",
        source="Chung & Zisserman 2016, without the zero rows of the released evaluation; embedded weights",
    )


class _Frechet:
    """Fréchet distance on one extractor's features."""

    spec: MetricSpec
    code_modules = (__name__, "bench.metrics.frechet", *_CODE)

    def state(self, clip: ClipView) -> Features:
        """Return the clip's contribution, see `bench.metrics.frechet.state`."""
        return frechet.state(clip.features(self.spec.features[0])["features"])

    def merge(self, states: list[Features]) -> Features:
        """Combine contributions, in any order."""
        return frechet.merge(states)

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return the distance; it falls with the number of clips, so compare equal numbers only."""
        return {self.spec.columns[0].key: frechet.distance(generated, reference)}


class Fid(_Frechet):
    """Fréchet distance of single frames."""

    spec = MetricSpec(
        id="fid/synthetic_v1",
        version="1",
        kind="set",
        columns=(Column("fid", "FID", "lower", digits=2),),
        domains=DOMAIN,
        features=("synthetic_frame",),
        params={"frames": "all", "dims": 64, "covariance": "unbiased"},
        weights=(embedded.ref("frame"),),
        summary="Fréchet distance over all frames on 64 embedded features (trained with blur and noise labels).",
        source="Heusel et al. 2017, with embedded instead of Inception features",
    )


class Fvd(_Frechet):
    """Fréchet distance of 16-frame windows."""

    spec = MetricSpec(
        id="fvd/synthetic_v1",
        version="1",
        kind="set",
        columns=(Column("fvd", "FVD", "lower", digits=2),),
        domains=DOMAIN,
        features=("synthetic_clip",),
        params={"window": WINDOW, "stride": WINDOW, "dims": 32, "covariance": "unbiased"},
        weights=(embedded.ref("clip"),),
        summary="Fréchet distance over 16-frame windows on 32 embedded features (trained with corruption labels).",
        source="Unterthiner et al. 2018, with embedded instead of I3D features",
    )


class Csim:
    """Cosine similarity of identity embeddings with the reference picture."""

    spec = MetricSpec(
        id="csim/synthetic_v1",
        version="1",
        kind="clip",
        columns=(Column("csim", "CSIM", "higher"),),
        domains=DOMAIN,
        needs=("image",),
        features=("synthetic_identity",),
        params={"reference": "image", "frames": "all"},
        weights=(embedded.ref("identity"),),
        summary="Mean cosine between the identity of every frame and of the reference picture.",
        source="ArcFace similarity as in ACTalker and Hallo, with an embedded network",
    )
    code_modules = (__name__, *_CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the mean cosine in [-1, 1]."""
        return {"csim": float(identity_cosines(clip).mean())}


def identity_cosines(clip: ClipView) -> npt.NDArray[np.float64]:
    """Return the cosine of every frame's identity with the reference picture's, (T,).

    Raises:
        Unscored: the sample has no reference picture.
    """
    if clip.image is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no reference picture")
    import torch

    from bench.media.decode import read_image
    from bench.synthetic.reader import to_input

    frames = clip.features("synthetic_identity")["embeddings"]
    with torch.inference_mode():
        wanted = embedded.load("identity")(to_input(read_image(clip.image)[None]))[0].numpy()
    return np.asarray(frames.astype(np.float64) @ wanted.astype(np.float64))


def _read_both(clip: ClipView, reference: ClipView | None) -> tuple[ClipView, Features, Features, int]:
    reference = require_reference(reference)
    pairs = check_lengths(clip.frames, reference.frames)
    return reference, clip.features("synthetic_face"), reference.features("synthetic_face"), pairs


class Expression:
    """Difference between the expressions read from the generated and from the reference clip."""

    spec = MetricSpec(
        id="expr/synthetic_v1",
        version="1",
        kind="clip",
        columns=(
            Column("expr", "Expr", "lower"),
            Column("opening", "Mouth opening", "lower"),
            Column("smile", "Smile", "lower"),
            Column("brow", "Brow", "lower"),
            Column("blink", "Blink", "lower"),
            Column("gaze", "Gaze", "lower"),
        ),
        domains=DOMAIN,
        needs=("reference",),
        features=("synthetic_face",),
        params={"error": "mean absolute", "unit": "share of the world's range", "ranges": dict(RANGES)},
        weights=(embedded.ref("frame"), embedded.ref("face")),
        summary="Mean absolute difference of read expressions, as a share of each one's range; Expr is the mean.",
        source="AED-style expression distance; embedded face reader",
    )
    code_modules = (__name__, "bench.metrics.pairing", *_CODE)

    GROUPS: Mapping[str, tuple[str, ...]] = {
        "opening": ("opening",),
        "smile": ("smile",),
        "brow": ("brow",),
        "blink": ("blink_left", "blink_right"),
        "gaze": ("gaze_x", "gaze_y"),
    }

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return five errors in [0, 1] of the range, and `expr`, their mean."""
        reference, ours, theirs, pairs = _read_both(clip, reference)
        error = np.abs(ours["readings"][:pairs] - theirs["readings"][:pairs]).mean(0, dtype=np.float64)
        share = dict(zip(READINGS, error / np.array([RANGES[name] for name in READINGS]), strict=True))
        columns = {key: float(np.mean([share[n] for n in names])) for key, names in self.GROUPS.items()}
        return {
            "expr": float(np.mean(list(columns.values()))),
            **columns,
            **summarize(np.empty(pairs), clip, reference),
        }


class Pose:
    """Difference between the head poses read from the generated and from the reference clip."""

    spec = MetricSpec(
        id="pose/synthetic_v1",
        version="1",
        kind="clip",
        columns=(
            Column("pose", "Pose", "lower", unit="deg", digits=2),
            Column("yaw", "Yaw", "lower", unit="deg", digits=2),
            Column("pitch", "Pitch", "lower", unit="deg", digits=2),
            Column("roll", "Roll", "lower", unit="deg", digits=2),
        ),
        domains=DOMAIN,
        needs=("reference",),
        features=("synthetic_face",),
        params={"error": "mean absolute"},
        weights=(embedded.ref("frame"),),
        summary="Mean absolute difference of read head angles; Pose is the mean of the three.",
        source="APD-style pose distance; embedded face reader",
    )
    code_modules = (__name__, "bench.metrics.pairing", *_CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return angle errors in degrees."""
        reference, ours, theirs, pairs = _read_both(clip, reference)
        error = np.abs(ours["pose"][:pairs, :3] - theirs["pose"][:pairs, :3]).mean(0, dtype=np.float64)
        yaw, pitch, roll = (float(x) for x in np.rad2deg(error))
        mean = float(np.mean([yaw, pitch, roll]))
        columns = {"pose": mean, "yaw": yaw, "pitch": pitch, "roll": roll}
        return {**columns, **summarize(np.empty(pairs), clip, reference)}


class Lmd:
    """Landmark distance, centred and divided by the reference's distance between the eyes."""

    spec = MetricSpec(
        id="lmd/synthetic_v1",
        version="1",
        kind="clip",
        columns=(
            Column("m_lmd", "M-LMD", "lower", digits=4),
            Column("f_lmd", "F-LMD", "lower", digits=4),
        ),
        domains=DOMAIN,
        needs=("reference",),
        features=("synthetic_face",),
        params={"landmarks": len(geometry.LANDMARKS), "centre": "mean of the points", "scale": "inter-ocular"},
        weights=(embedded.ref("frame"), embedded.ref("face")),
        summary="Mean distance of mouth (M) and all (F) landmarks, centred, in units of the eyes' distance.",
        source="L. Chen et al. 2018 (LMD), normalised as lmd/mouth_iod; embedded face reader",
    )
    code_modules = (__name__, "bench.metrics.pairing", *_CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return mouth and face landmark distances as shares of the inter-ocular distance."""
        reference, ours, theirs, pairs = _read_both(clip, reference)
        made, true = (f["landmarks"][:pairs].astype(np.float64) for f in (ours, theirs))
        # Pixels of differently sized clips are made comparable through the reference's size.
        made = made * np.array([reference.width / clip.width, reference.height / clip.height])
        left, right = true[:, :2].mean(1), true[:, 5:7].mean(1)
        unit = np.linalg.norm(right - left, axis=-1)

        def distance(part: slice) -> float:
            a, b = made[:, part], true[:, part]
            apart = (a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True))
            return float((np.linalg.norm(apart, axis=-1).mean(1) / unit).mean())

        columns = {"m_lmd": distance(geometry.MOUTH), "f_lmd": distance(slice(None))}
        return {**columns, **summarize(np.empty(pairs), clip, reference)}


METRICS: tuple[type, ...] = (Sync, SyncValid, Fid, Fvd, Csim, Expression, Pose, Lmd)
EXTRACTORS: tuple[type, ...] = (SyncEmbeddings, FaceReadings, IdentityEmbeddings, FrameFeatures, ClipFeatures)
