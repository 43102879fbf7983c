"""Declared data sets: `datasets/<name>/dataset.toml` and the frozen lists beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.core.declaration import read, read_json_lines
from bench.core.errors import UsageError, did_you_mean
from bench.core.registry import UnknownName
from bench.core.resources import data_folder
from bench.core.spec import Domain

FILE = "dataset.toml"
MAIN = "test"


@dataclass(frozen=True, slots=True)
class Subset:
    """A test list.

    Attributes:
        count: clips it asks for.
        rule: how it is drawn, in one sentence.
        seconds: longest clip used; 0 is the whole clip.
        protocol: `self`: the clip drives its own first frame. `cross`: another identity's clip drives it.
    """

    count: int
    rule: str
    seconds: float = 0.0
    protocol: Literal["self", "cross"] = "self"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as its folder declares it.

    Attributes:
        name: what follows `--split`.
        title, homepage, citation: of the owners.
        licence: in a few words.
        terms: what a user has to accept, printed before anything is fetched.
        source: what to give with `--from`, in words.
        domain: `real`.
        sound: clips have driving speech.
        fps, size: normalised frame rate and side in pixels.
        min_frames: shortest usable clip at 25 fps.
        download: whether `bench prepare` can fetch it by itself: `yes`, `youtube` (needs yt-dlp) or `no`.
        crop: how the square is chosen, in words.
        shots: clips come out of longer videos, so shot cuts, still and black pictures, a change of person, a
            head turned away and pauses in the speech are looked for.
        identities: how two clips are known to show different people: by the owners' `labels`, or by `faces`.
        faces: exactly one face is required, where a face finder is installed.
        sync: `require` a small offset of sound and lips, `report` it, or `no`; where SyncNet is installed.
        subsets: lists by name; `test` is the main one.
        notes: sentences a report prints beside numbers from this set.
    """

    name: str
    title: str
    homepage: str
    citation: str
    licence: str
    terms: str
    source: str
    crop: str
    subsets: Mapping[str, Subset]
    domain: Domain = "real"
    sound: bool = True
    shots: bool = True
    identities: Literal["labels", "faces"] = "labels"
    faces: bool = True
    sync: Literal["require", "report", "no"] = "require"
    fps: float = 25.0
    size: int = 512
    min_frames: int = 50
    download: Literal["yes", "youtube", "no"] = "no"
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if MAIN not in self.subsets:
            raise ValueError(f"subsets.{MAIN} is missing")


@dataclass(frozen=True, slots=True)
class FrozenList:
    """A list of clips in rank order.

    Attributes:
        header: how it was made; `state` is `annotations` (drawn, media not looked at), `verified`, or `rule`
            (not drawn yet: needs annotations that may not be shipped).
        entries: one mapping per clip with at least `rank`, `clip_id` and `identity`.
    """

    header: Mapping[str, Any]
    entries: tuple[Mapping[str, Any], ...]


def names() -> list[str]:
    """Return the declared data sets."""
    return sorted(path.parent.name for path in data_folder("datasets").glob(f"*/{FILE}"))


def declared(name: str) -> Dataset:
    """Return a data set's declaration.

    Raises:
        UnknownName: there is none of that name.
        UsageError: the file breaks the schema.
    """
    if name not in names():
        raise UnknownName("split", name, [*names(), "synthetic", "synthetic-ci", "synthetic-val", "folder:PATH"])
    return read(data_folder("datasets") / name / FILE, Dataset)


def subset_of(dataset: Dataset, name: str | None) -> tuple[str, Subset]:
    """Return a subset by name; None is the main one.

    Raises:
        UsageError: the data set has no such subset.
    """
    wanted = name or MAIN
    if wanted not in dataset.subsets:
        raise UsageError(
            f"Data set '{dataset.name}' has no subset '{wanted}'.{did_you_mean(wanted, list(dataset.subsets))}",
            f"Known: {', '.join(dataset.subsets)}, or a number of samples.",
        )
    return wanted, dataset.subsets[wanted]


def shipped_list(dataset: str, subset: str) -> FrozenList | None:
    """Return the list frozen in the repository, or None."""
    return read_list(data_folder("datasets") / dataset / "splits" / f"{subset}.jsonl")


def read_list(path: Path) -> FrozenList | None:
    """Return a list from a file of JSON lines (header first), or None when there is no file.

    Raises:
        UsageError: it is damaged.
    """
    if not path.exists():
        return None
    lines = read_json_lines(path, dict[str, Any])
    if not lines or not all(isinstance(line.get("clip_id"), str) for line in lines[1:]):
        raise UsageError(f"{path} is not a list: every line after the first needs a clip_id.")
    return FrozenList(lines[0], lines[1:])


def render_list(frozen: FrozenList) -> bytes:
    """Return the file of a list."""
    lines = [frozen.header, *frozen.entries]
    return "".join(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in lines).encode(
        "utf-8", "backslashreplace"
    )
