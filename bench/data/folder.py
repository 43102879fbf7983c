"""Samples out of any directory of talking videos, or of (image, audio[, video]) triplets named by stem."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.declaration import known_json
from bench.core.errors import BenchError, UsageError, unforeseen
from bench.core.keys import digest, file_digest
from bench.core.spec import SAMPLES_PER_FRAME, Rejected, Sample, Split
from bench.store.files import StoreFull, full_disk_explained, identity, write_bytes
from bench.store.home import is_store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"}
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
AUDIO_SUFFIXES = frozenset({".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus"})

SHORT_SIDE = 512
"""Larger pictures are scaled down until their shorter side has this many pixels."""

PROTOCOL = "folder/3: 25 fps, 16 kHz mono, short side <= 512, even sizes, whole frame, originals for references"
SAME_PICTURE_DB = 30.0
"""PSNR from which a triplet's picture counts as the first frame of its video, which then is ground truth."""

_KINDS = {
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(AUDIO_SUFFIXES, "audio"),
}
_FILES = {"image": "image.png", "audio": "audio.wav", "video": "video.mp4"}
_REFERENCE = "reference"
"""Name, before the original's suffix, of the ground truth: the user's own file, bit for bit."""


@dataclass(frozen=True, slots=True)
class _Item:
    """The source files of one sample-to-be; at least a video, or an image and a sound."""

    name: str
    image: Path | None
    audio: Path | None
    video: Path | None

    @property
    def sources(self) -> dict[str, Path]:
        given = {"image": self.image, "audio": self.audio, "video": self.video}
        return {role: path for role, path in given.items() if path is not None}


@dataclass(frozen=True, slots=True)
class _Normalised:
    """What `_normalise` made; stored as JSON beside the files.

    Attributes:
        frames: frames at 25 fps.
        digests: sha256 of the files, keyed `image`, `audio`, `video`.
        sizes: bytes of the files, to notice a damaged cache.
        is_reference: the video shows what a method is asked to make.
        duplicated, dropped: frames repeated and left out by the change to 25 fps.
        cut: frames at the end left out because the sound ends before.
        notes: what was chosen or changed in reading the files, in short phrases.
        reference: file name of the ground truth, empty when there is none.
        given, shown: width and height of what methods are given and of the original video.
    """

    frames: int
    digests: dict[str, str]
    sizes: dict[str, int]
    is_reference: bool
    duplicated: int
    dropped: int
    cut: int
    notes: tuple[str, ...] = ()
    reference: str = ""
    given: tuple[int, int] | None = None
    shown: tuple[int, int] | None = None


