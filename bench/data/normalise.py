"""From one candidate's media to the normalised files of a clip, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from bench.core.keys import file_digest
from bench.core.spec import SAMPLES_PER_FRAME
from bench.data.candidates import BadAnnotation, Candidate, Mismatch, Pixels, centre_square, face_square
from bench.data.declared import Dataset

VERSION = "prepare/3"
FILES = {
    "video": "video.mp4",
    "audio": "audio.wav",
    "image": "ref.png",
    "reference": "reference.mp4",
    "identity": "identity.npy",
}
"""What a clip's folder may hold.

`reference` is the ground truth: the decoded original, cut and cropped, without loss, so that no metric compares
with our encoder; `video` shows the same, as methods and browsers read it. `identity` is the clip's mean face
embedding: biometric data, deleted with the clip.
"""

State = Literal["ok", "dead", "blocked", "retry", "bad-annotation", "bad-media", "filtered", "mismatch"]


class Refused(Exception):
    """A candidate that gives no clip.

    Args:
        state: what kind of refusal; `retry` and `blocked` are tried again another time.
        reason: category of the account, e.g. `no face`.
        detail: numbers or words.
    """

    def __init__(self, state: State, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.state, self.reason, self.detail = state, reason, detail


@dataclass(frozen=True, slots=True)
class Media:
    """The source files of a candidate on this machine.

    Attributes:
        video: a video file, or None when there are pictures.
        pictures: numbered pictures in order.
        temporary: remove the video when the candidate is settled.
        mirror: the file is already cut by somebody else: take all of it, ignore times and box.
        warnings: for provenance.
    """

    video: Path | None = None
    pictures: tuple[Path, ...] = ()
    temporary: bool = False
    mirror: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tools:
    """Which optional networks a preparation uses. One list never mixes clips made with and without.

    Attributes:
        faces, identity, speech, sync: MediaPipe, ArcFace, WebRTC's voice activity detector, SyncNet.
        needs: what an absent one needs, by the name of its attribute.
    """

    faces: bool = False
    identity: bool = False
    speech: bool = False
    sync: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)

    def present(self) -> list[str]:
        """Return the names of those that are used."""
        return [name for name in ("faces", "identity", "speech", "sync") if getattr(self, name)]

    def lacking(self, filter_name: str) -> str:
        """Return why a filter was not applied, and what to type where that helps."""
        from bench.data.checks import MUSIC, SYNC, TOOL_OF

        if filter_name == MUSIC:
            return "bench has no music detector; only the owners' labels speak of music"
        if filter_name == SYNC and self.sync:
            return "SyncNet found no face track of more than 50 frames in some clips"
        return self.needs.get(TOOL_OF[filter_name]) or "its network was not here when the clip was made"


@dataclass(frozen=True, slots=True)
class Job:
    """One candidate with its media, as sent to a worker process.

    Attributes:
        dataset, candidate, media, tools: what to make of what.
        seconds: longest clip; 0 is the whole of it.
        root: folder of the data set.
        request: digest of everything asked; another one means that the clip has to be made again.
    """

    dataset: Dataset
    seconds: float
    candidate: Candidate
    media: Media
    root: Path
    tools: Tools
    request: str


def make_clip(job: Job, work: Path) -> dict[str, Any]:
    """Write a candidate's files into `work` and return its provenance.

    Raises:
        Refused: with the state of the ledger.
    """
    import numpy as np

    from bench.data import checks
    from bench.media.decode import chunks
    from bench.media.encode import write_clip, write_image, write_wav
    from bench.media.errors import DecodeError, EncodeError

    dataset, candidate = job.dataset, job.candidate
    findings: list[checks.Finding] = []
    try:
        raw = _from_pictures(job) if job.media.pictures else _from_video(job, findings)
        pictures = checks.PictureCheck()
        frames = list(pictures.watch(raw.frames))
        count = len(frames)
        if raw.sound is not None:
            count = min(count, len(raw.sound) // SAMPLES_PER_FRAME)
        wanted = int(raw.seconds * dataset.fps) if raw.seconds else 0
        findings.append(checks.check_length(count, wanted, dataset.min_frames))
        if raw.sound is not None:
            raw.sound = raw.sound[: count * SAMPLES_PER_FRAME]
            findings += checks.check_sound(raw.sound)
        if dataset.shots:
            findings += pictures.findings()
        _refuse(findings)
        frames = frames[:count]
        findings += _face_findings(job, frames)
        _refuse(findings)
        findings += _speech_findings(job, raw.sound)
        _refuse(findings)
        findings += _person(job, frames, work)
        _refuse(findings)
        write_clip(work / FILES["video"], frames, dataset.fps)
        write_clip(work / FILES["reference"], frames, dataset.fps, lossless=True)
        write_image(work / FILES["image"], frames[0])
        if raw.sound is not None:
            write_wav(work / FILES["audio"], raw.sound)
        if dataset.sync != "no" and raw.sound is not None:
            findings += _sync(job, frames, raw.sound, work)
            if dataset.sync == "require":
                _refuse(findings)
        shown = sha256()
        for chunk in chunks(work / FILES["reference"]):
            shown.update(np.ascontiguousarray(chunk).tobytes())
    except DecodeError as error:
        raise Refused("bad-media", "does not decode", error.message) from error
    except EncodeError as error:
        raise Refused("bad-media", "no picture", error.message) from error
    except BadAnnotation as error:
        raise Refused("bad-annotation", "bad annotation", str(error)) from error
    except Mismatch as error:
        raise Refused("mismatch", "other size or rate than annotated", str(error)) from error
    files = {k: work / name for k, name in FILES.items() if (work / name).is_file()}
    return {
        "frames": count,
        "audio_samples": None if raw.sound is None else count * SAMPLES_PER_FRAME,
        "digests": {k: file_digest(p) for k, p in files.items()},
        "sizes": {k: p.stat().st_size for k, p in files.items()},
        "frames_sha256": shown.hexdigest(),
        "pcm_sha256": None if raw.sound is None else sha256(raw.sound.tobytes()).hexdigest(),
        "native": raw.native,
        "cut": {"start": raw.start, "seconds": raw.seconds, "frames": candidate.frames},
        "crop": {"box": raw.box, "rule": raw.rule},
        "url": candidate.url,
        "filters": [{"name": f.name, "value": f.value, "passed": f.passed} for f in findings],
        "warnings": list(job.media.warnings),
        "licence": dataset.licence,
        "version": VERSION,
    }


def intact(root: Path, folder: str, clip: Mapping[str, Any]) -> bool:
    """Return whether a clip's files are there with their sizes.

    Args:
        root: of the data set.
        folder: the clip's, below `clips`.
        clip: what `make_clip` returned for it.
    """
    try:
        place = root / "clips" / folder
        return all((place / FILES[k]).stat().st_size == size for k, size in clip["sizes"].items())
    except (OSError, KeyError):
        return False


def _refuse(findings: Sequence[Any]) -> None:
    from bench.data.checks import failed

    wrong = failed(findings)
    if wrong is not None:
        raise Refused("filtered", wrong.reason, f"{wrong.name} = {wrong.value:.4g}")


@dataclass(slots=True)
class _Raw:
    """Cut and cropped material before filters."""

    frames: Iterable[Any]
    sound: Any
    native: Mapping[str, Any]
    start: float
    seconds: float
    box: Pixels | None
    rule: str


def _from_pictures(job: Job) -> _Raw:
    from bench.media.decode import read_image

    used = job.media.pictures[: round(job.seconds * job.dataset.fps)] if job.seconds else job.media.pictures
    frames = (read_image(path) for path in used)
    native = {"frames": len(job.media.pictures)}
    return _Raw(frames, None, native, 0.0, len(used) / job.dataset.fps, None, "owners'")


def _from_video(job: Job, findings: list[Any]) -> _Raw:
    from bench.data import checks
    from bench.media.cut import cut, describe, frame_span
    from bench.media.decode import read_audio

    candidate, dataset, media = job.candidate, job.dataset, job.media
    assert media.video is not None
    source = describe(media.video)
    findings += checks.check_source(
        source.fps, source.video_start, source.audio_start, source.audio_rate, dataset.sound
    )
    _refuse(findings)
    start, end = (0.0, source.duration) if media.mirror else (candidate.start, candidate.end or source.duration)
    if candidate.frames is not None and not media.mirror:
        if abs(source.fps - candidate.fps) > 0.05:
            raise Mismatch(f"{source.fps:.3f} fps, annotated was {candidate.fps:g}")
        try:
            start, end = frame_span(media.video, *candidate.frames)
        except IndexError as error:
            raise Mismatch(f"the video has no {error}") from error
    if job.seconds:
        end = min(end, start + job.seconds)
    if end > source.duration + 0.1:
        raise Mismatch(f"ends at {end:.2f} s, the video at {source.duration:.2f} s")
    box, rule = _box(job, source.width, source.height, start, end)
    sound = None
    if dataset.sound:
        sound = read_audio(media.video, start, end)
        assert sound is not None  # B2 made sure
    frames = cut(media.video, start, end, box, dataset.size, dataset.fps)
    native = {**asdict(source), "sha256": file_digest(media.video)}
    native = {k: (None if v != v else v) for k, v in native.items()}  # NaN has no place in JSON
    return _Raw(frames, sound, native, start, end - start, box, rule)


def _box(job: Job, width: int, height: int, start: float, end: float) -> tuple[Pixels, str]:
    """Return the square to cut and the rule that gave it."""
    from bench.media.cut import cut

    box = job.candidate.box
    if job.media.mirror or box is None or box.kind == "center":
        return centre_square(width, height), "mirror" if job.media.mirror else "center"
    if box.kind != "face":
        return box.resolve(width, height), box.kind
    if not job.tools.faces:
        return centre_square(width, height), "center"
    assert job.media.video is not None
    finder = _finder()
    faces = [finder.boxes(frame) for frame in cut(job.media.video, start, end, fps=5.0)]
    largest = [found[0] for found in faces if found]
    if not largest:
        raise Refused("filtered", "no face", "in no frame of the source")
    return face_square(largest, width, height), "face"


def _face_findings(job: Job, frames: Sequence[Any]) -> list[Any]:
    """C1 and C3; the head's pose only where clips come out of longer videos."""
    from bench.data import checks

    if not job.dataset.faces:
        return []
    if not job.tools.faces:
        names = (checks.FACE, checks.SIZE, checks.YAW)[: 3 if job.dataset.shots else 2]
        return [checks.not_applied(name) for name in names]
    looked, finder = checks.look_at(frames), _finder()
    found = checks.check_faces([finder.boxes(frame) for frame in looked], job.dataset.size)
    return [*found, checks.check_pose(finder.read(looked))] if job.dataset.shots else found


