"""Sync-C, Sync-D and audio-visual offset by SyncNet (LSE-C and LSE-D of Wav2Lip).

Chung and Zisserman 2016, "Out of time: automated lip sync in the wild", with the released pipeline: S3FD faces at
a quarter of the size, tracks, crops of 224 pixels, MFCC of the int16 speech, and a search over 31 lags
(`bench.metrics.sync_search`). The pipeline's intermediate video and JPEG files are left out; decoding happens
once.

Offset > 0 means that the audio is early, offset < 0 that it is late.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.core.spec import Column, ExtractorSpec, MetricSpec, Reason, Unscored
from bench.core.views import ClipView, Features, resident
from bench.metrics import face_tracks
from bench.metrics.face_tracks import Track
from bench.metrics.geometry import resize
from bench.metrics.mfcc import mfcc
from bench.metrics.precision import Precision, with_bf16
from bench.metrics.sync_search import FEW_WINDOWS, SyncResult, moving_offsets, search
from bench.weights import ref

if TYPE_CHECKING:
    from bench.metrics.networks.s3fd import Detector
    from bench.metrics.networks.syncnet import Embedder

SAMPLES = 640  # audio samples per video frame
VSHIFT = 15
SILENCE = 32768 * 10 ** (-60 / 20)  # RMS of int16 amplitudes: -60 dBFS
SHORTEST_TRACK = 50  # frames; tracks must be longer
PEAK = 48.0  # MiB of a network's activations per frame
SMALLEST_FRAME = 128  # pixels; the detector's deepest layer vanishes below

DETECTIONS = "s3fd"  # feature name of the detector's faces

_CODE = ("bench.metrics.sync", "bench.metrics.sync_search", "bench.metrics.mfcc", "bench.metrics.geometry")
_NETWORK = ("bench.metrics.networks.syncnet", "bench.metrics.networks.loading")
_SEARCH = ("confidence", "distance", "offset", "distance_at_zero", "windows", "at_border")


@cache
def _embedder(precision: Precision) -> Embedder:
    from bench.metrics.networks.syncnet import Embedder

    return Embedder(precision=precision)


class Faces:
    """S3FD faces of every frame, and how much each frame differs from the one before (for scene cuts)."""

    precision = Precision.FP32
    code_modules = (
        "bench.metrics.networks.s3fd",
        "bench.metrics.networks.loading",
        "bench.metrics.networks.resident",
        "bench.metrics.face_tracks",
        "bench.metrics.geometry",
    )

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name=DETECTIONS,
            version="1",
            params={"scale": 0.25, "threshold": 0.9, "inner_nms": 0.3, "outer_nms": 0.1},
            weights=(ref("sfd_face"),),
            device="gpu",
            hears=False,
        )
        self._detector: Detector | None = None

    def extract(self, clip: ClipView) -> Features:
        """Return the faces.

        Returns:
            `frame` int32 (m,), `boxes` float32 (m, 5) as x1, y1, x2, y2 in pixels and probability, in order of
            frame and then of probability; `change` float32 (frames,).

        Raises:
            Unscored: the weights are missing.
        """
        from bench.metrics.networks.loading import batches
        from bench.metrics.networks.s3fd import Detector, quarter

        if min(clip.width, clip.height) < SMALLEST_FRAME:
            detail = f"frames of {clip.width}x{clip.height} are too small for the detector"
            raise Unscored(Reason.NO_FACE, f"{detail}, which looks for faces above 100 pixels")
        self._detector = self._detector or Detector(precision=self.precision)
        boxes: list[npt.NDArray[np.float32]] = []
        changes: list[Any] = []
        before = None
        if resident(clip) is None:
            for chunk in clip.chunks(8):
                small = quarter(chunk)
                boxes += self._detector(small, clip.width, clip.height)
                changes.append(face_tracks.change(small, before))
                before = small[-1]
        else:
            from bench.metrics.networks import resident as device
            from bench.metrics.networks.loading import downloaded

            found = []
            for chunk in batches(clip, 8, PEAK):
                tiny = device.quarter(chunk)
                found.append(self._detector.raw(tiny))
                changes.append(device.change(tiny, before))
                before = tiny[-1]
            boxes = self._detector.decoded(found, clip.width, clip.height)
            changes = [downloaded(changes)]
        counts = [len(b) for b in boxes]
        return {
            "frame": np.repeat(np.arange(len(boxes), dtype=np.int32), counts),
            "boxes": np.concatenate([np.zeros((0, 5), np.float32), *boxes]),
            "change": np.concatenate(changes),
        }


def speech(clip: ClipView) -> npt.NDArray[np.int16]:
    """Return the clip's audio.

    Raises:
        Unscored: there is no audio stream, or nothing above -60 dBFS in it.
    """
    audio = clip.audio()
    if audio is None or not len(audio):
        raise Unscored(Reason.NO_AUDIO, f"{clip.path.name} has no audio stream")
    if np.sqrt(np.square(audio, dtype=np.float64).mean()) < SILENCE:
        raise Unscored(Reason.NO_SPEECH, f"the audio of {clip.path.name} is silent (below -60 dBFS)")
    return audio


class _Lips:
    """Collects the lip embeddings of one track and searches its lag."""

    def __init__(self, embedder: Embedder, first: int, frames: int, audio: npt.NDArray[np.int16]) -> None:
        from bench.metrics.networks.syncnet import LipStream

        self.first, self.end = first, first + frames
        self.audio = audio[first * SAMPLES : self.end * SAMPLES]
        # The released evaluation leaves out the last complete window; so does every published number.
        self.windows = min(frames, len(self.audio) // SAMPLES) - 5
        self._embedder = embedder
        self.stream = LipStream(embedder)

    def result(self) -> tuple[SyncResult, npt.NDArray[np.float64]]:
        """Return the outcome of the search over all crops pushed to `stream`, and the offsets along the track."""
        video = self.stream.result()[: self.windows]
        audio = self._embedder.voice(mfcc(self.audio), self.windows)
        return search(video, audio, VSHIFT), moving_offsets(video, audio, VSHIFT)


def _arrays(lips: list[_Lips]) -> Features:
    found = [(one, *one.result()) for one in lips]
    columns: dict[str, Any] = {name: [getattr(result, name) for _, result, _ in found] for name in _SEARCH}
    columns["first"] = [one.first for one, _, _ in found]
    columns["frames"] = [one.end - one.first for one, _, _ in found]
    columns["curve"] = [result.distances for _, result, _ in found]
    columns["moving_offsets"] = found[int(np.argmax(columns["frames"]))][2]  # of the longest track
    return {name: np.array(values) for name, values in columns.items()}


class TrackSync:
    """The lag search on every face track longer than 50 frames."""

    precision = Precision.FP32
    code_modules = (*_CODE, *_NETWORK, *Faces.code_modules)

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name="syncnet_tracks",
            version="1",
            params={"shortest_track": SHORTEST_TRACK, "vshift": VSHIFT, "crop": 224, **face_tracks.PARAMS},
            weights=(ref("syncnet_v2"), ref("sfd_face")),
            device="gpu",
        )

    def extract(self, clip: ClipView) -> Features:
        """Return one entry per track: the fields of `SyncResult`, `first`, `frames`, and `curve` (tracks, 31);
        `moving_offsets` (k,) of the longest track, see `bench.metrics.sync_search.moving_offsets`.

        Raises:
            Unscored: no audio, silence, no face track, or missing weights.
        """
        audio = speech(clip)
        if clip.frames <= SHORTEST_TRACK:
            raise Unscored(Reason.TOO_SHORT, f"{clip.frames} frames; more than {SHORTEST_TRACK} are needed")
        tracks = face_tracks.tracks(clip.features(DETECTIONS + self.precision.suffix), SHORTEST_TRACK)
        if not tracks:
            raise Unscored(
                Reason.NO_FACE, f"no face of 100 pixels or more over {SHORTEST_TRACK} frames in {clip.path.name}"
            )
        embedder = _embedder(self.precision)
        lips = [_Lips(embedder, t.first, len(t), audio) for t in tracks]
        usable = [pair for pair in zip(lips, tracks, strict=True) if pair[0].windows > 0]
        if not usable:
            raise Unscored(Reason.TOO_SHORT, f"the audio of {clip.path.name} ends before the face appears")
        _push_crops(clip, usable)
        return _arrays([one for one, _ in usable])


def _push_crops(clip: ClipView, usable: list[tuple[_Lips, Track]]) -> None:
    """Crop every track out of one pass over the frames."""
    paths = [face_tracks.smooth(track.boxes) for _, track in usable]
    from bench.metrics.networks.loading import batches

    start = 0
    for chunk in batches(clip, 16, PEAK):
        for (lips, track), path in zip(usable, paths, strict=True):
            low, high = max(start, track.first), min(start + len(chunk), track.end)
            if low < high:
                places = path[low - track.first : high - track.first]
                lips.stream.push(cropped(chunk[low - start : high - start], places))
        start += len(chunk)


def cropped(frames: Any, path: npt.NDArray[np.float64]) -> Any:
    """Cut one smoothed face box (see `face_tracks.smooth`) out of each frame, where the frames are.

    Args:
        frames: uint8 (n, h, w, 3), an array or a tensor on the GPU.
        path: (n, 3), half side, centre x and centre y.

    Returns:
        uint8 (n, 224, 224, 3), what `frames` is.
    """
    if isinstance(frames, np.ndarray):
        return np.stack([face_tracks.crop(frame, *place) for frame, place in zip(frames, path, strict=True)])
    from bench.metrics.networks.resident import crops

    return crops(frames, path)


class FrameSync:
    """The lag search on whole frames, for clips that already are mouth crops."""

    precision = Precision.FP32
    code_modules = (*_CODE, *_NETWORK)

    def __init__(self) -> None:
        self.spec = ExtractorSpec(
            name="syncnet_frames",
            version="1",
            params={"vshift": VSHIFT, "resize": "224x224 bilinear"},
            weights=(ref("syncnet_v2"),),
            device="gpu",
        )

    def extract(self, clip: ClipView) -> Features:
        """Return a single entry, as `TrackSync` does.

        Raises:
            Unscored: no audio, silence, fewer than six frames, or missing weights.
        """
        audio = speech(clip)
        lips = _Lips(_embedder(self.precision), 0, clip.frames, audio)
        if lips.windows < 1:
            raise Unscored(Reason.TOO_SHORT, f"{clip.frames} frames with audio; at least 6 are needed")
        from bench.metrics.networks.loading import batches
        from bench.metrics.networks.resident import resized

        for chunk in batches(clip, 16, PEAK):
            if isinstance(chunk, np.ndarray):
                lips.stream.push(np.stack([resize(f, face_tracks.SIDE, face_tracks.SIDE) for f in chunk]))
            else:
                lips.stream.push(resized(chunk))
        return _arrays([lips])


class _Sync:
    """A protocol: which tracks count, and how a clip's tracks become one value."""

    protocol: str
    features: str
    longer_than = 0  # frames
    average = False  # over tracks, instead of taking the longest
    default = False
    summary: str
    source = "Chung and Zisserman 2016; syncnet_python"
    code_modules = ("bench.metrics.sync",)

    def __init__(self) -> None:
        uses_tracks = self.features == "syncnet_tracks"
        self.spec = MetricSpec(
            id=f"sync/{self.protocol}",
            version="1",
            kind="clip",
            columns=(
                Column("sync_c", "Sync-C", "higher"),
                Column("sync_d", "Sync-D", "lower"),
                Column("offset", "AV offset", "none", "frames", digits=1),
                Column("sync_d0", "Sync-D@0", "lower"),
                Column("n_tracks", "tracks", "none", digits=1),
                Column("n_windows", "windows", "none", digits=0),
                Column("unreliable", "unreliable", "none", digits=2),
            ),
            domains=("real",),
            needs=("audio",),
            features=(self.features, *((DETECTIONS,) if uses_tracks else ())),
            params={"longer_than": self.longer_than, "tracks": "mean" if self.average else "longest"},
            weights=(ref("syncnet_v2"), *((ref("sfd_face"),) if uses_tracks else ())),
            default=self.default,
            summary=self.summary,
            source=self.source,
        )

    def score(self, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
        """Return Sync-C, Sync-D, the offset and Sync-D at lag 0.

        `unreliable` is 1 with fewer than 50 windows or with the best lag at the border of the search; the numbers
        are then reported all the same.

        Raises:
            Unscored: no audio, silence, no face track that is long enough, or missing weights.
        """
        found = clip.features(self.spec.features[0])
        frames = found["frames"]
        counted = np.flatnonzero(frames > self.longer_than)
        if not len(counted):
            raise Unscored(
                Reason.TOO_SHORT if clip.frames <= self.longer_than else Reason.NO_FACE,
                f"the longest face track has {frames.max()} frames; more than {self.longer_than} are needed"
                " (sync/short takes 51)",
            )
        chosen = counted if self.average else counted[[frames[counted].argmax()]]
        flagged = found["at_border"][chosen] | (found["windows"][chosen] < FEW_WINDOWS)
        return {
            "sync_c": float(found["confidence"][chosen].mean()),
            "sync_d": float(found["distance"][chosen].mean()),
            "offset": float(found["offset"][chosen].mean()),
            "sync_d0": float(found["distance_at_zero"][chosen].mean()),
            "n_tracks": float(len(counted)),
            "n_windows": float(found["windows"][chosen].sum()),
            "unreliable": float(flagged.mean()),
            "n_frames": float(frames[chosen].sum()),
            "coverage": float(min(1.0, frames[chosen].sum() / clip.frames)),
        }


class LongestTrack(_Sync):
    """Sync-C/D of the longest face track, the default."""

    protocol, features, longer_than, default = "longest_track", "syncnet_tracks", 100, True
    summary = "SyncNet confidence and distance of the longest face track of more than 100 frames."


class Wav2LipReal(_Sync):
    """Sync-C/D averaged over all tracks, as Wav2Lip's evaluation of real videos does."""

    protocol, features, longer_than, average = "wav2lip_real", "syncnet_tracks", 100, True
    summary = "As sync/longest_track, but the mean over all of a clip's tracks."
    source = "Prajwal et al. 2020 (Wav2Lip), evaluation/scores_LSE, calculate_scores_real_videos"


class Short(_Sync):
    """Sync-C/D with tracks of 51 frames and more."""

    protocol, features, longer_than = "short", "syncnet_tracks", SHORTEST_TRACK
    summary = "As sync/longest_track, but tracks of more than 50 frames count; not comparable with it."
    source = "LatentSync and MoChaBench evaluations (min_track 50)"


class Precropped(_Sync):
    """Sync-C/D of the whole frame, without face detection."""

    protocol, features = "precropped224", "syncnet_frames"
    summary = "SyncNet on the whole frame squashed to 224 pixels; for clips that are mouth crops already."
    source = "Prajwal et al. 2020 (Wav2Lip), evaluation/scores_LSE, calculate_scores_LRS"


METRICS: tuple[type, ...] = with_bf16(LongestTrack, Wav2LipReal, Short, Precropped)
EXTRACTORS: tuple[type, ...] = with_bf16(Faces, TrackSync, FrameSync)
