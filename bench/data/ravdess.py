"""RAVDESS, audio-visual speech: 24 actors, two sentences, eight acted emotions.

Livingstone and Russo, PLoS ONE 13(5): e0196391, 2018. File names are seven two-digit parts,
modality-channel-emotion-intensity-statement-repetition-actor.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bench.data.candidates import Box, Candidate
from bench.data.selection import SEED, group_order, round_robin

NAME = "ravdess"
ACTORS = tuple(f"{number:02d}" for number in range(1, 25))
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")

_FILE = re.compile(
    r"^(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])\.(mp4|wav)$", re.IGNORECASE
)
_FOLDER = re.compile(r"Actor_(\d\d)$")
_URL = "https://zenodo.org/records/1188976/files/{archive}?download=1"


def archive(actor: str) -> str:
    """Return the name of the published zip with an actor's audio-visual speech."""
    return f"Video_Speech_Actor_{actor}.zip"


def archive_url(actor: str) -> str:
    """Return where that zip is published."""
    return _URL.format(archive=archive(actor))


def emotion(clip_id: str) -> str:
    """Return the emotion's two digits."""
    return clip_id.split("-")[2]


def actor(clip_id: str) -> str:
    """Return the actor's two digits."""
    return clip_id.split("-")[6]


def sex(actor: str) -> str:
    """Return `male` (odd actors) or `female`."""
    return "male" if int(actor) % 2 else "female"


def clip_ids(actors: Iterable[str] = ACTORS) -> dict[str, list[str]]:
    """Return the names of all audio-visual speech clips by actor: 60 each. Neutral is never strong."""
    return {
        a: [
            f"01-01-{e:02d}-{i:02d}-{s:02d}-{r:02d}-{a}"
            for e in range(1, 9)
            for i in (1, 2)
            if not (e == 1 and i == 2)
            for s in (1, 2)
            for r in (1, 2)
        ]
        for a in actors
    }


def rejection(name: str, folder: str = "") -> str | None:
    """Return why a file name is no audio-visual speech clip, or None if it is one.

    Args:
        name: file name.
        folder: the folder it lies in; when it names an actor, that has to be the clip's.
    """
    match = _FILE.match(name)
    if match is None:
        return "not a RAVDESS name"
    modality, channel, feeling, intensity, _, _, actor_digits, suffix = match.groups()
    if feeling == "01" and intensity == "02":
        return "neutral is never strong"
    if (modality, channel, suffix.lower()) != ("01", "01", "mp4"):
        return "not audio-visual speech"
    named = _FOLDER.search(folder)
    if named and named[1] != actor_digits:
        return f"actor {actor_digits} in folder {folder}"
    return None


def candidate(clip_id: str) -> Candidate:
    """Return a clip as a candidate: the whole file, cropped around the face."""
    return Candidate(
        clip_id, actor(clip_id), archive(actor(clip_id)), box=Box("face"), url=archive_url(actor(clip_id))
    )


def draw(count: int, actors: int | None = None) -> list[str]:
    """Return a test list: actors take turns, emotions are balanced.

    Args:
        count: clips.
        actors: None for all; 2 takes the first odd (male) and the first even (female) actor in group order.
    """
    order = group_order(NAME, ACTORS)
    if actors == 2:
        firsts = [next(a for a in order if sex(a) == s) for s in ("male", "female")]
        order = sorted(firsts, key=order.index)
    return round_robin(NAME, clip_ids(order), emotion, count, order)


_LARGEST = 200 * 2**20
"""Bytes; the published clips of four seconds have some five million."""


class Place(NamedTuple):
    """Where a clip is: a file, or a member of a zip; `size` in bytes."""

    path: Path
    member: str
    size: int


class Files:
    """The clips in a folder of published zips, of unpacked ones, or of both.

    Args:
        root: searched with all sub-folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[str, Place] = {}
        self.refused: list[tuple[str, str]] = []
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() == ".zip" and path.is_file():
                self._scan_zip(path)
            elif path.suffix.lower() == ".mp4" and path.is_file():
                self._add(path.name, path.parent.name, Place(path, "", path.stat().st_size))

    def _scan_zip(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as zipped:
                members = zipped.infolist()
        except (zipfile.BadZipFile, OSError) as error:
            self.refused.append((path.name, f"not a readable zip: {error}"))
            return
        for member in members:
            name = PurePosixPath(member.filename)
            if member.is_dir() or name.suffix.lower() != ".mp4":
                continue
            if name.is_absolute() or ".." in name.parts or (member.external_attr >> 28) == 0xA:
                self.refused.append((f"{path.name}:{member.filename}", "unsafe path"))
                continue
            if member.file_size > _LARGEST:
                self.refused.append((f"{path.name}:{member.filename}", "far larger than any clip"))
                continue
            self._add(name.name, name.parent.name or path.stem, Place(path, member.filename, member.file_size))

    def _add(self, name: str, folder: str, place: Place) -> None:
        reason = rejection(name, folder)
        if reason is None:
            self.found.setdefault(Path(name).stem, place)
        elif reason != "not audio-visual speech":
            self.refused.append((f"{place.path.name}{':' if place.member else ''}{place.member}", reason))

    def open(self, clip_id: str, scratch: Path) -> Path | None:
        """Return a clip's file, unpacked into `scratch` if need be; None when it is not there."""
        place = self.found.get(clip_id)
        if place is None:
            return None
        if not place.member:
            return place.path
        target = scratch / f"{clip_id}.mp4"
        with zipfile.ZipFile(place.path) as zipped, zipped.open(place.member) as source, target.open("wb") as copy:
            while block := source.read(1 << 20):
                copy.write(block)
        return target


def header(name: str, count: int, rule: str) -> dict[str, object]:
    """Return the first line of a frozen list."""
    return {"list": name, "dataset": NAME, "count": count, "seed": SEED, "rule": rule, "state": "annotations"}


def entries(ids: Iterable[str]) -> Iterator[dict[str, object]]:
    """Yield the lines of a frozen list."""
    for rank, clip_id in enumerate(ids, 1):
        yield {"rank": rank, "clip_id": clip_id, "identity": actor(clip_id)}
