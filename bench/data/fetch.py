"""Downloading from where the owners publish: whole files over HTTP, and YouTube videos through yt-dlp.

Only `bench prepare` comes here. A video that cannot be had now is told apart from one that is gone: a rate
limit must never be remembered as a dead video.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Literal

from bench.core.declaration import read_json
from bench.core.download import Source, download
from bench.core.errors import BenchError, MissingError
from bench.core.keys import file_digest
from bench.store.files import write_bytes
from bench.systems.environment import find_program

Outcome = Literal["ok", "dead", "blocked", "retry"]

# Lower case; the first match decides. The order matters: "unavailable" also appears in rate-limit texts.
_MESSAGES: tuple[tuple[str, Outcome, str], ...] = (
    ("try again later", "retry", "rate"),
    ("429", "retry", "rate"),
    ("not a bot", "blocked", "bot-check"),
    ("confirm your age", "blocked", "age"),
    ("available in your country", "blocked", "geo"),
    ("private video", "dead", "private"),
    ("removed", "dead", "removed"),
    ("account associated with this video has been terminated", "dead", "removed"),
    ("video unavailable", "dead", "unavailable"),
    ("403", "retry", "network"),
)
_FORMAT = "bv*{height}+ba/b{height}"


class Pace:
    """Stops asking after three refusals in a row that were about the rate."""

    def __init__(self) -> None:
        self.refusals = 0

    def note(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.refusals = self.refusals + 1 if outcome == "retry" else 0

    @property
    def exhausted(self) -> bool:
        """The other side wants us to stop; go on another day."""
        return self.refusals >= 3


def fetch_file(url: str, target: Path) -> None:
    """Download a file, going on where an earlier try stopped; see `bench.core.download`.

    Args:
        url: whole file.
        target: appears under its name when complete.

    Raises:
        BenchError: the server refused, lied, or the connection broke; what arrived is kept for the next try.
    """
    download(Source((url,), tries=1), target, target.parent)


def archive_complete(path: Path) -> bool:
    """Return whether a zip was downloaded to its end."""
    import zipfile

    return path.is_file() and zipfile.is_zipfile(path)


def remember_digest(lock: Path, name: str, path: Path) -> None:
    """Write a file's sha256 into a lock at first sight, and refuse another content later.

    Raises:
        BenchError: the file is not the one seen first.
    """
    known = read_json(lock, dict[str, str]) if lock.is_file() else {}
    digest = file_digest(path)
    if known.setdefault(name, digest) != digest:
        raise BenchError(
            f"{path} has another content than at its first download (sha256 {digest}, not {known[name]}).",
            f"If the publisher replaced it, remove its line from {lock}.",
        )
    write_bytes(lock, json.dumps(known, indent=1, sort_keys=True).encode())


def classify(text: str) -> tuple[Outcome, str]:
    """Return what an error text of yt-dlp means: (outcome, detail). Unknown texts are worth another try."""
    lower = text.lower()
    for phrase, outcome, detail in _MESSAGES:
        if phrase in lower:
            return outcome, detail
    return "retry", "network"


def fetch_video(url: str, target: Path, height: int = 0) -> tuple[Outcome, str]:
    """Download one YouTube video with its sound.

    Args:
        url: full url (ids may begin with `-`, so a bare id is never passed).
        target: file to make, `.mp4`.
        height: required height; 0 takes the best up to 1080.

    Returns:
        What happened, and the detail for the ledger.

    Raises:
        MissingError: yt-dlp is not installed.
    """
    program = find_program("yt-dlp")
    if program is None:
        raise MissingError(
            "Downloading from YouTube needs yt-dlp, which is not on PATH.",
            "Install a recent one (pip install -U yt-dlp), or give a folder of videos named <id>.mp4 with --from.",
        )
    wanted = f"[height={height}]" if height else ""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [
        program,
        "--no-playlist",
        "--no-overwrites",
        "--no-progress",
        "--retries=3",
        "--retry-sleep=http:exp=1:60",
        "--sleep-interval=10",
        "--max-sleep-interval=20",
        f"--format={_FORMAT.format(height=wanted)}",
        f"--format-sort={'' if height else 'res:1080,'}vcodec:h264,acodec:m4a",
        "--merge-output-format=mp4",
        "--write-info-json",
        f"--output=./{target.stem}.%(ext)s",
        url,
    ]
    done = subprocess.run(
        command, cwd=target.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if target.is_file() and done.returncode == 0:
        return "ok", ""
    return classify(done.stderr)
