"""Does each control move its own part of the face, and nothing else?

A method with two gates is run three times on a sample, with the same seed: as it is, with the audio of another
clip, and with the driving video of another clip. The effect of a swap on a region is how far the region moved
away from the base clip in the same frame, over how far two unrelated moments of the two clips are apart:

    change(region, control) = mean over t of |base_t - swapped_t|
    range(region)           = max over controls of the mean over t != s of |base_t - swapped_s|
    effect(region, control) = change / max(range, floor)

0 means that the swap did nothing to the region, 1 that the region is as different as if it came from an
unrelated moment. The four effects are the leakage matrix (mouth | rest) x (audio | visual); the score is

    independence = ((mouth|audio - mouth|visual) + (rest|visual - rest|audio)) / 2

which is 1 when the mouth follows the audio alone and the rest the video alone, 0 when nothing responds or both
controls move everything alike, and negative when the roles are exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.media.faces import (
    BROW_LEFT,
    BROW_RIGHT,
    EYE_LEFT,
    EYE_RIGHT,
    IRIS_LEFT,
    IRIS_RIGHT,
    MOUTH,
    NOSE,
    RIGID,
)
from bench.metrics.faces import CODE, FACE_WEIGHTS, FACES, MIN_PAIRS, inter_ocular
from bench.metrics.pairing import check_lengths

Array = npt.NDArray[np.float64]
Regions = Mapping[str, Array]

FLOOR = 0.02  # smallest range: inter-ocular distances, or shares of a reading's range; a still region is noise
MAX_SHIFTS = 64
REST_POINTS = (*BROW_RIGHT, *BROW_LEFT, *EYE_RIGHT, *EYE_LEFT, *IRIS_RIGHT, *IRIS_LEFT, *NOSE)

COLUMNS = (
    Column("independence", "Control independence", "higher"),
    Column("mouth_audio", "mouth|audio", "higher"),
    Column("mouth_visual", "mouth|visual", "lower"),
    Column("rest_audio", "rest|audio", "lower"),
    Column("rest_visual", "rest|visual", "higher"),
)


def control_independence(base: Regions, audio_swapped: Regions, video_swapped: Regions) -> dict[str, float]:
    """Return the leakage matrix and the independence score of three clips.

    Args:
        base, audio_swapped, video_swapped: arrays `mouth` and `rest` of shape (n, points, coordinates), with
            the same n in all of them, in comparable units (see `FLOOR`).

    Returns:
        `mouth_audio`, `mouth_visual`, `rest_audio`, `rest_visual` (>= 0, about 1 when fully re-driven) and
        `independence` (about -1 to 1).

    Raises:
        Unscored: fewer than five frames.
    """
    matrix: dict[str, float] = {}
    for region in ("mouth", "rest"):
        swapped = {"audio": audio_swapped[region], "visual": video_swapped[region]}
        if len(base[region]) < MIN_PAIRS:
            raise Unscored(Reason.TOO_SHORT, f"a face in all three clips in {len(base[region])} frames")
        reach = max(FLOOR, *(_unrelated(base[region], other) for other in swapped.values()))
        for control, other in swapped.items():
            matrix[f"{region}_{control}"] = _distance(base[region], other) / reach
    own = matrix["mouth_audio"] + matrix["rest_visual"]
    other_control = matrix["mouth_visual"] + matrix["rest_audio"]
    return {"independence": (own - other_control) / 2, **matrix}


def _distance(first: Array, second: Array) -> float:
    return float(np.linalg.norm(first - second, axis=2).mean())


def _unrelated(first: Array, second: Array) -> float:
    """Return the mean distance of different moments, over up to 64 circular shifts of one clip."""
    n = len(first)
    shifts = np.unique(np.linspace(1, n - 1, min(n - 1, MAX_SHIFTS)).round().astype(int))
    return float(np.mean([_distance(first, np.roll(second, shift, axis=0)) for shift in shifts]))


def landmark_regions(faces: Sequence[Features]) -> list[Regions]:
    """Return the regions of clips of one face, from MediaPipe landmarks, in inter-ocular distances.

    The mouth is seen from the head: its points in three dimensions after the rigid points (eye corners, nose)
    were laid onto those of the first clip's first frame, so that turning the head is no mouth change. The rest
    (brows, eyes, irises, nose) is seen from the camera, so that it contains the head's pose. Cheeks and jaw move
    with both controls and belong to neither.

    Args:
        faces: `landmarks` (n, 478, 3) and `size` of each clip; rows without a face already left out.
    """
    target = _square(faces[0])[0]
    unit = float(inter_ocular(target[None])[0])
    regions: list[Regions] = []
    for one in faces:
        points = _square(one)
        aligned = _aligned(points[:, MOUTH], points[:, RIGID], target[list(RIGID)])
        regions.append({"mouth": aligned / unit, "rest": points[:, REST_POINTS, :2] / unit})
    return regions


def _square(faces: Features) -> Array:
    """Return landmarks (n, 478, 3) in units of the frame's width, whatever the resolution."""
    return faces["landmarks"].astype(np.float64) / float(faces["size"][0])


