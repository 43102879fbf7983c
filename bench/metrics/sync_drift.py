"""Whether sound and lips come apart over a long clip: the offset in windows of four seconds, one second apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, MetricSpec, Reason, Unscored, WeightRef
from bench.core.views import ClipView
from bench.metrics.drift import FPS, slope
from bench.metrics.sync import TrackSync
from bench.metrics.sync_search import HOP, WINDOW
from bench.weights import ref

SHORTEST = 12 * FPS


class SyncDrift:
    """Slope and spread of the audio-visual offset."""

    protocol = "sync/drift_v1"
    features: tuple[str, ...] = ("syncnet_tracks",)
    weights: tuple[WeightRef, ...] = (ref("syncnet_v2"), ref("sfd_face"))
    domain: Any = "real"
    code_modules: tuple[str, ...] = (__name__, "bench.metrics.drift", *TrackSync.code_modules)

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=self.protocol,
            version="1",
            kind="clip",
            columns=(
                Column("slope", "AV drift", "none", "frames/min", digits=2),
                Column("spread", "AV offset spread", "lower", "frames", digits=2),
                Column("windows", "drift windows", "none", digits=0),
            ),
            domains=(self.domain,),
            needs=("audio",),
            features=self.features,
            params={"window": WINDOW, "hop": HOP, "slope": "Theil-Sen", "least_frames": SHORTEST},
            weights=self.weights,
            default=False,
            summary="Change of the audio-visual offset over a clip of 12 s and more: slope and spread.",
            source="no published standard; the search of sync/* in moving windows",
        )

    def offsets(self, clip: ClipView) -> npt.NDArray[np.float64]:
        """Return the offset of each window (k,)."""
        return np.asarray(clip.features("syncnet_tracks")["moving_offsets"], np.float64)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `slope` in frames per minute (positive: the sound comes earlier and earlier), `spread` >= 0.

        Raises:
            Unscored: the clip is shorter than 12 s, or what `sync/*` refuses.
        """
        if clip.frames < SHORTEST:
            raise Unscored(Reason.TOO_SHORT, f"{clip.frames / FPS:.1f} s; {SHORTEST / FPS:.0f} s are needed")
        found = self.offsets(clip)
        if len(found) < 3:
            raise Unscored(Reason.TOO_SHORT, f"{len(found)} windows of {WINDOW / FPS:.0f} s with one face")
        seconds = np.arange(len(found)) * HOP / FPS
        return {
            "slope": 60 * slope(found, seconds),
            "spread": float(found.std()),
            "windows": float(len(found)),
            "n_frames": float(clip.frames),
        }


METRICS: tuple[type, ...] = (SyncDrift,)
