"""Clips whose frames lie on the GPU: decoded and uploaded once each, by a thread that is a clip ahead."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from bench.execute.tasks import ClipRef
from bench.media.clip import Clip

BUDGET = 2 * 2**30
"""Bytes of frames of one clip; a longer one is uploaded batch by batch on every pass."""

_KEPT = 4  # clips: the one at work and its reference, and the same of the next task


class OnDevice:
    """Opens clips in the background and keeps the last few.

    Args:
        open_clip: reads a clip without its frames.
    """

    def __init__(self, open_clip: Callable[[ClipRef, int], Clip]) -> None:
        self._open = open_clip
        self._thread = ThreadPoolExecutor(1, "decode")
        self._clips: OrderedDict[ClipRef, Future[Clip]] = OrderedDict()

    def expect(self, clips: Iterable[ClipRef]) -> None:
        """Begin to decode clips that will be asked for soon."""
        for clip in clips:
            if clip in self._clips:
                self._clips.move_to_end(clip)
                continue
            self._clips[clip] = self._thread.submit(self._bring, clip)
            while len(self._clips) > _KEPT:
                self._clips.popitem(last=False)[1].cancel()

    def get(self, clip: ClipRef) -> Clip:
        """Return a clip with its frames on the device.

        Raises:
            DecodeError: it is damaged.
        """
        self.expect([clip])
        try:
            return self._clips[clip].result()
        except BaseException:
            self._clips.pop(clip, None)
            raise

    def _bring(self, ref: ClipRef) -> Clip:
        from bench.metrics.networks.loading import frames_tensor

        clip = self._open(ref, BUDGET)
        pixels = clip.pixels()
        if pixels is not None:
            clip.resident = frames_tensor(pixels)
        return clip
