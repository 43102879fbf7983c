"""How often and how long the eyes close."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES
from bench.metrics.pairing import require_reference

BLINK_LEFT, BLINK_RIGHT = 9, 10  # MediaPipe's eyeBlinkLeft and eyeBlinkRight
THRESHOLD = 0.5
MIN_FRAMES = 2  # a blink shuts the eyes for at least 80 ms
MIN_SECONDS = 2.0
FPS = 25.0

_CODE = ("bench.metrics.blink", *CODE)
_PARAMS = {"threshold": THRESHOLD, "eyes": "mean of both", "min_frames": MIN_FRAMES, "fps": FPS}


def blinks(closed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the lengths in frames of runs of closed eyes of at least two frames."""
    edges = np.diff(np.concatenate([[0], closed.astype(np.int8), [0]]))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return lengths[lengths >= MIN_FRAMES]


def _watched(clip: ClipView) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the blinks of a clip in frames, and which frames show a face."""
    faces = clip.features(FACES)
    valid = faces["valid"]
    if valid.sum() / FPS < MIN_SECONDS:
        raise Unscored(Reason.TOO_SHORT, f"a face in {valid.sum() / FPS:.2f} s; at least {MIN_SECONDS} are needed")
    score = faces["blendshapes"][:, [BLINK_LEFT, BLINK_RIGHT]].mean(axis=1)
    return blinks(valid & (np.nan_to_num(score) > THRESHOLD)), valid


def _rate(lengths: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> float:
    return len(lengths) / (float(valid.sum()) / FPS / 60)


class BlinkRate:
    """Blinks per minute and their mean duration."""

    spec = MetricSpec(
        id="blink/rate",
        version="1",
        kind="clip",
        columns=(
            Column("blink_rate", "Blinks", "none", "1/min", digits=1),
            Column("blink_ms", "Blink duration", "none", "ms", digits=0),
        ),
        domains=("real",),
        features=(FACES,),
        params=_PARAMS,
        weights=FACE_WEIGHTS,
        summary="Blinks per minute and mean duration; no direction, compare with the ground truth.",
        source="no published standard; MediaPipe eyeBlink blendshapes above 0.5",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `blink_rate`, and `blink_ms`, which is NaN without a blink."""
        lengths, valid = _watched(clip)
        return {
            "blink_rate": _rate(lengths, valid),
            "blink_ms": float(lengths.mean() / FPS * 1000) if len(lengths) else float("nan"),
            "n_frames": float(valid.sum()),
            "coverage": float(valid.mean()),
        }


class BlinkError:
    """Difference of the blink rate from the ground truth's."""

    spec = MetricSpec(
        id="blink/rate_l1",
        version="1",
        kind="clip",
        columns=(Column("blink_l1", "Blink error", "lower", "1/min", digits=1),),
        domains=("real",),
        needs=("reference",),
        features=(FACES,),
        params=_PARAMS,
        weights=FACE_WEIGHTS,
        summary="Absolute difference of blinks per minute from the ground truth.",
        source="no published standard; MediaPipe eyeBlink blendshapes above 0.5",
    )
    code_modules = _CODE

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `blink_l1` in blinks per minute."""
        lengths, valid = _watched(clip)
        expected = _rate(*_watched(require_reference(reference)))
        return {
            "blink_l1": abs(_rate(lengths, valid) - expected),
            "n_frames": float(valid.sum()),
            "coverage": float(valid.mean()),
        }


METRICS: tuple[type, ...] = (BlinkRate, BlinkError)
