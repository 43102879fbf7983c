"""Floors of a split, kept with the store: what its tables, plots and votes call noise."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from bench.core.declaration import known_json
from bench.results.sensitivity import SCHEMA, Sensitivity
from bench.store.files import write_bytes
from bench.store.home import Home

FLOORS_FILE = "kept-floors.json"


def folder(home: Home, split: str) -> Path:
    """Return where the report of a split is kept."""
    slug = "".join(c if c.isalnum() or c in "-_" else "-" for c in split.rpartition("/")[2])[:40] or "split"
    return home.path / "sensitivity" / f"{slug}-{hashlib.sha256(split.encode()).hexdigest()[:8]}"


def keep(home: Home, found: Sensitivity) -> None:
    """Keep the floors of a split, to be shown under every table of it; columns measured before stay."""
    known = _kept(home, found.split)
    measured = {
        f"{c.protocol}|{c.column}": {
            "same": c.same,
            "cross": c.cross,
            "worst": c.worst,
            "clips": len(found.clips),
            "protocol": found.protocols.get(c.protocol, {}),
        }
        for c in found.columns
        if math.isfinite(c.same)
    }
    text = json.dumps({"schema": SCHEMA, "split": found.split, "floors": {**known, **measured}}, indent=1)
    path = folder(home, found.split) / FLOORS_FILE
    write_bytes(path, text.encode())
    home.give([path])


def floors(home: Home, split: str, protocols: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kept floors of a split by `protocol|column`: `same`, `cross`, `worst` and `clips`, unscaled.

    Args:
        home: where they are kept.
        split: name of the split.
        protocols: `params` and `weights` by protocol id; floors measured with others do not count.
    """
    return {
        key: {k: v for k, v in found.items() if k != "protocol"}
        for key, found in _kept(home, split).items()
        if protocols.get(key.partition("|")[0]) == found.get("protocol")
    }


def _kept(home: Home, split: str) -> dict[str, Any]:
    home.bring_folder(folder(home, split), only=(FLOORS_FILE,))
    found = known_json(folder(home, split) / FLOORS_FILE, _Kept)
    return found["floors"] if found is not None and found["schema"] == SCHEMA else {}


class _Kept(TypedDict):
    schema: int
    floors: dict[str, dict[str, Any]]
