"""Control independence read from synthetic faces; see `bench.metrics.control_independence` for what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.core.spec import MetricSpec
from bench.core.views import ClipView, Features
from bench.metrics.control_independence import COLUMNS, FLOOR, Regions, control_independence, paired, three
from bench.synthetic import embedded
from bench.synthetic.labels import RANGES, READINGS

MOUTH_READINGS = ("opening", "protrusion")
REST_READINGS = ("brow", "furrow", "blink_left", "blink_right", "gaze_x", "gaze_y")
POSE_RANGES = (1.0, 0.6, 0.6)  # yaw, pitch, roll in radians, largest minus smallest the world draws


def reading_regions(faces: Sequence[Features]) -> list[Regions]:
    """Return the regions of synthetic clips, as shares of each reading's range.

    The mouth is its opening and protrusion; the rest is brows, furrow, lids, gaze and head angles. Smile and
    mouth width, which a smile changes too, belong to neither.

    Args:
        faces: `readings` (n, 10) and `pose` (n, 6) of each clip.
    """
    regions: list[Regions] = []
    for one in faces:
        values = {name: one["readings"][:, i] / RANGES[name] for i, name in enumerate(READINGS)}
        mouth = np.stack([values[name] for name in MOUTH_READINGS], axis=1)
        angles = one["pose"][:, :3] / np.array(POSE_RANGES)
        rest = np.concatenate([np.stack([values[name] for name in REST_READINGS], axis=1), angles], axis=1)
        regions.append({"mouth": mouth[..., None].astype(np.float64), "rest": rest[..., None].astype(np.float64)})
    return regions


class SyntheticControlIndependence:
    """Leakage matrix and independence on the readings of synthetic faces."""

    spec = MetricSpec(
        id="control/synthetic_v1",
        version="1",
        kind="clip",
        columns=COLUMNS,
        domains=("synthetic",),
        needs=("swapped",),
        features=("synthetic_face",),
        params={"mouth": list(MOUTH_READINGS), "rest": [*REST_READINGS, "yaw", "pitch", "roll"], "floor": FLOOR},
        weights=(embedded.ref("frame"), embedded.ref("face")),
        summary="How far mouth and rest follow only their own control when audio or video is swapped.",
        source="defined in this project's page on metrics (bench show doc metrics); embedded face reader",
    )
    code_modules = (
        "bench.synthetic.control_independence",
        "bench.metrics.control_independence",
        "bench.metrics.pairing",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return the score and the four effects."""
        sides = [one.features("synthetic_face") for one in three(clip)]
        kept, counts = paired(sides, [np.ones(len(side["pose"]), dtype=bool) for side in sides])
        return {**control_independence(*reading_regions(kept)), **counts}


METRICS: tuple[type[Any], ...] = (SyntheticControlIndependence,)
