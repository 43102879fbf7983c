"""How fast a method is: read from the record of its call, not from the clip.

Papers print frames per second of an unstated part of a method on an unstated machine. Here the call counts from
its start to the last frame in memory, decoding of its inputs included, encoding left out. Never compare values of
different machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


class ProcessSpeed:
    """From start to exit of the processes that made a clip, of outside systems."""

    spec = MetricSpec(
        id="speed/process_v1",
        version="1",
        kind="clip",
        columns=(
            Column("process_rtf", "Process RTF", "lower", digits=2),
            Column("process_seconds", "Process time", "lower", "s", digits=1),
        ),
        needs=("record",),
        params={"from": "start of the first command", "to": "exit of the last"},
        default=False,
        summary="Time from start to exit of an outside system's processes for one clip, loading included.",
        source="no published standard",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Refuse: a file does not say how it was made."""
        raise Unscored(Reason.NO_REFERENCE, "speed is measured while a clip is made")

    def read(self, record: Mapping[str, Any]) -> Mapping[str, float]:
        """Return the time in seconds and over the clip's duration.

        Raises:
            Unscored: no process was started for this clip alone: the method runs inside a worker, in a runner that
                stays, or made several clips at once.
        """
        seconds = float(record.get("process_seconds") or 0)
        if seconds <= 0 or not record.get("frames"):
            raise Unscored(Reason.NO_REFERENCE, "no process was started for this clip alone")
        duration = float(record["frames"]) / float(record["fps"])
        return {
            "process_rtf": seconds / duration,
            "process_seconds": seconds,
            "n_frames": float(record["frames"]),
        }


def played_live(ready: Sequence[float], heard: Sequence[int], fps: float) -> dict[str, float]:
    """Return how a method keeps up when its driving signals arrive in real time.

    A frame can be worked on when what it needs has been heard and the frame before it is done; it takes as long as
    it took when everything was there.

    Args:
        ready: seconds of work until each frame was there (n,).
        heard: frames of the driving signals each frame needs (n,).
        fps: of both.

    Returns:
        `ffd`, seconds from the first sound to the first frame; `lag_p95`, 95th percentile of how much later than
        that a frame is after its own moment; `stalls`, the share of frames late for a player that starts with the
        first frame; `lookahead`, the most a frame needs to be heard beyond itself, in seconds.
    """
    done = 0.0
    finished = []
    for before, until, frames in zip([0.0, *ready], ready, heard, strict=False):
        done = max(done, frames / fps) + until - before
        finished.append(done)
    first = finished[0]
    late = np.array(finished) - first - np.arange(len(finished)) / fps
    return {
        "ffd": first,
        "lag_p95": float(np.percentile(late, 95)),
        "stalls": float((late > 1e-6).mean()),
        "lookahead": max(frames - 1 - i for i, frames in enumerate(heard)) / fps,
    }


class StreamingSpeed:
    """First frame, lag and stalls of a method that streams, computed from the times of its frames."""

    spec = MetricSpec(
        id="speed/streaming_v1",
        version="1",
        kind="clip",
        columns=(
            Column("ffd", "First frame", "lower", "s", digits=2),
            Column("lag_p95", "Lag p95", "lower", "s", digits=2),
            Column("stalls", "Stalls", "lower", digits=2),
            Column("lookahead", "Look-ahead", "none", "s", digits=2),
        ),
        needs=("record",),
        params={"sound": "arrives in real time", "player": "starts with the first frame"},
        default=False,
        summary="Delay of the first frame, lag and stalls if the sound came in real time; methods that stream.",
        source="no published standard; first-frame delay as in Ditto (Li et al. 2024)",
    )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Refuse: a file does not say how it was made."""
        raise Unscored(Reason.NO_REFERENCE, "speed is measured while a clip is made")

    def read(self, record: Mapping[str, Any]) -> Mapping[str, float]:
        """Return the four values of `played_live`; NaN for a first call, which warms up.

        Raises:
            Unscored: the method does not stream, or the clip was made elsewhere.
        """
        found = record.get("speed") or {}
        ready, heard = found.get("ready"), found.get("heard")
        if not ready or not heard:
            raise Unscored(Reason.NO_REFERENCE, "the method does not say that it streams")
        if found["first"]:
            return dict.fromkeys((c.key for c in self.spec.columns), float("nan"))
        return {**played_live(ready, heard, float(found["fps"])), "n_frames": float(len(ready))}


METRICS: tuple[type, ...] = (OfflineSpeed, ProcessSpeed, StreamingSpeed)
