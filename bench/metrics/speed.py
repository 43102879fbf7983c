"""How fast a method is: read from the record of its call, not from the clip.

Papers print frames per second of an unstated part of a method on an unstated machine. Here the call counts from
its start to the last frame in memory, decoding of its inputs included, encoding left out. Never compare values of
different machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.core.spec import Column, MetricSpec, Reason, Unscored
from bench.core.views import ClipView


class OfflineSpeed:
    """Real-time factor, frames per second, and what loading and the first call cost."""

    spec = MetricSpec(
        id="speed/offline_v1",
        version="1",
        kind="clip",
        columns=(
            Column("rtf", "RTF", "lower", digits=2),
            Column("fps", "FPS", "higher", "1/s", digits=1),
            Column("load", "Load", "lower", "s", digits=1),
            Column("first_call", "First call", "lower", "s", digits=2),
            Column("host_mib", "Host memory", "none", "MiB", digits=0),
            Column("device_mib", "Device memory", "none", "MiB", digits=0),
            Column("busy", "machine busy", "none", digits=2),
        ),
        needs=("record",),
        params={"from": "call", "to": "last frame in memory", "encoding": "left out", "warm_up": "first call"},
        default=False,
        summary="Generation time over duration (RTF, under 1 is real time), frames per second, memory, load time.",
        source="no published standard; RTF as in Ditto (Li et al. 2024) and MoDA (Li et al. 2025)",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Refuse: a file does not say how it was made."""
        raise Unscored(Reason.NO_REFERENCE, "speed is measured while a clip is made")

    def read(self, record: Mapping[str, Any]) -> Mapping[str, float]:
        """Return the columns from the record of a clip; `rtf` and `fps` are NaN for a first call, which warms up.

        Raises:
            Unscored: the clip was made elsewhere, or before speed was recorded.
        """
        found = record.get("speed")
        if not found or not found["frames"] or found["seconds"] <= 0:
            raise Unscored(Reason.NO_REFERENCE, "the clip's record does not say how long it took")
        nan = float("nan")
        seconds, frames = float(found["seconds"]), float(found["frames"])
        warm = not found["first"]
        return {
            "rtf": seconds / (frames / found["fps"]) if warm else nan,
            "fps": frames / seconds if warm else nan,
            "load": nan if warm else float(found["load"]),
            "first_call": nan if warm else seconds,
            "host_mib": float(found["host_mib"]),
            "device_mib": float(found["device_mib"]),
            "busy": float(found["busy"]),
            "n_frames": frames,
        }


METRICS: tuple[type, ...] = (OfflineSpeed,)
