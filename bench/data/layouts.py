"""Where the media of each data set's clips is, in what its owners publish or in a folder the user has."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.errors import UsageError
from bench.core.printable import printable
from bench.data import celebv_hq, hdtf, ravdess, vfhq
from bench.data.candidates import Candidate
from bench.data.fetch import Pace, archive_complete, fetch_file, fetch_video, remember_digest
from bench.data.normalise import Media, Refused
from bench.data.preparation import DOWNLOAD
from bench.data.selection import clip_order, grouped

Groups = list[list[Candidate]]


class Ravdess:
    """Zips of the Zenodo record, or the folders unpacked from them.

    Args:
        source: what the user has, or None to download.
        cache: where downloads go.
    """

    def __init__(self, source: Path | None, cache: Path) -> None:
        self._download = source is None
        self._root = source or cache
        self._cache = cache
        self._root.mkdir(parents=True, exist_ok=True)
        self._files = ravdess.Files(self._root)
        self.refused = self._files.refused

    def groups(self, entries: Sequence[Mapping[str, object]]) -> Groups:
        """Return the frozen list's candidates, one per group."""
        return [[ravdess.candidate(str(entry["clip_id"]))] for entry in entries]

    def stamp(self, candidate: Candidate) -> Any:
        """See `Layout.stamp`."""
        place = self._files.found.get(candidate.clip_id)
        return place.size if place is not None else DOWNLOAD if self._download else None

    def media(self, candidate: Candidate, scratch: Path) -> Media:
        """Return the clip's file, fetching its actor's zip if downloads are on."""
        if candidate.clip_id not in self._files.found and self._download:
            archive = self._root / candidate.source_id
            if not archive_complete(archive):
                print(printable(f"fetching {candidate.url}"), file=sys.stderr)
                fetch_file(candidate.url, archive)
            remember_digest(self._cache / "dataset.lock", archive.name, archive)
            self._files = ravdess.Files(self._root)
        try:
            path = self._files.open(candidate.clip_id, scratch)
        except Exception as error:  # zipfile raises many kinds for damaged members
            raise Refused("bad-media", "damaged archive", str(error)) from error
        if path is None:
            raise Refused("dead", "unavailable", f"{candidate.source_id} or its clip is not in {self._root}")
        return Media(path, temporary=path.parent == scratch)


class YouTube:
    """Videos named by their YouTube id, in the user's folder or fetched with yt-dlp.

    A folder of clips cut by somebody else (named by clip id) is accepted where it holds no source video at
    all: the two kinds are never mixed in one list.

    Args:
        source: folder with the annotations and perhaps `raw/` or videos.
        cache: where downloads go.
        candidates: all clips of the annotations.
        download: fetch what is not in the folder.
    """

    def __init__(self, source: Path, cache: Path, candidates: Sequence[Candidate], download: bool) -> None:
        self._source, self._cache, self._download = source, cache, download
        self._pace = Pace()
        self._gone: dict[str, Refused] = {}
        files = {p.stem: p for p in sorted(source.rglob("*")) if p.suffix.lower() in (".mp4", ".mkv", ".webm")}
        own = {c.source_id for c in candidates if c.source_id}
        self._raw = {stem: path for stem, path in files.items() if stem in own}
        self._cut = {} if self._raw else {c.clip_id: files[c.clip_id] for c in candidates if c.clip_id in files}
        self.refused = [(c.clip_id, c.problem) for c in candidates if c.problem]

    @property
    def mirror(self) -> bool:
        """The folder holds clips that somebody else cut."""
        return bool(self._cut)

    def stamp(self, candidate: Candidate) -> Any:
        """See `Layout.stamp`."""
        path = self._cut.get(candidate.clip_id) if self._cut else self._raw.get(candidate.source_id)
        if path is not None:
            return [path.name, path.stat().st_size, self.mirror]
        return DOWNLOAD if self._download and not self._cut else None

    def media(self, candidate: Candidate, scratch: Path) -> Media:
        """Return the candidate's source video; each is asked for once, however many clips it holds."""
        if self._cut:
            path = self._cut.get(candidate.clip_id)
            if path is None:
                raise Refused("dead", "unavailable", "not in the folder of cut clips")
            return Media(path, mirror=True, warnings=("source=mirror",))
        path = self._raw.get(candidate.source_id)
        if path is not None:
            return Media(path)
        if not self._download:
            raise Refused("dead", "unavailable", f"{candidate.source_id} is not in {self._source}")
        target = self._cache / "raw" / f"{candidate.source_id}.mp4"
        if target.is_file():  # for another clip, or by a run that was stopped
            return Media(target, temporary=True)
        if candidate.source_id in self._gone:
            raise self._gone[candidate.source_id]
        if self._pace.exhausted:
            raise Refused("retry", "unavailable", "not asked: the rate limit was reached")
        print(printable(f"fetching {candidate.url}"), file=sys.stderr)
        outcome, detail = fetch_video(candidate.url, target, candidate.height)
        self._pace.note(outcome)
        if outcome != "ok":
            self._gone[candidate.source_id] = Refused(outcome, "unavailable", detail)
            raise self._gone[candidate.source_id]
        return Media(target, temporary=True)


