"""Splits by name: synthetic, a folder of videos, or a prepared data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.spec import Split
from bench.store.home import Home

SYNTHETIC = ("synthetic", "synthetic-ci", "synthetic-val")
FOLDER = "folder:"
VIDEOS = "videos:"
"""How a folder that is scored on its own calls its split."""

Progress = Callable[[int, int], None]


def load_split(
    name: str, home: Home, subset: str | None = None, progress: Progress | None = None, media: bool = True
) -> Split:
    """Return a split, making or normalising its files on first use.

    Args:
        name: `synthetic`, `synthetic-ci`, `folder:PATH`, or the name of a data set.
        home: where made and normalised files are kept.
        subset: a number of samples (the first ones, in the split's fixed order) or a subset the data set names.
        progress: called with (done, total) while files are made.
        media: False is enough for a plan: a data set that is not prepared then gives stand-ins.

    Raises:
        UnknownName: there is no such split.
        UsageError: the folder has nothing usable, or the subset is not one.
        MissingError: the data set is not prepared; says the command.
    """
    if name in SYNTHETIC:
        from bench.synthetic.split import make_split

        split = make_split(name, home.ready().data / "synthetic", progress)
    elif name.startswith(FOLDER):
        from bench.data.folder import load_folder

        if name == FOLDER:
            raise UsageError("--split folder: names no folder.", "Give one: --split folder:PATH")
        split = load_folder(Path(name.removeprefix(FOLDER)), home.ready().data / "folders", progress)
    else:
        from bench.data.datasets import load

        return _first(load(name, home, None if subset is None or subset.isdigit() else subset, media), subset)
    if not split.samples:
        reasons = "".join(f"\n  {r.item}: {r.reason}" for r in split.rejected[:20])
        more = f"\n  and {len(split.rejected) - 20} more" if len(split.rejected) > 20 else ""
        raise UsageError(
            f"No usable sample in {name}: {len(split.rejected) or 'no'} files were found.{reasons}{more}",
            "A sample is a video, or a picture and a sound of the same name: ann.png and ann.wav.",
        )
    if subset is not None and not subset.isdigit():
        raise UsageError(f"Split '{name}' has no subset called '{subset}'.", "Give a number, e.g. --subset 4")
    return _first(split, subset)


def _first(split: Split, subset: str | None) -> Split:
    if subset is None or not subset.isdigit():
        return split
    count = int(subset)
    if count < 1:
        raise UsageError("--subset 0 leaves nothing to do.", "Give a number of at least 1.")
    return dataclasses.replace(split, samples=split.samples[:count])
