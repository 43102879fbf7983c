"""Following one person through a clip in which several faces are seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.floating]

RULE = {
    "face": "the reference picture's, else the first frame's, followed",
    "reach": 1.0,
    "lost": 25,
    "alike": 0.75,
    "met": 0.5,
}
"""What protocols say about it."""

REACH = 1.0  # face sizes the centre may move from one frame to the next
LOST = 25  # frames after which a face that is gone is given up
ALIKE = 0.75  # part of the largest area from which faces count as equally large
MET = 0.5  # face sizes within which two faces cannot be told apart by where they are


class Follower:
    """Picks the same person's face in every frame: the one nearest to where it was heading.

    While somebody else is in the picture and the followed face is not, nobody is picked; after a second another
    face is. In clips that never show more than one face at a time, that one is picked wherever it is.

    Attributes:
        switches: how often somebody else may be followed since: the picked face jumped to another place, or it met
            another face, after which only their paths (or, where `knows`, their looks) tell who is who.
    """

    def __init__(self) -> None:
        self.switches = 0
        self._last: npt.NDArray[np.float64] | None = None
        self._step: npt.NDArray[np.float64] = np.zeros(4)
        self._missed = 0
        self._alone = True
        self._met = False

    def pick(self, boxes: Boxes, first: Callable[[], int], knows: bool = False) -> int | None:
        """Return the index of the followed face in this frame, or None.

        Args:
            boxes: (k, 4) corners x0, y0, x1, y1 of all faces of the frame, in pixels.
            first: returns the index of the face to begin with; asked where none is followed yet.
            knows: `first` knows the person by the looks, and is asked again when the face has met another one.
        """
        self._alone &= len(boxes) <= 1
        if not len(boxes):
            self._missed += 1
            return None
        faces = np.asarray(boxes, np.float64)
        if self._last is None:
            return self._take(faces, first())
        # A face that was seen in the frame before goes on as it went; at most half its size, lest noise leads off.
        limit = 0.5 * float(np.sqrt(np.prod(self._last[2:] - self._last[:2])))
        ahead = np.zeros(4) if self._missed else np.clip(self._step, -limit, limit)
        moves = _moves(faces, self._last + ahead)
        chosen = int(np.argmin(moves))
        if _moves(faces, self._last)[chosen] <= REACH:
            near = _moves(faces, faces[chosen]) <= MET
            if near.sum() > 1:
                self._met = True
            elif self._met:
                self._met = False
                self.switches += 1
                chosen = first() if knows else chosen
        elif self._alone or self._missed >= LOST:
            self.switches += 1
            chosen = chosen if self._alone else first()
        else:
            self._missed += 1
            return None
        return self._take(faces, chosen)

    def _take(self, faces: npt.NDArray[np.float64], chosen: int) -> int:
        going = self._last is not None and not self._missed
        self._step = faces[chosen] - self._last if going else np.zeros(4)
        self._last = faces[chosen]
        self._missed = 0
        return chosen


def place(boxes: Boxes, width: int, height: int) -> npt.NDArray[np.float64] | None:
    """Return the box (4,) of a picture's main face (see `begin`) in parts of its width and height, or None."""
    if not len(boxes):
        return None
    return np.asarray(boxes[begin(boxes, width)], np.float64) / (width, height, width, height)


def at_place(boxes: Boxes, width: int, height: int, wanted: npt.NDArray[np.float64] | None) -> int:
    """Return which face lies where the reference picture has its own, else the one of `begin`.

    Args:
        boxes: (k, 4) corners x0, y0, x1, y1 in pixels, k >= 1.
        width, height: of the frame, in pixels.
        wanted: of the reference picture's face, see `place`.
    """
    if wanted is not None:
        moves = _moves(np.asarray(boxes, np.float64), wanted * (width, height, width, height))
        if moves.min() <= REACH:
            return int(np.argmin(moves))
    return begin(boxes, width)


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
        found.append(f"the followed face may have changed {switches} time{'s' if switches > 1 else ''}")
    return "; ".join(found)


def _moves(faces: npt.NDArray[np.float64], last: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how far each face's centre is from the last one's, in sizes of the two."""
    centres = (faces[:, :2] + faces[:, 2:]) / 2 - (last[:2] + last[2:]) / 2
    sizes = np.sqrt(np.prod(faces[:, 2:] - faces[:, :2], axis=1) * np.prod(last[2:] - last[:2])) ** 0.5
    return np.linalg.norm(centres, axis=1) / np.maximum(sizes, 1e-9)
