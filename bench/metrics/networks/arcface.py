"""Face embeddings of InsightFace's `buffalo_l` pack: SCRFD detector and ArcFace ResNet-50, run by ONNX Runtime.

Guo et al. 2021, "Sample and Computation Redistribution for Efficient Face Detection"; Deng et al. 2019, "ArcFace:
Additive Angular Margin Loss for Deep Face Recognition". Decoding, alignment and colour follow the InsightFace
package, with its detector size of 640x640 before version 1.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import weights
from bench.core.spec import Reason, Unscored
from bench.metrics.geometry import Picture, resize, similarity, suppress, warp, window

Array = npt.NDArray[Any]

DETECTOR_SIDE = 640
THRESHOLD = 0.5
OVERLAP = 0.4
STRIDES = (8, 16, 32)
SIDE = 112
SIZE = 512
# Eyes, nose tip and mouth corners of the aligned face.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


@dataclass(frozen=True, slots=True)
class Face:
    """One face: corners (4,) and five landmarks (5, 2) in pixels, and the detector's score."""

    box: Array
    landmarks: Array
    score: float


Choose = Callable[[list[Face], int, Picture, tuple[int, int]], int | None]
"""Takes all faces, the index of the largest central one, the (bordered) picture they were found in and where the
picture begins in it (x, y); returns the index of a face, or None."""


def session(name: str) -> Any:
    """Open a locked ONNX file.

    Raises:
        Unscored: onnxruntime or the file is missing.
    """
    weights.locate(name)  # what is not there is said before a package is asked for
    try:
        import onnxruntime
    except ImportError as error:
        raise Unscored(
            Reason.MISSING_PACKAGE, "onnxruntime is not installed. Run: pip install 'actalker-bench[faces]'"
        ) from error
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [p for p in wanted if p in onnxruntime.get_available_providers()]
    with weights.opened(name) as file:
        return onnxruntime.InferenceSession(file.read(), providers=providers)


class Embedder:
    """Detector and recogniser."""

    def __init__(self) -> None:
        self.detector = session("buffalo_l_det_10g")
        self.recogniser = session("buffalo_l_w600k_r50")

    def detect(self, picture: Picture) -> list[Face]:
        """Return the faces of a picture, best score first."""
        height, width, _ = picture.shape
        # Fit into the square, keep the aspect, fill with black at the right or below.
        if height > width:
            inner = (DETECTOR_SIDE, int(DETECTOR_SIDE / (height / width)))
        else:
            inner = (int(DETECTOR_SIDE * (height / width)), DETECTOR_SIDE)
        scale = inner[0] / height
        canvas = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.uint8)
        canvas[: inner[0], : inner[1]] = resize(picture, *inner)
        outputs = _run(self.detector, canvas[None], 128.0)
        scores, boxes, points = [], [], []
        for level, stride in enumerate(STRIDES):
            score, box, point = (o.reshape(-1, o.shape[-1]) for o in outputs[level::3])
            strong = np.flatnonzero(score[:, 0] >= THRESHOLD)
            centre = _centres(DETECTOR_SIDE // stride, stride)[strong]
            reach = box[strong] * stride
            boxes.append(np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], 1))
            points.append(centre[:, None] + (point[strong] * stride).reshape(-1, 5, 2))
            scores.append(score[strong, 0])
        score, box, point = np.concatenate(scores), np.concatenate(boxes) / scale, np.concatenate(points) / scale
        return [Face(box[i], point[i], float(score[i])) for i in suppress(box, score, OVERLAP, pixel=1.0)]

    def embed(self, pictures: list[Picture], landmarks: list[Array]) -> npt.NDArray[np.float32]:
        """Return the unit-length embeddings (n, 512) of faces with the given landmarks."""
        aligned = [
            warp(picture, similarity(points, TEMPLATE), SIDE)
            for picture, points in zip(pictures, landmarks, strict=True)
        ]
        raw = _run(self.recogniser, np.stack(aligned), 127.5)[0]
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    def find(self, picture: Picture, choose: Choose | None = None) -> tuple[Picture, Face, bool] | None:
        """Return the largest central face, trying again with a black border when a close-up is not found.

        Args:
            picture: uint8 (height, width, 3), RGB.
            choose: says which face is wanted. Called once per picture, also without faces.

        Returns:
            The picture the face was found in, the face, and whether the border was needed; None without a face.
        """
        for border in (False, True):
            shown = picture
            if border:
                height, width, _ = picture.shape
                shown = window(picture, -height, 2 * height, -width, 2 * width, 0)
            faces = self.detect(shown)
            if faces:
                first = central(faces, shown.shape[0], shown.shape[1])
                corner = (picture.shape[1], picture.shape[0]) if border else (0, 0)
                wanted = first if choose is None else choose(faces, first, shown, corner)
                return None if wanted is None else (shown, faces[wanted], border)
        if choose is not None:
            choose([], 0, picture, (0, 0))
        return None


def central(faces: list[Face], height: int, width: int) -> int:
    """Return the index of the face with the largest area minus twice the squared distance from the centre."""

    def weight(face: Face) -> float:
        side = face.box[2:] - face.box[:2]
        offset = (face.box[:2] + face.box[2:]) / 2 - (width // 2, height // 2)
        return float(side.prod() - 2 * (offset**2).sum())

    return max(range(len(faces)), key=lambda k: weight(faces[k]))


def _run(model: Any, pictures: Array, scale: float) -> list[Array]:
    blob = ((pictures.astype(np.float32) - 127.5) / scale).transpose(0, 3, 1, 2)
    return model.run(None, {model.get_inputs()[0].name: np.ascontiguousarray(blob)})


@lru_cache(maxsize=len(STRIDES))
def _centres(cells: int, stride: int) -> Array:
    """Return the anchor centres (2 * cells * cells, 2): two anchors per cell."""
    y, x = np.mgrid[:cells, :cells]
    return (np.stack([x, y], -1).astype(np.float32) * stride).reshape(-1, 2).repeat(2, axis=0)
