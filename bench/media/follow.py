"""Following one person through a clip in which several faces are seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.floating]

RULE = {"face": "followed from the first frame", "reach": 1.0, "lost": 25, "alike": 0.75}
"""What protocols say about it."""

REACH = 1.0  # face sizes the centre may move from one frame to the next
LOST = 25  # frames after which a face that is gone is given up
ALIKE = 0.75  # part of the largest area from which faces count as equally large


class Follower:
    """Picks the same person's face in every frame: the one that moved least from where it was.

    While somebody else is in the picture and the followed face is not, nobody is picked; after a second another
    face is. In clips that never show more than one face at a time, that one is picked wherever it is.

    Attributes:
        switches: how often the picked face jumped to another place.
    """

    def __init__(self) -> None:
        self.switches = 0
        self._last: npt.NDArray[np.float64] | None = None
        self._missed = 0
        self._alone = True

    def pick(self, boxes: Boxes, first: int) -> int | None:
        """Return the index of the followed face in this frame, or None.

        Args:
            boxes: (k, 4) corners x0, y0, x1, y1 of all faces of the frame, in pixels.
            first: index of the face to begin with, where none is followed yet.
        """
        self._alone &= len(boxes) <= 1
        if not len(boxes):
            self._missed += 1
            return None
        chosen = first
        if self._last is not None:
            faces = np.asarray(boxes, np.float64)
            nearest = int(np.argmin(_moves(faces, self._last)))
            if _moves(faces, self._last)[nearest] <= REACH:
                chosen = nearest
            elif self._alone or self._missed >= LOST:
                self.switches += 1
            else:
                self._missed += 1
                return None
        self._last = np.asarray(boxes[chosen], np.float64)
        self._missed = 0
        return chosen


def begin(boxes: Boxes, width: int) -> int:
    """Return which face to follow: the largest; of several about equally large the one nearest the middle.

    Args:
        boxes: (k, 4) corners x0, y0, x1, y1 in pixels, k >= 1.
        width: of the picture, in pixels.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    centres = (boxes[:, 0] + boxes[:, 2]) / 2

    def rank(face: int) -> tuple[int, float]:
        # In tenths of the width, so that a hair's breadth does not decide between left and right.
        return round(10 * abs(float(centres[face]) / width - 0.5)), float(centres[face])

    return min((int(k) for k in np.flatnonzero(areas >= ALIKE * areas.max())), key=rank)


def remark(faces: npt.NDArray[np.integer], switches: int) -> str:
    """Return what a row says about a clip in which more than one face was seen, or an empty string.

    Args:
        faces: (n,) number of faces seen in each frame.
        switches: see `Follower`.
    """
    several = int((faces > 1).sum())
    found = []
    if several:
        found.append(f"several_faces: more than one in {several} of {len(faces)} frames, one followed")
    if switches:
        found.append(f"the followed face jumped {switches} time{'s' if switches > 1 else ''}")
    return "; ".join(found)


def _moves(faces: npt.NDArray[np.float64], last: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how far each face's centre is from the last one's, in sizes of the two."""
    centres = (faces[:, :2] + faces[:, 2:]) / 2 - (last[:2] + last[2:]) / 2
    sizes = np.sqrt(np.prod(faces[:, 2:] - faces[:, :2], axis=1) * np.prod(last[2:] - last[:2])) ** 0.5
    return np.linalg.norm(centres, axis=1) / np.maximum(sizes, 1e-9)