def load_folder(path: Path, cache: Path, progress: Callable[[int, int], None] | None = None) -> Split:
    """Return the samples of a directory, searched with all its sub-directories.

    Files of one stem in one directory belong together. A video alone is self-reenactment: its first frame is
    the reference picture, its own sound and frames drive, and it is the ground truth; a sound of the same
    stem replaces its own. An image with a sound (and perhaps a video to drive the face) is a triplet; it has
    a ground truth only if the image is the video's first frame. Every file that is not used is in `rejected`.

    Everything is normalised into `cache` once per content (25 fps, 16 kHz mono, shorter side at most 512, even
    sizes, no crop; exactly 640 samples of sound per frame), so methods see one canonical form.

    Args:
        path: the directory.
        cache: where normalised files are kept.
        progress: called with (done, total).

    Raises:
        UsageError: there is no such directory, or it cannot be listed.
        StoreFull: no space is left for the normalised files.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise UsageError(
            f"There is no folder {path}." if not path.exists() else f"{path} is a file, not a folder.",
            "Give a folder of videos: --split folder:PATH",
        )
    items, rejected = _find(path)
    ids = unique_ids([item.name for item in items])
    hashes = _SourceHashes(cache / "sources.json")
    samples: list[Sample] = []
    made: list[tuple[str, _Normalised]] = []
    for number, (item, sample_id) in enumerate(zip(items, ids, strict=True), start=1):
        try:
            digests = {role: hashes.of(source) for role, source in item.sources.items()}
            folder, result = _cached(item, digests, cache)
            samples.append(_sample(path, sample_id, folder, result))
            made.append((sample_id, result))
        except StoreFull:
            raise
        except BenchError as error:
            rejected.append(Rejected(_names(path, item), error.message))
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # one odd file must not end the command
            rejected.append(Rejected(_names(path, item), unforeseen(error)))
        if progress:
            progress(number, len(items))
    hashes.save()
    samples.sort(key=lambda s: s.id)
    rejected.sort(key=lambda r: r.item)
    notes = _notes(samples, made)
    if rejected:
        names = few([r.item for r in rejected])
        notes.append(f"{len(rejected)} not used: {names}. Reasons: bench show split folder:{path}")
    return Split(f"folder:{path}", "real", tuple(samples), tuple(rejected), tuple(notes))


def few(names: Sequence[str], count: int = 8) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def safe_id(text: str) -> str:
    """Return `text` as a sample id: letters, digits, `.`, `_` and `-`, at most 100 characters.

    A path separator becomes `.`. Where anything else had to change, six hex digits of the text's sha256 are
    added, so that different texts stay different and a text always gets the same id.
    """
    wanted = text.replace("/", ".")
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", wanted).lstrip(".-")[:90]
    if kept == wanted:
        return kept
    return f"{kept.strip('._-') or 'clip'}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}"


def unique_ids(names: Sequence[str]) -> list[str]:
    """Return one id per name, all different even on file systems that ignore case."""
    taken: set[str] = set()
    ids = []
    for name in names:
        candidate = safe_id(name)
        attempt = 0
        while candidate.lower() in taken:
            attempt += 1
            salted = f"{name}\0{attempt}".encode(errors="surrogatepass")
            candidate = f"{safe_id(name)}-{hashlib.sha256(salted).hexdigest()[:6]}"
        taken.add(candidate.lower())
        ids.append(candidate)
    return ids


def _find(root: Path) -> tuple[list[_Item], list[Rejected]]:
    """Group the files below `root` by directory and stem."""
    rejected: list[Rejected] = []
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in visible_files(root, rejected):
        kind = _KINDS.get(file.suffix.lower())
        name = str(file.relative_to(root))
        if kind is None:
            rejected.append(Rejected(name, f"not a video, picture or sound ({file.suffix or 'no suffix'})"))
        else:
            # A Mac writes an accent as a letter of its own; the names are the same to everybody.
            stem = unicodedata.normalize("NFC", str(file.relative_to(root).with_suffix("")))
            groups[stem][kind].append(file)
    items = []
    for name, kinds in sorted(groups.items()):
        videos, images, sounds = kinds["video"], kinds["image"], kinds["audio"]
        if len(videos) > 1 and not images and not sounds:
            items += [_Item(str(v.relative_to(root)), None, None, v) for v in videos]
            continue
        for extra in (*videos[1:], *images[1:], *sounds[1:]):
            kind = _KINDS[extra.suffix.lower()]
            rejected.append(
                Rejected(str(extra.relative_to(root)), f"{kinds[kind][0].name} of the same stem is used instead")
            )
        image, sound, video = (k[0] if k else None for k in (images, sounds, videos))
        if video is not None or (image is not None and sound is not None):
            items.append(_Item(name, image, sound, video))
        elif image is not None:
            reason = f"a picture without a sound named {name}.*{_other_case(groups, name, 'audio')}"
            rejected.append(Rejected(str(image.relative_to(root)), reason))
        elif sound is not None:
            reason = f"a sound without a picture named {name}.*{_other_case(groups, name, 'image')}"
            rejected.append(Rejected(str(sound.relative_to(root)), reason))
    return items, rejected


def _other_case(groups: Mapping[str, Mapping[str, list[Path]]], name: str, kind: str) -> str:
    """Say so when the partner is there but its name differs in upper and lower case."""
    same = (files[kind][0].name for other, files in groups.items() if other != name and files.get(kind))
    near = next((n for n in same if Path(n).stem.lower() == Path(name).name.lower()), None)
    return f" ({near} differs in upper and lower case)" if near else ""


def visible_files(root: Path, rejected: list[Rejected]) -> Iterator[Path]:
    """Yield every file below `root` in a fixed order; linked folders are followed, each folder is read once.

    Names that begin with a dot are passed over, and so are stores of results.

    Folders that cannot be listed, and what is no regular file, are added to `rejected`.

    Raises:
        UsageError: `root` itself cannot be listed.
    """

    def refuse(error: OSError) -> None:
        if Path(error.filename) == root:
            raise UsageError(
                f"Cannot list {root}: {(error.strerror or str(error)).lower()}.", "Check its permissions."
            )
        rejected.append(
            Rejected(str(Path(error.filename).relative_to(root)), f"cannot be listed: {error.strerror}")
        )

    seen: dict[tuple[int, int], str] = {}
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        here = Path(folder).stat()
        name = str(Path(folder).relative_to(root))
        first = seen.setdefault((here.st_dev, here.st_ino), name)
        if first != name:  # linked twice, or a link to a folder above
            rejected.append(Rejected(name, f"the same folder as {first}, which is read"))
            subfolders[:] = []
            continue
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and not is_store(Path(folder) / s))
        for file in (Path(folder) / name for name in sorted(names) if not name.startswith(".")):
            if file.is_file() or not file.exists():  # a link to nothing is told by whoever reads it
                yield file
            else:  # opening a pipe would wait for its writer for ever
                rejected.append(Rejected(str(file.relative_to(root)), "a pipe, a socket or a device, not a file"))


def _cached(item: _Item, digests: dict[str, str], cache: Path) -> tuple[Path, _Normalised]:
    key = digest([PROTOCOL, digests])
    folder = cache / key[:2] / key
    known = _read_result(folder)
    if known is not None:
        return folder, known
    work = cache / f".{key[:16]}.{uuid.uuid4().hex[:8]}"
    with full_disk_explained(folder):
        try:
            work.mkdir(parents=True)
            result = _normalise(item, work)
            (work / "result.json").write_text(json.dumps(asdict(result), indent=1))
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists() and _read_result(folder) is None:
                shutil.rmtree(folder)
            try:
                work.rename(folder)
            except OSError:
                if _read_result(folder) is None:  # unless another process was faster
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder, result


def _read_result(folder: Path) -> _Normalised | None:
    result = known_json(folder / "result.json", _Normalised)
    if result is None or Path(result.reference).name != result.reference:
        return None
    try:
        files = _FILES | {_REFERENCE: result.reference}
        whole = all((folder / files[role]).stat().st_size == size for role, size in result.sizes.items())
    except (OSError, KeyError):
        return None
    return result if whole else None


def _normalise(item: _Item, work: Path) -> _Normalised:
    """Write the canonical files of one item into `work`.

    Raises:
        DecodeError: a source cannot be used.
        InvalidClip: nothing is left, because the sound is shorter than a frame.
    """
    from bench.media.decode import chunks, read_image, resample_plan
    from bench.media.encode import write_clip, write_image, write_wav
    from bench.media.errors import InvalidClip
    from bench.media.probe import probe
    from bench.media.scale import Fit, within
    from bench.media.sound import read_sound

    heard = item.audio or item.video
    sound = None if heard is None else read_sound(heard)
    audio = None if sound is None else sound.samples
    read_notes = () if sound is None else sound.notes
    if item.audio is not None and audio is None:
        raise InvalidClip(f"{item.audio} has no audio stream.")
    shown = 0
    duplicated = dropped = 0
    if item.video is not None:
        plan = resample_plan(item.video)
        shown, duplicated, dropped = plan.frames, plan.duplicated, plan.dropped
    frames = shown
    if audio is not None:
        spoken = len(audio) // SAMPLES_PER_FRAME
        frames = min(shown, spoken) if item.video is not None else spoken
        if frames == 0:
            raise InvalidClip(f"{heard} holds less sound than one frame lasts ({len(audio) / 16:.0f} ms).")
        write_wav(work / _FILES["audio"], audio[: frames * SAMPLES_PER_FRAME])

    picture = None
    if item.image is not None:
        picture = read_image(item.image)
        picture = Fit(*within(picture.shape[1], picture.shape[0], SHORT_SIDE))(picture)
    is_reference = False
    if item.video is not None:
        native = probe(item.video)
        read_notes = (*native.notes, *read_notes)
        fit = Fit(*within(native.width, native.height, SHORT_SIDE))
        scaled = (fit(frame) for chunk in chunks(item.video, size=8) for frame in chunk)
        first = next(scaled)
        is_reference = picture is None or _psnr(picture, first) >= SAME_PICTURE_DB
        picture = first if picture is None else picture

        def kept() -> Iterator[npt.NDArray[np.uint8]]:
            yield first
            for index, frame in enumerate(scaled, start=1):  # to the end, so that damage anywhere is found
                if index < frames:
                    yield frame

        write_clip(
            work / _FILES["video"], kept(), audio=None if audio is None else audio[: frames * SAMPLES_PER_FRAME]
        )
    assert picture is not None
    write_image(work / _FILES["image"], picture)
    reference = ""
    if item.video is not None and is_reference:
        reference = _REFERENCE + item.video.suffix.lower()
        _keep(item.video, work / reference)
    made = {role: work / name for role, name in _FILES.items() if (work / name).is_file()}
    if reference:
        made[_REFERENCE] = work / reference
    return _Normalised(
        frames=frames,
        digests={role: file_digest(file) for role, file in made.items()},
        sizes={role: file.stat().st_size for role, file in made.items()},
        is_reference=is_reference,
        duplicated=duplicated,
        dropped=dropped,
        cut=max(0, shown - frames),
        notes=read_notes,
        reference=reference,
        given=None if item.video is None else fit.size,
        shown=None if item.video is None else (native.width, native.height),
    )


def _keep(source: Path, target: Path) -> None:
    """Let the store hold a user's file: by a second name where the file system can, else as a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    import numpy as np

    if a.shape != b.shape:
        return 0.0
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _sample(root: Path, sample_id: str, folder: Path, result: _Normalised) -> Sample:
    files = {role: folder / name for role, name in _FILES.items() if role in result.digests}
    digests = dict(result.digests)
    if result.reference and result.cut:  # its last frames do not count
        digests[_REFERENCE] = digest([digests[_REFERENCE], result.frames])
    given = (result.given[0], result.given[1]) if result.given else None
    return Sample(
        dataset="folder",
        split=safe_id(root.resolve().name),
        id=sample_id,
        identity=sample_id,
        image=files["image"],
        audio=files.get("audio"),
        video=files.get("video"),
        reference=folder / result.reference if result.reference else None,
        frames=result.frames,
        digests=digests,
        given=given if result.reference and given != tuple(result.shown or ()) else None,
    )


