"""CSIM: cosine similarity of face embeddings, how much of the identity a video keeps.

Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", on InsightFace's `buffalo_l`
pack. Frames without a face are left out and lower the coverage; they never count as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, ExtractorSpec, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.media.follow import RULE, Follower
from bench.metrics.pairing import check_lengths, require_reference
from bench.weights import ref

if TYPE_CHECKING:
    from bench.metrics.networks.arcface import Embedder, Face

FEATURE = "arcface"
PACKAGES = ("onnxruntime",)
LOW_COVERAGE = 0.8
BATCH = 16  # faces

_CODE = ("bench.metrics.networks.arcface", "bench.metrics.geometry", "bench.media.follow")


@cache
def _embedder() -> Embedder:
    from bench.metrics.networks.arcface import Embedder

    return Embedder()


def _runs_on_gpus() -> bool:
    """Tell whether the onnxruntime that is installed is the one for GPUs."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version("onnxruntime-gpu"))
    except PackageNotFoundError:
        return False


class FaceEmbeddings:
    """The embedding of one person's face in every frame: the reference picture's, else the first central one."""

    code_modules = ("bench.metrics.csim", *_CODE)

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name=FEATURE,
            version="3",
            params={"detector_size": 640, "threshold": 0.5, "first": "area - 2 * offset^2", "retry": "1x border"}
            | RULE,
            weights=(ref("buffalo_l_det_10g"), ref("buffalo_l_w600k_r50")),
            packages=PACKAGES,
            device="gpu" if _runs_on_gpus() else "cpu",
            hears=False,
            meets=True,
        )

    def extract(self, clip: ClipView) -> Features:
        """Return per-frame embeddings.

        Returns:
            `embeddings` float32 (frames, 512) of unit length, NaN without a face; `valid` bool (frames,);
            `padded` bool (frames,), found only after a border was added; `face_count` int (frames,) and `switches`
            int (), see `bench.media.follow`.

        Raises:
            Unscored: no frame shows a face, or weights or onnxruntime are missing.
        """
        parts: dict[str, list[npt.NDArray[np.generic]]] = {"embeddings": [], "valid": [], "padded": []}
        follower = FollowedFaces(_person(clip))
        for chunk in clip.chunks(BATCH):
            for key, value in zip(parts, _embed(chunk, follower), strict=True):
                parts[key].append(value)
        found = {key: np.concatenate(values) for key, values in parts.items()}
        found |= {"face_count": np.array(follower.counts), "switches": np.array(follower.switches)}
        if not found["valid"].any():
            raise Unscored(Reason.NO_FACE, f"no face in any of the {clip.frames} frames of {clip.path.name}")
        return found


class FollowedFaces:
    """Chooses the followed person among ArcFace's detections, frame by frame.

    Args:
        person: unit vector (512,) of the reference picture's face, which tells people apart, or None.

    Attributes:
        counts: faces seen in each frame so far.
    """

    def __init__(self, person: npt.NDArray[np.float32] | None = None) -> None:
        self.counts: list[int] = []
        self._person = person
        self._follower = Follower()

    @property
    def switches(self) -> int:
        """How often somebody else may be followed since, see `Follower`."""
        return self._follower.switches

    def __call__(
        self, faces: list[Face], central: int, shown: npt.NDArray[np.uint8], corner: tuple[int, int]
    ) -> int | None:
        """Return the index of the followed face, see `Embedder.find`."""
        self.counts.append(len(faces))
        boxes = np.array([face.box for face in faces]).reshape(-1, 4) - [*corner, *corner]

        def first() -> int:
            if self._person is None or len(faces) == 1:
                return central
            found = _embedder().embed([shown] * len(faces), [face.landmarks for face in faces])
            return int(np.argmax(found @ self._person))

        return self._follower.pick(boxes, first, knows=self._person is not None)


def _person(clip: ClipView) -> npt.NDArray[np.float32] | None:
    try:
        return None if clip.image is None else picture_embedding(clip)
    except Unscored as no:
        if no.reason is Reason.NO_FACE:
            return None
        raise