class VfhqTest:
    """The frame folders of the VFHQ test pack."""

    def __init__(self, source: Path) -> None:
        clips, self.refused = vfhq.find_test_clips(source)
        if not clips:
            raise UsageError(
                f"There is no VFHQ test clip below {source}.",
                "Give the unpacked VFHQ-Test folder, whose folders are called Clip+<id>+P<n>+C<n>+F<a>-<b>.",
            )
        self._clips = {clip.clip_id: clip for clip in clips}

    def groups(self) -> Groups:
        """Return every clip, sorted by name, each in a group of its own."""
        return [
            [Candidate(name, vfhq.parse_name(name).video, vfhq.parse_name(name).video)] for name in self._clips
        ]

    def stamp(self, candidate: Candidate) -> Any:
        """See `Layout.stamp`."""
        clip = self._clips.get(candidate.clip_id)
        return None if clip is None else [[p.name, p.stat().st_size] for p in clip.files]

    def media(self, candidate: Candidate, scratch: Path) -> Media:
        """Return the clip's pictures."""
        clip = self._clips.get(candidate.clip_id)
        if clip is None:
            raise Refused("dead", "unavailable", "not in the folder")
        return Media(pictures=clip.files, warnings=clip.warnings)


def celebv_groups(candidates: Sequence[Candidate]) -> Groups:
    """Return the usable clips, one group per source video."""
    usable = [c for c in candidates if not c.problem]
    return grouped(celebv_hq.NAME, usable, lambda c: c.identity, lambda c: c.clip_id)


def hdtf_groups(candidates: Sequence[Candidate]) -> Groups:
    """Return the usable clips, one group per speaker; RD has no speakers' names and is left out."""
    usable = [c for c in candidates if not c.problem]
    return grouped(hdtf.NAME, usable, lambda c: c.identity, lambda c: c.clip_id)


def vfhq_train_groups(metas: Path, test: Path | None) -> tuple[list[Candidate], Groups]:
    """Return all clips of the training list, and the usable ones by video without videos of the test pack."""
    held_out = {c.clip_id for c in vfhq.find_test_clips(test)[0]} if test else set()
    videos = {vfhq.parse_name(name).video for name in held_out}
    found = [vfhq.train_candidate(path) for path in sorted(metas.glob("Clip+*.txt"))]
    found = [replace(c, problem="in the test pack") if c.source_id in videos else c for c in found]
    usable = [c for c in found if not c.problem]
    return found, grouped(vfhq.NAME, usable, lambda c: c.identity, lambda c: c.clip_id)


def first_by_hash(dataset: str, clip_ids: Sequence[str], count: int) -> list[str]:
    """Return the clips with the least hash, for small lists out of given ones."""
    return clip_order(dataset, clip_ids)[:count]