def _names(root: Path, item: _Item) -> str:
    return " + ".join(str(source.relative_to(root)) for source in item.sources.values())


def _notes(samples: Sequence[Sample], made: Sequence[tuple[str, _Normalised]]) -> list[str]:
    notes = ["Who is shown is not known: every sample counts as its own identity."]
    silent = [s.id for s in samples if s.audio is None]
    if silent:
        notes.append(f"{len(silent)} without sound, usable for gate visual only: {few(silent)}.")
    unpaired = [s.id for s in samples if s.reference is None]
    if unpaired:
        notes.append(f"{len(unpaired)} without ground truth: {few(unpaired)}.")
    retimed = [(name, r) for name, r in made if r.duplicated or r.dropped]
    if retimed:
        each = [f"{name} ({r.duplicated} repeated, {r.dropped} dropped)" for name, r in sorted(retimed, key=str)]
        notes.append(f"{len(retimed)} brought to 25 fps by repeating or dropping frames: {few(each)}.")
    cut = [(name, r.cut) for name, r in made if r.cut]
    if cut:
        each = [f"{name} ({count} frames)" for name, count in sorted(cut)]
        notes.append(f"{len(cut)} cut at the end because the sound is shorter than the picture: {few(each)}.")
    unusual = [f"{name} ({'; '.join(result.notes)})" for name, result in sorted(made, key=str) if result.notes]
    if unusual:
        notes.append(f"{len(unusual)} read with a change or a choice: {few(unusual)}.")
    return notes


class _SourceHashes:
    """sha256 of source files, remembered so that unchanged files are not read again."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._changed = False
        self._known = known_json(index, dict[str, list[Any]]) or {}

    def of(self, path: Path) -> str:
        """Return the file's sha256.

        Raises:
            UsageError: it cannot be read.
        """
        name = str(path.resolve())
        try:
            status = path.stat()
            stamp = list(identity(status))
            known = self._known.get(name)
            if known is None or known[:-1] != stamp:
                known = [*stamp, file_digest(path)]
                self._known[name] = known
                self._changed = True
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
        return str(known[-1])

    def save(self) -> None:
        if self._changed:
            write_bytes(self._index, json.dumps(self._known, indent=0, sort_keys=True).encode())
