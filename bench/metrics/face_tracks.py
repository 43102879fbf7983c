"""From faces in single frames to tracks of one face, and from a track to the crops SyncNet sees.

The steps and constants of the released SyncNet pipeline (Chung and Zisserman 2016; Wav2Lip's evaluation uses
the same): scenes split at cuts, greedy linking by overlap, interpolation over gaps, a median filter over the
boxes, and a crop with 40 % margin on grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.views import Features
from bench.metrics.geometry import Picture, resize, window

Array = npt.NDArray[Any]

SIDE = 224
MARGIN = 0.40
GREY = 110
MEDIAN = 13  # frames
GAP = 25  # frames a face may be missing
OVERLAP = 0.5
SMALLEST_FACE = 100.0  # pixels, mean over the track
CUT = 27.0  # mean change of hue, saturation and value between frames
SHORTEST_SCENE = 15  # frames

PARAMS = {
    "detector_scale": 0.25,
    "detector_threshold": 0.9,
    "overlap": OVERLAP,
    "gap": GAP,
    "smallest_face": SMALLEST_FACE,
    "median": MEDIAN,
    "margin": MARGIN,
    "cut": CUT,
}


@dataclass(frozen=True, slots=True)
class Track:
    """One face over consecutive frames.

    Attributes:
        first: index of its first frame.
        boxes: float64 (frames, 4) corners in pixels, gaps interpolated.
    """

    first: int
    boxes: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def end(self) -> int:
        """Index after its last frame."""
        return self.first + len(self.boxes)


def change(pictures: Array, before: Array | None) -> npt.NDArray[np.float32]:
    """Return the mean absolute change of hue, saturation and value of each picture from the one before it.

    Args:
        pictures: uint8 (n, h, w, 3), consecutive.
        before: the picture before the first, or None at the start (whose change is 0).
    """
    joined = np.concatenate([pictures[:1] if before is None else before[None], pictures])
    colours = _hsv(joined).reshape(len(joined), -1).astype(np.int16)
    return np.abs(np.diff(colours, axis=0)).mean(axis=1, dtype=np.float64).astype(np.float32)


def _hsv(rgb: Array) -> npt.NDArray[np.uint8]:
    """Convert uint8 RGB to OpenCV's 8-bit hue (0..179), saturation and value."""
    values = rgb.astype(np.float32)
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    value = values.max(-1)
    spread = value - values.min(-1)
    safe = np.where(spread == 0, 1, spread)
    hue = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    saturation = 255 * spread / np.where(value == 0, 1, value)
    return np.stack([np.rint(hue * 30) % 180, np.rint(saturation), value], -1).astype(np.uint8)


def scenes(changes: Array) -> list[tuple[int, int]]:
    """Return (first, end) of each scene, from the change of every frame."""
    starts = [0]
    for frame in np.flatnonzero(changes >= CUT):
        if frame - starts[-1] >= SHORTEST_SCENE:
            starts.append(int(frame))
    return list(zip(starts, [*starts[1:], len(changes)], strict=True))


def link(faces: Sequence[Array], longer_than: int, first: int = 0) -> list[Track]:
    """Link the faces of consecutive frames into tracks.

    A track takes the first face in each frame that overlaps its last one, and ends after 25 frames without
    one. What is left over starts further tracks.

    Args:
        faces: per frame (k, 4 or more), best first: corners x1, y1, x2, y2.
        longer_than: tracks must have been seen in more frames than this.
        first: index of the first frame.
    """
    left = [list(frame) for frame in faces]
    tracks: list[Track] = []
    while True:
        seen: list[tuple[int, Array]] = []
        for index, frame in enumerate(left):
            if seen and index - seen[-1][0] > GAP:
                break
            for at, face in enumerate(frame):
                if not seen or _overlap(face, seen[-1][1]) > OVERLAP:
                    seen.append((index, face))
                    del frame[at]
                    break
        if not seen:
            return tracks
        if len(seen) > longer_than:
            track = _interpolated(seen, first)
            if np.diff(track.boxes.reshape(-1, 2, 2), axis=1).mean(axis=0).max() > SMALLEST_FACE:
                tracks.append(track)


def _overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = sum(float(np.prod(box[2:4] - box[:2])) for box in (a, b))
    return shared / (areas - shared)


def _interpolated(seen: list[tuple[int, Array]], first: int) -> Track:
    frames = np.array([index for index, _ in seen])
    boxes = np.array([face[:4] for _, face in seen], np.float64)
    every = np.arange(frames[0], frames[-1] + 1)
    filled = np.stack([np.interp(every, frames, boxes[:, i]) for i in range(4)], 1)
    return Track(first + int(frames[0]), filled)


def tracks(detections: Features, longer_than: int) -> list[Track]:
    """Return the face tracks of a clip, scene by scene, from the `s3fd` features."""
    count = len(detections["change"])
    order = np.searchsorted(detections["frame"], np.arange(count + 1))
    faces = [detections["boxes"][order[i] : order[i + 1]] for i in range(count)]
    found = []
    for start, end in scenes(detections["change"]):
        if end - start >= longer_than:
            found += link(faces[start:end], longer_than, start)
    return found


def smooth(boxes: Array) -> npt.NDArray[np.float64]:
    """Return half the longer side, centre x and centre y of each box, median-filtered with zeros beyond the ends.

    Args:
        boxes: (n, 4) corners.

    Returns:
        (n, 3). The first and last six values are pulled towards zero, as in the reference.
    """
    half = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    padded = np.pad(np.column_stack([half, centre]), ((MEDIAN // 2, MEDIAN // 2), (0, 0)))
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, MEDIAN, axis=0), axis=-1)


def crop(frame: Picture, half: float, x: float, y: float, side: int = SIDE) -> Picture:
    """Cut a smoothed box with its margin out of a frame and scale it to a square; grey beyond the frame."""
    return resize(window(frame, *crop_window(half, x, y), GREY), side, side)


def crop_window(half: float, x: float, y: float) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a smoothed box with its margin, in pixels of the frame."""
    pad = int(half * (1 + 2 * MARGIN))
    # The reference pads first and truncates afterwards, which rounds coordinates left of the frame
    # differently.
    top, bottom = int(y + pad - half), int(y + pad + half * (1 + 2 * MARGIN))
    left, right = int(x + pad - half * (1 + MARGIN)), int(x + pad + half * (1 + MARGIN))
    return top - pad, max(bottom, top + 1) - pad, left - pad, max(right, left + 1) - pad
