"""From one candidate to normalised files, or a reason why not.

Every candidate tried leaves one record, so a second run looks at nothing twice, and a killed run goes on.
Only what was refused for the moment (rate limits, a broken connection) is tried again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from bench.core.declaration import known_json
from bench.data.candidates import Candidate
from bench.data.folder import safe_id
from bench.data.normalise import Job, Media, Refused, State, intact, make_clip
from bench.store.files import full_disk_explained, write_bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a candidate; stored as JSON.

    Attributes:
        clip_id, source_id, identity: of the candidate.
        state, reason, detail: see `Refused`; `ok` for a clip.
        request: digest of everything asked; another one means that it has to be made again.
        clip: provenance and digests of a clip, see `bench.data.normalise.make_clip`.
    """

    clip_id: str
    source_id: str
    identity: str
    state: State
    reason: str = ""
    detail: str = ""
    request: str = ""
    clip: Mapping[str, Any] = field(default_factory=dict)


class Layout(Protocol):
    """What a data set's module knows: which clips there are, and where their media is."""

    refused: list[tuple[str, str]]

    def stamp(self, candidate: Candidate) -> Any:
        """Return what tells one state of a candidate's files from another, without reading or fetching them.

        `DOWNLOAD` when they would be fetched; None when they are not there and cannot be.
        """

    def media(self, candidate: Candidate, scratch: Path) -> Media:
        """Return a candidate's files.

        Raises:
            Refused: they cannot be had.
        """


DOWNLOAD = "download"


def record_path(root: Path, clip_id: str) -> Path:
    """Return where a candidate's result is stored."""
    return root / "candidates" / f"{safe_id(clip_id)}.json"


def read_results(root: Path) -> dict[str, Result]:
    """Return all stored results by clip id; damaged ones are passed over and so made again."""
    found = {}
    for path in sorted((root / "candidates").glob("*.json")):
        result = known_json(path, Result)
        if result is None:
            continue
        found[result.clip_id] = result
    return found


def process(job: Job) -> Result:
    """Make one candidate's clip, or find out why there is none, and store which. Runs in a worker.

    Raises:
        StoreFull: the disk is full.
    """
    candidate = job.candidate
    base = Result(candidate.clip_id, candidate.source_id, candidate.identity, "ok", request=job.request)
    final = job.root / "clips" / safe_id(candidate.clip_id)
    work = final.with_name(f".{final.name}.{os.getpid()}.part")
    shutil.rmtree(work, ignore_errors=True)
    with full_disk_explained(final):
        work.mkdir(parents=True)
        try:
            clip = make_clip(job, work)
            shutil.rmtree(final, ignore_errors=True)
            work.rename(final)
            result = replace(base, clip=clip)
        except Refused as refusal:
            result = replace(base, state=refusal.state, reason=refusal.reason, detail=refusal.detail)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    store(job.root, result)
    return result


def store(root: Path, result: Result) -> None:
    """Write a result."""
    write_bytes(record_path(root, result.clip_id), json.dumps(asdict(result), indent=1, sort_keys=True).encode())


def known(root: Path, clip_id: str, request: str) -> Result | None:
    """Return the stored result of a candidate if it answers `request` for good and its files are intact."""
    result = known_json(record_path(root, clip_id), Result)
    if result is None or result.request != request or result.state in ("retry", "blocked"):
        return None
    return result if result.state != "ok" or intact(root, safe_id(clip_id), result.clip) else None