def _aligned(points: Array, rigid: Array, target: Array) -> Array:
    """Move points (n, p, 3) by the similarity that lays rigid (n, r, 3) onto target (r, 3), least squares.

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    centre, aim = rigid.mean(axis=1, keepdims=True), target.mean(axis=0)
    spread = rigid - centre
    u, s, vt = np.linalg.svd(np.einsum("rk,nrj->nkj", target - aim, spread))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[:, None, :]) @ vt
    scale = (s * sign).sum(axis=1) / (spread**2).sum(axis=(1, 2))
    return scale[:, None, None] * (points - centre) @ rotation.transpose(0, 2, 1) + aim


def three(clip: ClipView) -> list[ClipView]:
    """Return base, audio-swapped and video-swapped clip."""
    missing = {"audio", "visual"} - set(clip.swapped)
    if missing:
        raise Unscored(
            Reason.NO_REFERENCE, f"no clip of the same sample with swapped {' and '.join(sorted(missing))}"
        )
    return [clip, clip.swapped["audio"], clip.swapped["visual"]]


def paired(sides: list[Features], masks: list[npt.NDArray[np.bool_]]) -> tuple[list[Features], dict[str, float]]:
    """Keep the frames that all clips have, with a face in each; return them with `n_frames` and `coverage`."""
    lengths = [len(mask) for mask in masks]
    n = check_lengths(min(lengths), max(lengths))
    everywhere = np.flatnonzero(np.logical_and.reduce([mask[:n] for mask in masks]))
    kept: list[Features] = [{k: v if k == "size" else v[everywhere] for k, v in side.items()} for side in sides]
    return kept, {"n_frames": float(len(everywhere)), "coverage": len(everywhere) / max(lengths)}


class ControlIndependence:
    """Leakage matrix and independence on the landmarks of real faces."""

    spec = MetricSpec(
        id="control/landmarks_v1",
        version="1",
        kind="clip",
        columns=COLUMNS,
        domains=("real",),
        needs=("swapped",),
        features=(FACES,),
        params={"mouth": "40 lip points in the head's frame", "rest": "eyes, brows, nose", "floor": FLOOR},
        weights=FACE_WEIGHTS,
        default=False,
        summary="How far mouth and rest follow only their own control when audio or video is swapped.",
        source="defined in this project's page on metrics: bench show doc metrics",
    )
    code_modules = ("bench.metrics.control_independence", *CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the score and the four effects."""
        sides = [one.features(FACES) for one in three(clip)]
        kept, counts = paired(sides, [side["valid"] for side in sides])
        if counts["n_frames"] < MIN_PAIRS:
            raise Unscored(Reason.TOO_SHORT, f"a face in all three clips in {counts['n_frames']:.0f} frames")
        return {**control_independence(*landmark_regions(kept)), **counts}


METRICS: tuple[type[Any], ...] = (ControlIndependence,)
