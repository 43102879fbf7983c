"""Training data: clips, what is computed from each once, and random windows of them.

A *clip source* is anything that lists clips; `Manifest` reads one from a JSONL file. A *preparation* (one for the
full model, one for the embedded model) turns a clip into features once and then cuts windows out of them, so
that no encoder runs inside the training loop. Every draw comes from a generator seeded by (seed, step, rank):
nothing but the step number is needed to continue exactly.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from actalker import media
from actalker.components import SAMPLE_RATE
from actalker.errors import InputError
from actalker.gates import Gates
from actalker.reading import foreign, parse_json
from actalker.training.features import FeatureStore, FileDigests

FPS = 25
Features = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """One talking clip at 25 fps.

    Attributes:
        frames: uint8 (T, height, width, 3), RGB.
        audio: int16 (T * 640,), 16 kHz mono.
        face: (T, 4) face boxes x0, y0, x1, y1 in pixels; None where the preparation finds the face itself.
        identity: who is shown; clips of one identity must not be split over training and validation.
        variant: 0 is the clip as it is; others are augmented copies, see `actalker.training.augment`.
    """

    frames: npt.NDArray[np.uint8]
    audio: npt.NDArray[np.int16]
    face: npt.NDArray[np.float32] | None
    identity: str
    variant: int = 0


class ClipSource(Protocol):
    """A list of clips; generators of synthetic data implement it too."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainingClip: ...


