"""Fréchet Inception Distance between the frames of generated and ground-truth clips.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", appendix;
numbers equal those of pytorch-fid 0.3. All decoded frames of all clips are pooled. Frames of one clip are not
independent: subsample clips, not frames, to judge uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from bench.core.spec import Column, ExtractorSpec, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features
from bench.metrics import face_tracks, frechet
from bench.metrics.precision import Precision, with_bf16
from bench.metrics.sync import DETECTIONS, Faces, cropped
from bench.weights import ref

if TYPE_CHECKING:
    from bench.metrics.networks.inception import FrameFeatures

SIZE = 2048
BATCH = 8  # frames; the network's largest activation then stays in cache
PEAK = 24.0  # MiB per frame
SHORTEST_TRACK = 25  # frames of a face that count as its presence

_CODE = (
    "bench.metrics.fid",
    "bench.metrics.networks.inception",
    "bench.metrics.networks.loading",
)


@cache
def _network(precision: Precision) -> FrameFeatures:
    from bench.metrics.networks.inception import FrameFeatures

    return FrameFeatures(precision=precision)


class InceptionFrames:
    """Inception-v3 pool features of every frame."""

    precision = Precision.FP32
    code_modules = _CODE

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name=f"inception{SIZE}",
            version="1",
            params={"resize": "299x299 bilinear without antialiasing", "frames": "all", "region": "full frame"},
            weights=(ref("inception_fid"),),
            device="gpu",
            hears=False,
        )

    def extract(self, clip: ClipView) -> Features:
        """Return `features` float32 (frames, 2048).

        Raises:
            Unscored: the weights are missing.
        """
        from bench.metrics.networks.loading import batches, downloaded

        network = _network(self.precision)
        return {"features": downloaded([network.features(chunk) for chunk in batches(clip, BATCH, PEAK)])}


class InceptionFaces:
    """Inception-v3 pool features of the longest face track's crops."""

    precision = Precision.FP32
    code_modules = (*_CODE, *Faces.code_modules)

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name=f"inception{SIZE}_face",
            version="1",
            params={
                "resize": "299x299 bilinear without antialiasing",
                "frames": "longest face track",
                "longer_than": SHORTEST_TRACK,
                "crop": "224x224, SyncNet's crop",
                **face_tracks.PARAMS,
            },
            weights=(ref("inception_fid"), ref("sfd_face")),
            device="gpu",
            hears=False,
        )

    def extract(self, clip: ClipView) -> Features:
        """Return `features` float32 (frames of the track, 2048).

        Raises:
            Unscored: no face track of more than 25 frames, or missing weights.
        """
        from bench.metrics.networks.loading import batches, downloaded

        tracks = face_tracks.tracks(clip.features(DETECTIONS + self.precision.suffix), SHORTEST_TRACK)
        if not tracks:
            raise Unscored(
                Reason.NO_FACE, f"no face of 100 pixels or more over {SHORTEST_TRACK} frames in {clip.path.name}"
            )
        longest = max(tracks, key=len)
        path = face_tracks.smooth(longest.boxes)
        network = _network(self.precision)
        features = []
        start = 0
        for chunk in batches(clip, BATCH, PEAK):
            low, high = max(start, longest.first), min(start + len(chunk), longest.end)
            if low < high:
                places = path[low - longest.first : high - longest.first]
                features.append(network.features(cropped(chunk[low - start : high - start], places)))
            start += len(chunk)
        return {"features": downloaded(features)}


class _Fid:
    protocol: str
    features: str
    default: bool
    summary: str
    faces = False
    code_modules: tuple[str, ...] = ("bench.metrics.fid", "bench.metrics.frechet")

    def __init__(self) -> None:
        self.spec = MetricSpec(
            id=f"fid/{self.protocol}",
            version="1",
            kind="set",
            columns=(
                Column("fid", "FID", "lower"),
                Column("n_frames", "frames", "none", digits=0),
                Column("rank_deficient", "fewer frames than features", "none", digits=0),
            ),
            domains=("real",),
            needs=("reference",),
            features=(self.features,),
            params={"features": SIZE, "covariance": "unbiased", "pool": "frames of all clips"},
            weights=(ref("inception_fid"), *((ref("sfd_face"),) if self.faces else ())),
            default=self.default,
            summary=self.summary,
            source="Heusel et al. 2017; pytorch-fid 0.3",
        )

    def state(self, clip: ClipView) -> Features:
        """Return the clip's contribution."""
        return frechet.state(clip.features(self.spec.features[0])["features"])

    def merge(self, states: list[Features]) -> Features:
        """Combine contributions."""
        return frechet.merge(states)

    def compute(self, generated: Features, reference: Features) -> Mapping[str, float]:
        """Return `fid`, the number of generated frames, and whether a covariance has less than full rank.

        Raises:
            Unscored: fewer than two frames on a side.
        """
        counts = frechet.count(generated), frechet.count(reference)
        return {
            "fid": frechet.distance(generated, reference),
            "n_frames": float(counts[0]),
            "rank_deficient": float(min(counts) <= SIZE),
        }


class AllFrames(_Fid):
    """FID over every frame, the default."""

    protocol, features, default = "pytorch_fid_allframes", "inception2048", True
    summary = "FID over all decoded frames, full frame squashed to 299 pixels, as pytorch-fid does."


class FaceCrop(_Fid):
    """FID over crops of the longest face track."""

    protocol, features, default, faces = "facecrop", "inception2048_face", False, True
    summary = "FID over face crops of the longest track; background and frame border do not count."


METRICS: tuple[type, ...] = with_bf16(AllFrames, FaceCrop)
EXTRACTORS: tuple[type, ...] = with_bf16(InceptionFrames, InceptionFaces)
