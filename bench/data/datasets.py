"""Data sets by name: prepare them from what their owners publish, and load what was prepared.

Layout under `<home>/data/<name>`: `clips/<id>/` (video.mp4, audio.wav, ref.png, reference.mp4), `manifest.jsonl`
and `ledger.jsonl` (one line per clip kept, and per candidate tried), `splits/` (lists drawn here), `terms.json`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

from bench.core.declaration import read_json_lines
from bench.core.errors import MissingError, UsageError
from bench.core.spec import Rejected, Sample, Split
from bench.data import declared
from bench.data.declared import Dataset, FrozenList, Subset
from bench.data.folder import safe_id
from bench.data.normalise import FILES, intact
from bench.store.home import Home

Progress = Callable[[int, int], None]

OWN_LIST = "Clips, windows and pairs are our own draw, not the papers': theirs were never published."


@dataclass(frozen=True, slots=True)
class Known:
    """One line of `bench list splits`.

    Attributes:
        name, domain: of the data set.
        state: `ready`, `97 of 100 clips`, or `not prepared`.
        detail: what it is, and the command that prepares it.
    """

    name: str
    domain: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Account:
    """What a preparation came to.

    Attributes:
        dataset, subset: what was prepared.
        kept: clips of the list that are ready.
        wanted: clips the list asks for.
        reasons: number of candidates tried and not kept, by reason.
        digest: sha256 of the list's clip ids, one per line.
        ledger: file with every candidate tried and what became of it.
        notes: what a reader has to know about the list.
        again: refused for the moment only: the same command tries them again.
        left_out: number of clips or files that annotations or names rule out, by reason.
        not_applied: filters that were not applied to a listed clip, with what they need.
    """

    dataset: str
    subset: str
    kept: int
    wanted: int
    reasons: Mapping[str, int]
    digest: str
    ledger: Path
    notes: tuple[str, ...] = ()
    again: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    not_applied: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the account in words."""
        lines = [
            f"{self.dataset} {self.subset}: {self.kept} of {self.wanted} clips ready (list {self.digest[:16]})"
        ]
        lines += _counted("tried and not kept", self.reasons)
        lines += _counted("ruled out by annotation or name", self.left_out)
        if self.again:
            lines.append(f"  {self.again} were refused for now: run the same command again to try them once more.")
        if self.not_applied:
            lines.append("  NOT CHECKED, because something is missing; clips are listed without it:")
            for needs, names in _by_need(self.not_applied).items():
                lines.append(f"    {', '.join(names)}: {needs}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  clip by clip: {self.ledger}"])


def _counted(title: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"  {title}:", *(f"  {count:7d} {reason}" for reason, count in sorted(counts.items()))]