def _embed(
    frames: npt.NDArray[np.uint8], choose: FollowedFaces | None = None
) -> tuple[npt.NDArray[np.generic], ...]:
    found = [_embedder().find(frame, choose) for frame in frames]
    valid = np.array([one is not None for one in found])
    embeddings = np.full((len(frames), 512), np.nan, np.float32)
    faces = [one for one in found if one is not None]
    if faces:
        embeddings[valid] = _embedder().embed([f[0] for f in faces], [f[1].landmarks for f in faces])
    return embeddings, valid, np.array([one is not None and one[2] for one in found])


def picture_embedding(clip: ClipView) -> npt.NDArray[np.float32]:
    """Return the unit vector (512,) of the face in the clip's reference picture.

    Raises:
        Unscored: no picture, no face in it, or missing weights or package.
    """
    from bench.media.decode import read_image

    if clip.image is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no reference picture")
    target, found, _ = _embed(read_image(clip.image)[None])
    if not found[0]:
        raise Unscored(Reason.NO_FACE, f"no face in the reference picture {clip.image.name}")
    return np.asarray(target[0], np.float32)


class _Csim:
    protocol: str
    label: str
    needs: tuple[str, ...]
    default: bool
    summary: str
    code_modules: tuple[str, ...] = ("bench.metrics.csim", "bench.metrics.pairing")

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"csim/{self.protocol}",
            version="1",
            kind="clip",
            columns=(
                Column("csim", self.label, "higher", digits=4),
                Column("low_coverage", "coverage under 0.8", "none", digits=2),
                Column("padded", "faces found with a border", "none", digits=2),
            ),
            domains=("real",),
            needs=self.needs,
            features=(FEATURE,),
            params={"pack": "buffalo_l", "average": "frames", "low_coverage": LOW_COVERAGE},
            weights=(ref("buffalo_l_det_10g"), ref("buffalo_l_w600k_r50")),
            default=self.default,
            summary=self.summary,
            source="Deng et al. 2019 (ArcFace); InsightFace buffalo_l",
        )

    @staticmethod
    def _values(cosines: npt.NDArray[np.floating], frames: int, padded: npt.NDArray[Any]) -> dict[str, float]:
        coverage = len(cosines) / frames
        return {
            "csim": float(cosines.mean()),
            "low_coverage": float(coverage < LOW_COVERAGE),
            "padded": float(padded.mean()),
            "n_frames": float(len(cosines)),
            "coverage": coverage,
        }


class ReferenceImage(_Csim):
    """CSIM to the reference picture, the default."""

    protocol, label, needs, default = "ref_image", "CSIM", ("image",), True
    summary = "ArcFace cosine between every frame and the reference picture, mean over frames."
    code_modules = (*_Csim.code_modules, *_CODE)

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `csim`.

        Raises:
            Unscored: no reference picture, no face in it or in the clip, or missing weights or package.
        """
        frames = clip.features(FEATURE)
        target, valid = picture_embedding(clip), frames["valid"]
        return self._values(frames["embeddings"][valid] @ target, clip.frames, frames["padded"][valid])


class GroundTruthFrame(_Csim):
    """CSIM to the ground-truth frame of the same index."""

    protocol, label, needs, default = "gt_frame", "CSIM (GT)", ("reference",), False
    summary = "ArcFace cosine between every frame and the ground-truth frame of the same index, mean over frames."

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return `csim`.

        Raises:
            Unscored: no ground truth, lengths differ by more than two frames, no frame with a face in both, or
                missing weights or package.
        """
        truth = require_reference(reference)
        pairs = check_lengths(clip.frames, truth.frames)
        ours, theirs = clip.features(FEATURE), truth.features(FEATURE)
        both = np.flatnonzero(ours["valid"][:pairs] & theirs["valid"][:pairs])
        if not len(both):
            raise Unscored(Reason.NO_FACE, "no frame shows a face in both clips")
        cosines = (ours["embeddings"][both] * theirs["embeddings"][both]).sum(axis=1)
        return self._values(cosines, max(clip.frames, truth.frames), ours["padded"][both])


METRICS: tuple[type, ...] = (ReferenceImage, GroundTruthFrame)
EXTRACTORS: tuple[type, ...] = (FaceEmbeddings,)
