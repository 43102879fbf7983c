"""The score of THEval, as far as landmarks carry it: to be read with its caveats.

Quignon et al. 2025 compare means m of eight quantities over a method's clips with the ground truth's g,

    s = 1 - |m - g| / |g|

and average. The formulas of the paper are followed where its code has others. Four of the eight are computed here
from stored landmarks; the three picture qualities rest on networks under a non-commercial licence and head motion
on FaceXFormer. Their values per clip are read from files where there are some. Lip and head dynamics are in pixels
and grow with the output's size. The correlation of 0.87 with votes that the paper prints was measured over 17
systems and, it seems, the ground truth itself, whose score is 1 by construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.media.faces import BROW_LEFT, BROW_RIGHT, EYE_LEFT, EYE_RIGHT, MOUTH
from bench.metrics import coefficients, speech
from bench.metrics.face_motion import INNER_LOWER, INNER_UPPER
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES

Array = npt.NDArray[np.float64]

MEASURED = ("lips", "brows", "silence", "sync")
FROM_FILES = ("aesthetics", "mouth_quality", "face_quality", "head")
QUANTITIES = (*FROM_FILES[:3], "lips", "head", "brows", "silence", "sync")
NOTE = (
    "THEval: its published correlation with votes (0.87) seems to count the ground truth, which scores 1 by "
    "construction; lip and head dynamics are in pixels, so larger frames score otherwise; landmarks are those of "
    "a newer tracker than the paper's"
)


def closeness(value: float, truth: float) -> float:
    """Return 1 - |value - truth| / |truth|, at most 1 and unbounded below; NaN for a truth of zero."""
    return 1 - abs(value - truth) / abs(truth) if abs(truth) > 1e-9 else math.nan


def final(scores: Mapping[str, float], weights: Mapping[str, float] | None = None) -> float:
    """Return the weighted mean of scores; NaN where one that counts is missing."""
    share = {name: 1.0 if weights is None else weights.get(name, 1.0) for name in scores}
    used = {name: weight for name, weight in share.items() if weight}
    return sum(weight * scores[name] for name, weight in used.items()) / sum(used.values())


def lip_dynamics(lips: Array) -> float:
    """Return the mean deviation (n - 1) of the 780 distances of lip points (n, 40, 2) in a 256-pixel frame."""
    first, second = np.triu_indices(lips.shape[1], 1)
    return float(np.linalg.norm(lips[:, first] - lips[:, second], axis=-1).std(axis=0, ddof=1).mean())


def _centres(points: Array, indices: tuple[int, ...]) -> Array:
    return np.asarray(points[:, list(indices)].mean(axis=1))


def measure(faces: Features, audio: npt.NDArray[np.int16] | None) -> dict[str, float]:
    """Return the four quantities of a clip, NaN for those it has no value of.

    Args:
        faces: see `bench.metrics.faces`.
        audio: 16 kHz mono.
    """
    found = dict.fromkeys(MEASURED, math.nan)
    valid = faces["valid"].astype(bool)
    pixels = faces["landmarks"][..., :2].astype(np.float64)
    square = pixels * (256 / faces["size"])
    if valid.sum() > 1:
        found["lips"] = lip_dynamics(square[valid][:, list(MOUTH)])
        eyes = [_centres(pixels[valid], eye) for eye in (EYE_RIGHT, EYE_LEFT)]
        apart = np.linalg.norm(eyes[0] - eyes[1], axis=-1)
        gaps = [
            np.linalg.norm(_centres(pixels[valid], brow) - eye, axis=-1) / apart
            for brow, eye in zip((BROW_RIGHT, BROW_LEFT), eyes, strict=True)
        ]
        found["brows"] = float(np.mean([gap.std(ddof=1) for gap in gaps]))
    if audio is None:
        return found
    split = speech.split(audio, len(valid))
    upper, lower = square[:, list(INNER_UPPER)], square[:, list(INNER_LOWER)]
    corners = np.linalg.norm(square[:, 33] - square[:, 263], axis=-1)
    quiet = split.silence & valid
    if quiet.sum() > 1:
        opening = (np.linalg.norm(upper - lower, axis=-1).mean(axis=1) / corners)[quiet]
        found["silence"] = float(np.median(np.abs(opening - np.median(opening))))
    spoken = split.speech & valid
    if spoken.sum() > 1 and split.speech.mean() >= 0.1:
        eye_width = square[:, [362, 263], 0].mean(axis=1) - square[:, [33, 133], 0].mean(axis=1)
        gap = np.abs(upper[..., 1].mean(axis=1) - lower[..., 1].mean(axis=1)) / np.abs(eye_width)
        loud = 10 ** (split.level / 20)
        found["sync"] = float(np.abs(_unit(gap[spoken]) - _unit(loud[spoken])).mean())
    return found


def _unit(values: Array) -> Array:
    return np.asarray((values - values.min()) / (np.ptp(values) + 1e-8))


class THEval:
    """Closeness of set means to the ground truth's, and their mean."""

    code_modules = (
        __name__,
        "bench.metrics.speech",
        "bench.metrics.face_motion",
        "bench.metrics.coefficients",
        *CODE,
    )

    @property
    def spec(self) -> MetricSpec:
        """The protocol; its parameters include the content of the files."""
        return MetricSpec(
            id="theval/paper_v4",
            version="1",
            kind="set",
            columns=(
                Column("final", "THEval", "higher", digits=3),
                Column("four", "THEval, 4 of 8", "higher", digits=3),
                *(Column(name, f"THEval {name.replace('_', ' ')}", "higher", digits=3) for name in QUANTITIES),
            ),
            domains=("real",),
            needs=("reference", "audio"),
            features=(FACES,),
            params={
                **speech.PARAMS,
                "formulas": "the paper's where its code has others",
                "files": coefficients.fingerprint("theval"),
                "from_files": list(FROM_FILES),
            },
            weights=FACE_WEIGHTS,
            default=False,
            summary=f"THEval's score; without files for picture and head only 4 of 8. {NOTE}.",
            source="Quignon et al., THEval, 2025 (v4), section 3",
        )

    def state(self, clip: ClipView) -> Features:
        """Return `sums` (8,) and `counts` (8,) over the clips that have a value."""
        found = measure(clip.features(FACES), clip.audio())
        found |= dict.fromkeys(FROM_FILES, math.nan)
        try:
            found |= dict(zip(FROM_FILES, coefficients.of(clip, "theval")[0], strict=True))
        except Unscored as missing:
            if missing.reason != Reason.MISSING_WEIGHTS:
                raise
        values = np.array([found[name] for name in QUANTITIES])
        known = np.isfinite(values)
        return {"sums": np.where(known, values, 0.0), "counts": known.astype(np.float64)}

    def merge(self, states: list[Features]) -> Features:
        """Add up."""
        return {key: np.sum([state[key] for state in states], axis=0) for key in ("sums", "counts")}

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return closeness per quantity, `four` of those read from landmarks, and `final` where all are there."""
        means = [
            np.divide(side["sums"], side["counts"], out=np.full(len(QUANTITIES), np.nan), where=side["counts"] > 0)
            for side in (generated, reference)
        ]
        pairs = zip(QUANTITIES, *means, strict=True)
        scores = {name: closeness(float(m), float(g)) for name, m, g in pairs}
        four = final({name: scores[name] for name in MEASURED})
        if not any(math.isfinite(scores[name]) for name in MEASURED):
            raise Unscored(Reason.NO_FACE, "no clip has a value of any of the four")
        return {"final": final(scores), "four": four, **scores}


METRICS: tuple[type, ...] = (THEval,)
