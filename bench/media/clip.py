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
from bench.media.scale import Fit

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
        size: width and height to bring frames to, see `bench.media.scale.Fit`; None is the video's own.
        cropped: cut to that shape first.
        limit: frames beyond this many do not count.
        sound: a file to hear it with instead of its own sound.

    Attributes:
        look: what size, crop and limit changed, empty for the video as it is.
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
        size: tuple[int, int] | None = None,
        cropped: bool = False,
        limit: int | None = None,
        sound: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self._sound = sound or self.path
        self.image = image
        self.truth = truth
        self.resident: Any = None
        self.swapped: Mapping[str, ClipView] = {}
        self.native: Probe = probe(self.path)
        self.plan: ResamplePlan = resample_plan(self.path, FPS)
        own = self.native.width, self.native.height
        self._fit = None if size is None or size == own else Fit(*size, cropped)
        self.width, self.height = own if size is None else size
        self.frames = self.plan.frames if limit is None else min(limit, self.plan.frames)
        self.look = "" if self._fit is None else f"{self.width}x{self.height}{' cropped' * cropped}"
        if self.frames < self.plan.frames:
            self.look += f" first {self.frames} frames"
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
            yield from self._decoded(size)
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
            for chunk in self._decoded():
                pixels[at : at + len(chunk)] = chunk
                at += len(chunk)
            pixels.flags.writeable = False
            self._pixels = pixels
        return self._pixels

    def _decoded(self, size: int = 32) -> Iterator[npt.NDArray[np.uint8]]:
        left = self.frames
        for chunk in chunks(self.path, FPS, size):
            kept = chunk[:left]
            left -= len(kept)
            if len(kept):
                yield kept if self._fit is None else np.stack([self._fit(frame) for frame in kept])

    def audio(self) -> npt.NDArray[np.int16] | None:
        """Return int16 (n,), 16 kHz mono, cut to the clip's frames; None without an audio stream."""
        if not self._heard:
            audible = self.native.has_audio or self._sound != self.path
            audio = read_audio(self._sound) if audible else None
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
