"""HDTF: fifteen small text files with YouTube urls, intervals and crops. Zhang et al., CVPR 2021."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from bench.core.errors import UsageError
from bench.data.candidates import Box, Candidate

NAME = "hdtf"
SETS = ("RD", "WDA", "WRA")
HEIGHTS = (720, 1080, 2160)
SECONDS = 5.0
DELAY = 1.0
"""The window begins this long after the interval, whose start is a whole second and may show a cut."""

_NUMBER = re.compile(r"[0-9]{1,6}")
_ID = re.compile(r"(?:v=|youtu\.be/)([\w-]{11})")


def candidates(folder: Path) -> list[Candidate]:
    """Return every interval of the annotation files, unusable ones with the reason.

    Args:
        folder: `HDTF_dataset` of the owners' repository.

    Raises:
        UsageError: a file is missing.
    """
    found: list[Candidate] = []
    for part in SETS:
        urls = dict(_rows(folder / f"{part}_video_url.txt"))
        times = _rows(folder / f"{part}_annotion_time.txt")
        heights = dict(_rows(folder / f"{part}_resolution.txt"))
        crops = dict(_rows(folder / f"{part}_crop_wh.txt"))
        for name, intervals in times:
            previous = -1.0
            for index, interval in enumerate(intervals.split()):
                clip = f"{part}_{name}_{index:03d}"
                made = _candidate(clip, part, name, interval, urls, heights, crops.get(f"{name}_{index}", ""))
                if not made.problem and made.start - DELAY < previous:
                    made = dataclasses.replace(made, problem=f"intervals out of order: {interval}")
                previous = max(previous, made.end)
                found.append(made)
    return _united(found)


def _candidate(
    clip: str, part: str, name: str, interval: str, urls: dict[str, str], heights: dict[str, str], crop: str
) -> Candidate:
    problem = ""
    start, end = _seconds(interval)
    if end <= start:
        problem = f"bad times: {interval}"
    elif end - start < DELAY + SECONDS:
        problem = f"too short: {end - start:g} s"
    video = _ID.search(urls.get(name, ""))
    if video is None:
        problem = problem or "no url"
    height = int(found) if _NUMBER.fullmatch(found := heights.get(name, "")) else 0
    numbers = [int(n) for n in crop.split()] if all(map(_NUMBER.fullmatch, crop.split())) else []
    box = None
    if len(numbers) != 4:
        problem = problem or "no crop"
    else:
        x, width, y, tall = numbers
        box = Box("window", (x, y, width, tall), (0, height))
        if height not in HEIGHTS:
            problem = problem or f"unusable height: {height}"
        elif y + tall > height or x + width > round(height * 16 / 9) + 1 or min(width, tall) < 2:
            problem = problem or f"bad crop: {width}x{tall} at {x},{y} in a {height} px high frame"
    key = name.rstrip("0123456789") if part != "RD" else f"{part}_{name}"
    source = video[1] if video else ""
    return Candidate(
        clip,
        key,
        source,
        start + DELAY,
        start + DELAY + SECONDS,
        box=box,
        url=f"https://www.youtube.com/watch?v={source}" if source else "",
        height=height,
        problem=problem or ("no identity label" if part == "RD" else ""),
    )


def _united(found: list[Candidate]) -> list[Candidate]:
    """Give clips of one video one identity: the least of the names that share it."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.get(key, key) != key:
            key = leader[key]
        return key

    by_source: dict[str, str] = {}
    for clip in found:
        if not clip.source_id:
            continue
        first = by_source.setdefault(clip.source_id, clip.identity)
        a, b = sorted((find(first), find(clip.identity)))
        leader[b] = a
        leader.setdefault(a, a)
    return [dataclasses.replace(clip, identity=find(clip.identity)) for clip in found]


def _rows(path: Path) -> list[tuple[str, str]]:
    """Return (name without .mp4, rest of the line) of every line; one file begins with a byte-order mark."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(
            f"HDTF's annotation file {path} cannot be read: {error.strerror}.",
            "Give the folder HDTF_dataset of github.com/MRzzm/HDTF with --from.",
        ) from error
    rows = []
    for line in lines:
        name, _, rest = line.strip().partition(" ")
        if name:
            rows.append((name.removesuffix(".mp4"), rest.strip()))
    return rows


def _seconds(interval: str) -> tuple[float, float]:
    """Return (start, end) of `MM:SS-MM:SS` or `HH:MM:SS-HH:MM:SS`; (0, 0) when it is neither."""
    parts = interval.split("-")
    if len(parts) != 2 or not all(re.fullmatch(r"[0-9]{1,4}(:[0-9]{2}){1,2}", p) for p in parts):
        return 0.0, 0.0

    def value(text: str) -> float:
        total = 0
        for piece in text.split(":"):
            total = total * 60 + int(piece)
        return float(total)

    return value(parts[0]), value(parts[1])
