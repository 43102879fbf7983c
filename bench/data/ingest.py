"""Videos made elsewhere: matching files to samples, or making samples of the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BenchError, UsageError
from bench.core.keys import file_digest
from bench.core.spec import Rejected, Sample, Split
from bench.data.folder import VIDEO_SUFFIXES, few, safe_id, visible_files
from bench.data.splits import VIDEOS


@dataclass(frozen=True, slots=True)
class Matched:
    """Which file belongs to which sample.

    Attributes:
        files: by sample id.
        missing: ids of samples without a file.
        unmatched: video files that no sample claims.
    """

    files: Mapping[str, Path]
    missing: tuple[str, ...]
    unmatched: tuple[Path, ...]

    def notes(self) -> list[str]:
        """Return what a user should know, in sentences."""
        lines = []
        if self.missing:
            lines.append(f"{len(self.missing)} samples have no video: {few(self.missing)}")
        if self.unmatched:
            names = tuple(p.name for p in self.unmatched)
            lines.append(f"{len(names)} files match no sample: {few(names)}")
        return lines


def match_files(split: Split, folder: Path, pattern: str) -> Matched:
    """Find each sample's video.

    Args:
        split: samples that videos are wanted for.
        folder: where the videos are.
        pattern: relative path with `{id}` in it.

    Raises:
        UsageError: the pattern has no `{id}`, leaves the folder, or matches nothing.
    """
    if "{id}" not in pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise UsageError(
            f"--pattern '{pattern}' must be a path inside the folder with {{id}} in it.",
            "For example: --pattern 'videos/{id}.mp4'",
        )
    files = {s.id: p for s in split.samples if (p := folder / pattern.replace("{id}", s.id)).is_file()}
    if not files:
        found = [p.name for p in _files(folder) if p.suffix.lower() in VIDEO_SUFFIXES][:3]
        raise UsageError(
            f"No file in {folder} matches '{pattern}' for the samples of '{split.name}'"
            f" (e.g. {pattern.replace('{id}', split.samples[0].id)}; found: {', '.join(found) or 'no videos'}).",
            "Change --pattern; sample ids are listed by: bench show split NAME",
        )
    claimed = set(files.values())
    others = [p for p in _files(folder) if p.suffix.lower() in VIDEO_SUFFIXES and p not in claimed]
    return Matched(files, tuple(s.id for s in split.samples if s.id not in files), tuple(others))


def silent_note(split: Split, files: Mapping[str, Path]) -> str:
    """Say which videos have no sound though their sample has, and how they can be heard; empty where all have.

    Many systems write pictures only, and whoever asks for synchronisation finds out hours later.
    """
    from bench.media.probe import has_sound

    voiced = {s.id for s in split.samples if s.audio is not None}
    silent = [name for name, path in files.items() if name in voiced and has_sound(path) is False]
    if not silent:
        return ""
    return (
        f"{len(silent)} of {len(files)} videos have no sound of their own: {few(silent)}. To hear them with the"
        " sound that drove them, add: --sound driving"
    )


def own_split(folder: Path) -> tuple[Split, dict[str, Path]]:
    """Make a sample of every video in a folder, with nothing to compare it with.

    Unreadable files stay in: they become rows that say why they have no number.

    Raises:
        UsageError: there is no video.
    """
    from bench.media.probe import probe

    folder = folder.resolve()  # `.` has no name
    samples: list[Sample] = []
    files: dict[str, Path] = {}
    rejected: list[Rejected] = []
    for path in sorted(visible_files(folder, rejected)):
        name = str(path.relative_to(folder))
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            rejected.append(Rejected(name, f"not a video ({path.suffix or 'no suffix'})"))
            continue
        try:
            digest = file_digest(path)
        except OSError as error:  # a link to nothing, or no permission
            rejected.append(Rejected(name, f"cannot be read: {(error.strerror or str(error)).lower()}"))
            continue
        try:
            frames = round(probe(path).duration * 25)
        except BenchError:
            frames = 0
        identity = safe_id(str(path.relative_to(folder).with_suffix("")))
        while identity in files:
            identity += "_"
        files[identity] = path
        samples.append(
            Sample(
                folder.name,
                "videos",
                identity,
                identity,
                path,
                path,
                path,
                None,
                frames,
                digests={"video": digest},
            )
        )
    if not samples:
        raise UsageError(
            f"No video in {folder} (looked for {', '.join(sorted(VIDEO_SUFFIXES))}).",
            "Give the folder that holds the videos.",
        )
    note = "No reference: only metrics that need none were computed."
    return Split(f"{VIDEOS}{folder.name}", "real", tuple(samples), tuple(rejected), (note,)), files


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder but not those in hidden ones, such as a `.bench` of our own."""
    return sorted(p for p in visible_files(folder, []) if p.is_file())