def _by_need(not_applied: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, needs in sorted(not_applied.items()):
        found.setdefault(needs, []).append(name)
    return found


def known(home: Home) -> list[Known]:
    """Return every declared data set and whether it is prepared."""
    found = []
    for name in declared.names():
        dataset = declared.declared(name)
        frozen = frozen_list(dataset, declared.MAIN, home)
        ready = set(_manifest(home, dataset))
        have, total = _progress(dataset, declared.MAIN, frozen, ready)
        state = "ready" if have and have >= total else f"{have} of {total} clips" if have else "not prepared"
        parts = [dataset.title]
        if frozen is not None and frozen.entries:
            parts.append(f"list {list_digest(frozen)[:16]}")
        for subset in dataset.subsets:
            if subset != declared.MAIN and frozen_name(dataset, subset) != declared.MAIN:
                part, of = _progress(dataset, subset, frozen_list(dataset, subset, home), ready)
                parts += [f"--subset {subset}: {part} of {of} clips"] if part else []
        if state != "ready":
            parts.append(command(dataset))
        found.append(Known(name, dataset.domain, state, "; ".join(parts)))
    return found


def _progress(dataset: Dataset, subset: str, frozen: FrozenList | None, ready: Collection[str]) -> tuple[int, int]:
    """Return how many clips of a list are ready, and how many it has (or asks for, before it is drawn)."""
    entries = frozen.entries if frozen else ()
    whole = frozen is not None and frozen.header.get("complete", True)
    wanted = len(entries) if entries and whole else dataset.subsets[subset].count
    return sum(str(e["clip_id"]) in ready for e in entries), wanted


def command(dataset: Dataset, subset: str | None = None, source: Path | None = None) -> str:
    """Return what to type to prepare a data set.

    Args:
        dataset: which.
        subset: a list it declares.
        source: the folder the user gave, or None for a place holder where one is needed.
    """
    part = f" --subset {subset}" if subset and subset != declared.MAIN else ""
    place = f" --from {shlex.quote(str(source))}" if source else "" if dataset.download == "yes" else " --from DIR"
    return f"bench prepare --split {dataset.name}{part}{place} --accept-licences"


# Loading


def load(name: str, home: Home, subset: str | None = None, media: bool = True) -> Split:
    """Return a prepared data set's samples.

    Args:
        name: of the data set.
        home: where it was prepared.
        subset: a list it declares; None is `test`.
        media: False plans without the media: samples may then name files that are not there yet.

    Raises:
        UnknownName, UsageError: there is no such data set or subset.
        MissingError: nothing of it is prepared; says the command.
    """
    dataset = declared.declared(name)
    chosen, rule = declared.subset_of(dataset, subset)
    if media:
        home.bring_folder(data_root(home, name))
    frozen = frozen_list(dataset, chosen, home)
    ready = _manifest(home, dataset)
    entries = frozen.entries if frozen else ()
    if not any(str(e["clip_id"]) in ready for e in entries):
        if media:
            raise MissingError(
                f"Split '{name}' is not prepared: {dataset.source}", f"Run: {command(dataset, subset)}"
            )
        return _unprepared(dataset, chosen, rule, entries)
    listed = [ready[i] for e in entries if (i := str(e["clip_id"])) in ready]
    if len(crops := sorted({line["crop"]["rule"] for line in listed})) > 1:
        raise MissingError(
            f"Clips of split '{name}' were cropped by different rules ({', '.join(crops)}), because the face"
            " finder came or went in between; they are not comparable.",
            f"Run: {command(dataset, subset)}",
        )
    samples: list[Sample] = []
    rejected: list[Rejected] = []
    if rule.protocol == "cross":
        samples, rejected = _cross(dataset, chosen, entries, ready, home)
    else:
        reasons = _reasons(home, name)
        for entry in entries:
            clip_id = str(entry["clip_id"])
            if clip_id in ready:
                samples.append(_sample(dataset, chosen, ready[clip_id], ready[clip_id], home))
            else:
                rejected.append(Rejected(clip_id, reasons.get(clip_id, "not prepared")))
    samples.sort(key=lambda s: s.id)
    assert frozen is not None
    notes = _notes(dataset, frozen, listed, samples, rejected)
    return Split(name, dataset.domain, tuple(samples), tuple(rejected), notes)


def frozen_name(dataset: Dataset, subset: str) -> str:
    """Return the name of the list a subset takes its clips from."""
    return declared.MAIN if dataset.subsets[subset].protocol == "cross" else subset


def frozen_list(dataset: Dataset, subset: str, home: Home) -> FrozenList | None:
    """Return the list: the repository's, else the one drawn here; a cross subset pairs the main list's clips."""
    source = frozen_name(dataset, subset)
    shipped = declared.shipped_list(dataset.name, source)
    if shipped is not None and shipped.entries:
        return shipped
    return declared.read_list(data_root(home, dataset.name) / "splits" / f"{source}.jsonl") or shipped


def _sample(
    dataset: Dataset, subset: str, source: Mapping[str, Any], driver: Mapping[str, Any], home: Home
) -> Sample:
    """Return a sample whose picture is one clip's and whose motion is another's (or the same one's)."""
    folder = data_root(home, dataset.name) / "clips"
    same = source is driver
    files = {k: folder / driver["folder"] / FILES[k] for k in _ROLES if k in driver["digests"]}
    digests = {k: driver["digests"][k] for k in files}
    digests["image"] = source["digests"]["image"]
    if same:
        digests["reference"] = driver["digests"]["reference"]
    return Sample(
        dataset=dataset.name,
        split=subset,
        id=source["folder"] if same else f"{source['folder']}--{driver['folder']}"[:120],
        identity=source["identity"],
        image=folder / source["folder"] / FILES["image"],
        audio=files.get("audio"),
        video=files["video"],
        reference=folder / driver["folder"] / FILES["reference"] if same else None,
        frames=driver["frames"],
        fps=dataset.fps,
        digests=digests,
    )


_ROLES = ("video", "audio", "image")


def _cross(
    dataset: Dataset,
    subset: str,
    entries: Sequence[Mapping[str, Any]],
    ready: Mapping[str, Mapping[str, Any]],
    home: Home,
) -> tuple[list[Sample], list[Rejected]]:
    from bench.data.selection import cross_pairs

    identity = {str(e["clip_id"]): str(e["identity"]) for e in entries}
    samples, rejected = [], []
    # Pairs are made over the whole list, so that a missing clip does not change the others' partners.
    for source, driver in cross_pairs(list(identity), identity.__getitem__):
        if source in ready and driver in ready:
            samples.append(_sample(dataset, subset, ready[source], ready[driver], home))
        else:
            rejected.append(Rejected(f"{source} driven by {driver}", "not prepared"))
    return samples, rejected


def _unprepared(dataset: Dataset, subset: str, rule: Subset, entries: Sequence[Mapping[str, Any]]) -> Split:
    """Return samples good enough to count jobs: names where the list is known, places where it is not."""
    names = [safe_id(str(e["clip_id"])) for e in entries] or [f"clip-{n:03d}" for n in range(1, rule.count + 1)]
    frames = round((rule.seconds or 4.0) * dataset.fps)
    absent = Path("not-prepared")
    samples = tuple(
        Sample(
            dataset.name,
            subset,
            name,
            name,
            absent / name / FILES["image"],
            absent / name / FILES["audio"] if dataset.sound else None,
            absent / name / FILES["video"],
            absent / name / FILES["reference"] if rule.protocol == "self" else None,
            frames,
            dataset.fps,
        )
        for name in sorted(names)
    )
    notes = [f"Split '{dataset.name}' is not prepared: {dataset.source} Run: {command(dataset, subset)}"]
    if not entries:
        notes.append("Its list is drawn when it is prepared: the clips' number, names and lengths are stand-ins.")
    return Split(dataset.name, dataset.domain, samples, notes=tuple(notes))


def unchecked(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the filters that could not be applied to some clip, from manifest lines."""
    return sorted({f["name"] for line in lines for f in line["filters"] if f["passed"] is None})


def list_digest(frozen: FrozenList) -> str:
    """Return what two users compare: the sha256 of the list's clip ids, one per line."""
    return sha256("".join(f"{e['clip_id']}\n" for e in frozen.entries).encode()).hexdigest()


def _notes(
    dataset: Dataset,
    frozen: FrozenList,
    lines: Iterable[Mapping[str, Any]],
    samples: Sequence[Sample],
    rejected: Sequence[Rejected],
) -> tuple[str, ...]:
    digest = list_digest(frozen)[:16]
    notes = [f"{OWN_LIST} List {digest}: compare numbers only where it is the same.", *dataset.notes]
    if frozen.header.get("state") != "verified":
        notes.append("The list is drawn from annotations; media filters remove clips from it, none is replaced.")
    if frozen.header.get("mirror"):
        notes.append("Clips were cut by somebody else (source = mirror); crops and lengths are not the owners'.")
    if left := {*unchecked(lines), *frozen.header.get("not_applied", ())}:
        notes.append(f"Not checked when the clips were prepared: {', '.join(sorted(left))}.")
    if not frozen.header.get("complete", True):
        notes.append(f"The list has {len(frozen.entries)} clips where {frozen.header['count']} are asked for.")
    if rejected:
        notes.append(f"{len(samples)} of {len(samples) + len(rejected)} clips of the list are here.")
    return tuple(notes)


def data_root(home: Home, name: str) -> Path:
    """Return the folder of a data set."""
    return home.data / name


class _Crop(TypedDict):
    rule: str


class _Digests(TypedDict):
    image: str
    video: str


class _Line(TypedDict):
    clip_id: str
    folder: str
    identity: str
    frames: int
    digests: _Digests
    crop: _Crop
    filters: list[dict[str, Any]]


class _Tried(TypedDict):
    clip_id: str
    reason: str
    detail: str


def _manifest(home: Home, dataset: Dataset) -> dict[str, Mapping[str, Any]]:
    """Return the manifest's lines by clip id, of clips whose files are there."""
    root = data_root(home, dataset.name)
    path = root / "manifest.jsonl"
    if not path.is_file():
        return {}
    try:
        lines = read_json_lines(path, _Line)
        # A folder's name follows from the id, so no manifest can name another place.
        own = {line["clip_id"]: line for line in lines if line["folder"] == safe_id(line["clip_id"])}
        # Until prepare/3 the ground truth was a lossy copy: such clips have to be made again.
        own = {clip: line for clip, line in own.items() if "reference" in line["digests"]}
        return {clip: line for clip, line in own.items() if intact(root, line["folder"], line)}
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = error.message if isinstance(error, UsageError) else f"{error!r}"
        raise UsageError(f"{path} is damaged: {said}", f"Run: {command(dataset)}") from error


def _reasons(home: Home, name: str) -> dict[str, str]:
    path = data_root(home, name) / "ledger.jsonl"
    if not path.is_file():
        return {}
    lines = read_json_lines(path, _Tried)
    return {x["clip_id"]: f"{x['reason']} ({x['detail']})" if x["detail"] else x["reason"] for x in lines}
