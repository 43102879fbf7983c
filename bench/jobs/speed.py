"""How long a method takes for a clip, without encoding, and what it needs: kept with the clip, never keyed."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MIB = 2**20


class Stopwatch:
    """Times one call of a method, from the call to its last frame in memory.

    Frames are drawn while they are encoded, so only the time spent waiting for each of them counts. Decoding its
    inputs is part of a method's call and counts too.

    Args:
        load: seconds the method took to load.
        first: it is the first call since then.
    """

    def __init__(self, load: float, first: bool) -> None:
        self._load, self._first = load, first
        self._spent = 0.0
        self._ready: list[float] = []  # seconds spent until each frame was there
        self._size = (0, 0)
        self._count = 0
        torch = sys.modules.get("torch")
        self._gpu = torch.cuda if torch is not None and torch.cuda.is_available() else None
        if self._gpu is not None:
            self._gpu.reset_peak_memory_stats()
        # One-minute load average over the machine's cores: above a half, others were at work too.
        self._busy = os.getloadavg()[0] / (os.cpu_count() or 1) > 0.5

    def begin(self) -> None:
        """Start to count."""
        self._since = time.perf_counter()

    def end(self) -> None:
        """Stop to count."""
        self._spent += time.perf_counter() - self._since

    def watched(self, frames: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield frames, counting the time each of them takes to come."""
        source = iter(frames)
        while True:
            self.begin()
            frame = next(source, None)
            self.end()
            if frame is None:
                return
            self._count += 1
            self._ready.append(self._spent)
            self._size = (int(frame.shape[1]), int(frame.shape[0]))
            yield frame

    def record(self, fps: float, heard: Sequence[int] | None = None) -> dict[str, Any]:
        """Return what there is to say, as JSON-able data.

        Args:
            fps: frame rate of the frames as the method made them.
            heard: see `bench.methods.base.Video`.
        """
        gpu = self._gpu
        streamed = {} if heard is None else {"ready": [round(s, 4) for s in self._ready], "heard": list(heard)}
        return {
            **streamed,
            "seconds": self._spent,
            "frames": self._count,
            "fps": fps,
            "size": list(self._size),
            "load": self._load,
            "first": self._first,
            "host_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "device_mib": gpu.max_memory_allocated() / MIB if gpu is not None else 0.0,
            "device": gpu.get_device_name() if gpu is not None else "cpu",
            "busy": self._busy,
        }
