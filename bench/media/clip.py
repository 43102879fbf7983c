"""A decoded clip as metrics see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.errors import did_you_mean
from bench.core.views import ClipView, Extractor, Features
from bench.media.decode import FPS, SAMPLE_RATE, chunks, read_audio, resample_plan
from bench.media.probe import Probe, ResamplePlan, probe

MEMORY_BUDGET = 384 * 2**20
"""Bytes of frames one clip may keep; longer clips are decoded again on every pass."""


class Clip:
    """A video file at 25 fps with 16 kHz audio and features; implements `bench.core.views.ClipView`.

    Frames are decoded on first use and kept when all of them fit into `budget`; otherwise each pass over
    `chunks` decodes again, so that memory stays bounded by one chunk.

    Args:
        path: a video.
        image: the sample's reference picture.
        truth: `.npz` with the synthetic world's ground truth.
        extractors: by name; whoever stores features wraps the extractors.
        budget: bytes of frames to keep.

    Attributes:
        path, image, truth: as given.
        resident: filled by whoever brings the frames to a GPU, see `bench.core.views.resident`.
        swapped: filled by whoever scores control independence, see `ClipView`.
        width, height: pixels as shown.
        frames: number of frames at 25 fps.
        fps: always 25.0.
        native: probe of the file.
        plan: how native frames became 25 fps (counts of duplicated and dropped frames).

    Raises:
        DecodeError: not a video, damaged, empty, or unreadable.
    """

    def __init__(
        self,
        path: Path,
        image: Path | None = None,
        truth: Path | None = None,
        extractors: Mapping[str, Extractor] | None = None,
        budget: int = MEMORY_BUDGET,
    ) -> None:
        self.path = Path(path)
        self.image = image
        self.truth = truth
        self.resident: Any = None
        self.swapped: Mapping[str, ClipView] = {}
        self.native: Probe = probe(self.path)
        self.plan: ResamplePlan = resample_plan(self.path, FPS)
        self.width = self.native.width
        self.height = self.native.height
        self.frames = self.plan.frames
        self.fps = FPS
        self._extractors = extractors or {}
        self._features: dict[str, Features] = {}
        self._fits = self.frames * self.height * self.width * 3 <= budget
        self._pixels: npt.NDArray[np.uint8] | None = None
        self._audio: npt.NDArray[np.int16] | None = None
        self._heard = False

    def chunks(self, size: int = 32) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield consecutive frames as read-only uint8 (n, height, width, 3), RGB, n <= size.

        Raises:
            DecodeError: a frame is damaged.
        """
        pixels = self.pixels()
        if pixels is None:
            yield from chunks(self.path, FPS, size)
            return
        for at in range(0, self.frames, size):
            yield pixels[at : at + size]

    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """Return all frames as one read-only array (frames, height, width, 3), or None when they do not fit.

        Raises:
            DecodeError: a frame is damaged.
        """
        if self._pixels is None and self._fits:
            pixels = np.empty((self.frames, self.height, self.width, 3), np.uint8)
            at = 0
            for chunk in chunks(self.path, FPS):
                pixels[at : at + len(chunk)] = chunk
                at += len(chunk)
            pixels.flags.writeable = False
            self._pixels = pixels
        return self._pixels

    def audio(self) -> npt.NDArray[np.int16] | None:
        """Return int16 (n,), 16 kHz mono, cut to the clip's frames; None without an audio stream."""
        if not self._heard:
            audio = read_audio(self.path) if self.native.has_audio else None
            self._audio = None if audio is None else audio[: round(self.frames * SAMPLE_RATE / FPS)]
            self._heard = True
        return self._audio

    def features(self, extractor: str) -> Features:
        """Return the named extractor's arrays, computed on first use.

        Raises:
            KeyError: no such extractor was given.
            Unscored: the extractor has no result for this clip.
        """
        if extractor not in self._features:
            if extractor not in self._extractors:
                hint = did_you_mean(extractor, list(self._extractors))
                raise KeyError(f"no extractor {extractor!r} for {self.path.name}.{hint}")
            self._features[extractor] = self._extractors[extractor].extract(self)
        return self._features[extractor]
