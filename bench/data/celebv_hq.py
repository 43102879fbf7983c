"""CelebV-HQ: one JSON file with YouTube ids, times and boxes. Zhu et al., ECCV 2022."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core.declaration import read_json
from bench.core.errors import UsageError
from bench.data.candidates import BadAnnotation, Box, Candidate

NAME = "celebv-hq"
ANNOTATIONS = "celebvhq_info.json"
MIN_SECONDS = 4.0
MAX_SECONDS = 5.0

# By name, resolved through the file's own mapping: the position of a label is not fixed anywhere.
_REQUIRED_ACTION = "talk"
_FORBIDDEN_ACTIONS = (
    "sing", "listen_to_music", "play_instrument", "eat", "drink", "chew", "smoke", "kiss", "sleep",
)  # fmt: skip
_FORBIDDEN_APPEARANCES = ("wearing_mask", "blurry")


def candidates(annotations: Path) -> list[Candidate]:
    """Return every clip of the annotation file, unusable ones with the reason.

    Raises:
        UsageError: the file is not CelebV-HQ's JSON.
    """
    try:
        data = read_json(annotations, dict[str, Any])
        clips: Mapping[str, Any] = dict(data["clips"])
        meta = data.get("meta_info") or data["mete_info"]  # an old README spells it so
        actions = [name.lower() for name in meta["action_mapping"]]
        appearances = [name.lower() for name in meta["appearance_mapping"]]
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{annotations} is not CelebV-HQ's annotation file ({type(error).__name__}: {error}).",
            f"Fetch {ANNOTATIONS} from github.com/CelebV-HQ/CelebV-HQ.",
        ) from error
    return [_candidate(key, clip, actions, appearances) for key, clip in clips.items()]


def _candidate(key: str, clip: Any, actions: list[str], appearances: list[str]) -> Candidate:
    try:
        video = str(clip["ytb_id"])
        start, end = (float(clip["duration"][k]) for k in ("start_sec", "end_sec"))
        values = tuple(float(clip["bbox"][k]) for k in ("top", "bottom", "left", "right"))
    except (KeyError, TypeError, ValueError) as error:
        return Candidate(key, key, "", problem=f"incomplete annotation: {type(error).__name__}: {error}")
    box = Box("fraction", values)
    problem = (
        _time_problem(start, end)
        or _box_problem(box)
        or _label_problem(clip.get("attributes"), actions, appearances)
    )
    return Candidate(
        key,
        video,
        video,
        start,
        min(end, start + MAX_SECONDS),
        box=box,
        url=f"https://www.youtube.com/watch?v={video}",
        problem=problem,
    )


def _time_problem(start: float, end: float) -> str:
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0 or end <= start:
        return f"bad times: {start} to {end}"
    return "" if end - start >= MIN_SECONDS else f"too short: {end - start:.2f} s"


def _box_problem(box: Box) -> str:
    try:
        _, _, side, _ = box.resolve(1920, 1080)
    except BadAnnotation as error:
        return f"bad box: {error}"
    return "" if side >= 256 else f"small face box: {side} px at 1080p"


def _label_problem(labels: Mapping[str, Any] | None, actions: list[str], appearances: list[str]) -> str:
    if not isinstance(labels, Mapping) or "action" not in labels or "appearance" not in labels:
        return "no attribute labels"

    def given(names: list[str], flags: Any, name: str) -> bool:
        return name in names and names.index(name) < len(flags) and bool(flags[names.index(name)])

    if not given(actions, labels["action"], _REQUIRED_ACTION):
        return "not labelled as talking"
    for name in _FORBIDDEN_ACTIONS:
        if given(actions, labels["action"], name):
            return f"labelled {name}"
    for name in _FORBIDDEN_APPEARANCES:
        if given(appearances, labels["appearance"], name):
            return f"labelled {name}"
    return ""