class Manifest:
    """Clips listed in a JSONL file, one object per line, paths relative to it.

    Keys of a line: either `clip`, a `.npz` with `frames`, `audio` and optionally `face_box`; or `video` and
    optionally `audio` (a sound file, default the video's own sound), `face` (one box for all frames, or one
    per frame) and `seconds` (how much of the beginning to use; default all of it). `identity` is optional
    (default the file's name).

    Raises:
        InputError: the file is missing or empty, or a line cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"no training manifest at {path}", "One clip per line; see: bench show doc training")
        self.root = path.parent
        self.entries = []
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            entry = parse_json(line, f"{path}:{number}", InputError)
            if not ({"clip", "video"} & set(entry)):
                raise InputError(f"{path}:{number} names neither a `clip` nor a `video`")
            for key in ("clip", "video", "audio"):
                if key in entry and not (isinstance(entry[key], str) and entry[key] and "\0" not in entry[key]):
                    raise InputError(f"{path}:{number}: {key} must be the name of a file")
            seconds = entry.get("seconds")
            if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < 1e6):
                raise InputError(f"{path}:{number}: seconds must be a number above 0")
            self.entries.append(entry)
        if not self.entries:
            raise InputError(f"{path} lists no clip")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> TrainingClip:
        entry = self.entries[index]
        path = self.root / (entry.get("clip") or entry["video"])
        if not path.is_file():
            raise InputError(f"the manifest lists {path}, which does not exist")
        with foreign(path, InputError):
            if "clip" in entry:
                with np.load(path, allow_pickle=False) as data:
                    face = data.get("face_box")
                    frames, audio = data["frames"], data["audio"]
            else:
                sound = self.root / entry["audio"] if "audio" in entry else path
                frames, audio = _read_files(path, sound, entry.get("seconds"))
                face = None
                if "face" in entry:
                    face = np.broadcast_to(np.asarray(entry["face"], np.float32), (len(frames), 4))
        return TrainingClip(frames, audio, face, str(entry.get("identity", path.stem)))

    def digest(self, index: int, files: FileDigests) -> str:
        """Content of a clip: its files' bytes and the face boxes given for it, not its place or name.

        Raises:
            InputError: a file does not exist.
        """
        entry = self.entries[index]
        parts = [
            json.dumps([sorted(set(entry) & {"clip", "video", "audio"}), entry.get("face"), entry.get("seconds")])
        ]
        for key in ("clip", "video", "audio"):
            if key in entry:
                parts.append(files.digest(self.root / entry[key]))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read_files(
    video: Path, sound: Path, seconds: float | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    """Frames at 25 fps of the first `seconds` and sound cut or padded to 640 samples per frame."""
    most = None if seconds is None else max(1, round(seconds * FPS))
    frames = np.stack(list(islice(media.video_frames(video, FPS), most)))
    wave = media.read_audio(sound)
    count = len(frames) * SAMPLE_RATE // FPS
    wave = np.pad(wave, (0, max(0, count - len(wave))))[:count]
    return frames, np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Window:
    """What one training sample consists of, batched (b clips, f frames).

    Attributes:
        clean: target latents (b, f, c, h, w).
        reference: reference latents the network sees, (b, f or 1, c, h, w).
        identity: identity embedding (b, e).
        audio: audio feature windows (b, f, w, l, k).
        expression: (b, f, d); reference_expression: (b, d).
        pose: (b, f, 6); reference_pose: (b, 6), as the motion projection takes them.
        location: face-location image (b, f or 1, 3, H, W) in [0, 1].
        face, mouth: 0/1 masks (b, 1, H, W).
        weight: loss weights (b, f, 1, h, w).
        time_ids: numbers added to the time embedding (b, n), or None for the model's own.
        sound: int16 samples of the window (b, n) at 16 kHz, for validation clips, or None.
    """

    clean: Tensor
    reference: Tensor
    identity: Tensor
    audio: Tensor
    expression: Tensor
    reference_expression: Tensor
    pose: Tensor
    reference_pose: Tensor
    location: Tensor
    face: Tensor
    mouth: Tensor
    weight: Tensor
    time_ids: Tensor | None = None
    sound: Tensor | None = None

    def to(self, device: torch.device) -> Window:
        """Move every tensor."""
        values: dict[str, Tensor | None] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {k: v.to(device, non_blocking=True) for k, v in values.items() if v is not None}
        return Window(**moved)


class Preparation(Protocol):
    """Turns clips into what the model is trained on.

    An attribute `key` (str) that names everything the features depend on besides the clip, such as the encoders'
    weights, keeps features of different models apart in one cache.
    """

    def prepare(self, clip: TrainingClip) -> Features:
        """Run every frozen encoder over a clip once. `frames` gives the number of frames as a 0-d tensor."""
        ...

    def window(
        self, features: Sequence[Features], frames: int, gates: Gates, generator: torch.Generator
    ) -> Window:
        """Cut one random window of `frames` frames, with a random reference, out of each clip."""
        ...


def step_generator(seed: int, step: int, rank: int, stream: int = 0) -> torch.Generator:
    """Return the generator of one optimiser step on one worker."""
    state = np.random.SeedSequence([seed, step, rank, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


class WindowSampler:
    """Random windows over prepared clips.

    Lengths and picture sizes are read once. A batch is drawn from clips of one picture size (`size` in the
    features), each size as often as it has clips.

    Args:
        features: one entry per clip.
        preparation: cuts the windows.
    """

    def __init__(self, features: Sequence[Features], preparation: Preparation) -> None:
        self.features = features
        self.preparation = preparation
        self.lengths = [int(f["frames"]) for f in features]
        self._sizes = [tuple(f["size"].tolist()[:2]) if "size" in f else () for f in features]
        self._eligible: dict[int, tuple[list[list[int]], list[int]]] = {}

    def draw(self, batch: int, frames: int, gates: Gates, generator: torch.Generator) -> Window:
        """Draw `batch` windows of `frames` frames, clips with replacement only when there are too few.

        Raises:
            InputError: no clip is long enough.
        """
        buckets, ends = self._buckets(frames)
        bucket = buckets[bisect.bisect_right(ends, int(torch.randint(ends[-1], (1,), generator=generator)))]
        chosen: list[int] = []
        while len(chosen) < batch:
            unused = set(chosen[len(chosen) - len(chosen) % len(bucket) :])
            clip = bucket[int(torch.randint(len(bucket), (1,), generator=generator))]
            if clip not in unused:
                chosen.append(clip)
        return self.preparation.window([self.features[i] for i in chosen], frames, gates, generator)

    def require(self, frames: int) -> None:
        """Say now whether windows of `frames` frames can be drawn.

        Raises:
            InputError: no clip is long enough.
        """
        self._buckets(frames)

    def _buckets(self, frames: int) -> tuple[list[list[int]], list[int]]:
        """Clips of at least `frames` frames by picture size, and how many lie in the buckets up to each."""
        if frames not in self._eligible:
            buckets: dict[tuple[int, ...], list[int]] = {}
            for i, length in enumerate(self.lengths):
                if length >= frames:
                    buckets.setdefault(self._sizes[i], []).append(i)
            if not buckets:
                raise InputError(
                    f"no training clip has {frames} frames",
                    "Use longer clips or a smaller `frames` in [[phases]].",
                )
            ends: list[int] = []
            for bucket in buckets.values():
                ends.append(len(bucket) + (ends[-1] if ends else 0))
            self._eligible[frames] = (list(buckets.values()), ends)
        return self._eligible[frames]


def prepare_all(
    source: ClipSource,
    preparation: Preparation,
    cache: Path | None = None,
    *,
    variants: int = 1,
    rank: int = 0,
    world: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Sequence[Features]:
    """Run the frozen encoders over every clip that the cache does not hold yet.

    Features are found by the content of the clip and by the preparation's `key`, so that a manifest may be
    sorted, shortened or extended.

    Args:
        source: the clips.
        preparation: runs the encoders.
        cache: folder that keeps the results, or None to keep them in memory.
        variants: copies of each clip; all but the first are augmented.
        rank, world: number of this worker and of all: each prepares its share, and all wait for each other.
        report: called with (done, total) of this worker's share before each clip that the cache does not hold.

    Returns:
        Features of every clip, variant after variant, read from the cache when they are looked at.
    """
    if cache is None:
        return [
            {k: v.contiguous() for k, v in preparation.prepare(_variant(source[i], variant)).items()}
            for variant in range(variants)
            for i in range(len(source))
        ]
    files = FileDigests(cache / "files.json")
    digest = getattr(source, "digest", None)
    if digest and world > 1:
        for i in range(rank, len(source), world):
            digest(i, files)
        files.exchange(world)
    contents = [digest(i, files) if digest else _content(source[i]) for i in range(len(source))]
    keys = [f"{content}.{variant}" for variant in range(variants) for content in contents]
    if rank == 0:
        files.save()
    kind = type(preparation)
    name = getattr(preparation, "key", "") or f"{kind.__module__}.{kind.__qualname__}"
    store = FeatureStore(cache / hashlib.sha256(name.encode()).hexdigest()[:16], keys)
    # By position: another worker may have written part of its share already, and what is missing differs then.
    mine = [i for i in store.missing() if i % world == rank]
    for done, i in enumerate(mine):
        report(done, len(mine))
        store.add(i, preparation.prepare(_variant(source[i % len(source)], i // len(source))))
    store.flush()
    if world > 1:
        torch.distributed.barrier()
        store.refresh()
    return store


def _variant(clip: TrainingClip, variant: int) -> TrainingClip:
    return replace(clip, variant=variant) if variant else clip


def _content(clip: TrainingClip) -> str:
    """Digest of a clip that comes from no file."""
    made = hashlib.sha256()
    for array in (clip.frames, clip.audio, clip.face):
        if array is not None:
            made.update(f"{array.shape}{array.dtype}".encode())
            made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()