def _speech_findings(job: Job, sound: Any) -> list[Any]:
    """C4, where clips come out of longer videos."""
    from bench.data import checks

    if not job.dataset.shots or sound is None:
        return []
    speech = checks.check_speech(_speech(sound)) if job.tools.speech else checks.not_applied(checks.SPEECH)
    return [speech, checks.not_applied(checks.MUSIC)]


def _person(job: Job, frames: Sequence[Any], work: Path) -> list[Any]:
    """C2, where clips come out of longer videos; keeps the mean embedding for C6."""
    import numpy as np

    from bench.data import checks

    if not job.dataset.shots:
        return []
    if not job.tools.identity:
        return [checks.not_applied(checks.PERSON)]
    finding, mean = checks.check_person(_embedder().embeddings(checks.look_at(frames)))
    if mean is not None:
        np.save(work / FILES["identity"], mean)
    return [finding]


def _sync(job: Job, frames: Sequence[Any], sound: Any, work: Path) -> list[Any]:
    """C5."""
    from bench.data import checks
    from bench.media.encode import write_clip

    if not job.tools.sync:
        return [checks.not_applied(checks.SYNC)]
    clip = work / "sync.mp4"
    write_clip(clip, frames, job.dataset.fps, sound)
    try:
        return checks.check_sync(_checker().measure(clip))
    finally:
        clip.unlink()


@cache
def _finder() -> Any:
    from bench.data.checks import face_finder

    return face_finder()


@cache
def _embedder() -> Any:
    from bench.data.checks import face_embedder

    return face_embedder()


@cache
def _checker() -> Any:
    from bench.data.checks import sync_check

    return sync_check()


def _speech(sound: Any) -> float:
    from bench.data.checks import speech_share

    return speech_share(sound)


def available_tools(dataset: Dataset) -> Tools:
    """Return which optional networks a data set's filters want, and which of them are here."""
    from bench.data import checks

    wanted = {
        "faces": checks.face_finder if dataset.faces else None,
        "identity": checks.face_embedder if dataset.shots else None,
        "speech": checks.speech_detector if dataset.shots and dataset.sound else None,
        "sync": checks.sync_check if dataset.sync != "no" else None,
    }
    found = {name: look() for name, look in wanted.items() if look is not None}
    needs = {name: answer for name, answer in found.items() if isinstance(answer, str)}
    return Tools(**{name: True for name in found if name not in needs}, needs=needs)
