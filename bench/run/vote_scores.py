"""A study's votes beside the numbers of the run it shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.errors import UsageError
from bench.results import votes as model
from bench.results.runs import Results, load, locate
from bench.results.votes import Scored, Vote
from bench.run.voting import STUDY_FILE, TRUTH, VOTES_FILE, load_study, method_names, read_votes


def score_study(study: str, home: Path | None = None, seed: int = 0) -> tuple[list[tuple[str, Scored]], list[str]]:
    """Return what the votes on each question say, and sentences about lines that could not be read.

    Args:
        study: folder of a study, or the name of the run it was made from.
        home: the store.
        seed: of the intervals.

    Raises:
        MissingError: there is no study.
        UsageError: there are too few votes to rank anything.
    """
    folder = Path(study)
    if not (folder / STUDY_FILE).is_file():
        place = locate(study, home)
        folder = (place if place.is_dir() else place.parent) / "votes"
    shown = load_study(folder)
    votes, problems = read_votes(folder, shown)
    if len({v.left for v in votes} | {v.right for v in votes}) < 2 or all(v.check for v in votes):
        raise UsageError(
            f"There are no votes in {folder / VOTES_FILE} yet.", f"Serve it: bench vote serve {shown.run}"
        )
    results = load(shown.folder) if Path(shown.folder).is_dir() else None
    found: list[tuple[str, Scored]] = []
    for question in shown.questions:
        asked = [v for v in votes if v.question == question]
        if all(v.check for v in asked):
            continue
        whole = _beside(asked, question, results, seed)
        found.append(("" if not whole.flagged else "All raters", whole))
        kept = [v for v in asked if v.rater not in whole.flagged]
        if whole.flagged and any(not v.check for v in kept):
            found.append(("Without flagged raters", _beside(kept, question, results, seed)))
    return found, problems


def _beside(votes: Sequence[Vote], question: str, results: Results | None, seed: int) -> Scored:
    scored = model.score(votes, question, seed)
    if results is None:
        return scored
    values, about = _numbers(results)
    floors: Mapping[str, Any] = results.provenance.get("floors") or {}
    return replace(scored, metrics=model.compare(votes, scored, values, about, floors, exclude=[TRUTH], seed=seed))


def _numbers(
    results: Results,
) -> tuple[dict[tuple[str, str], dict[tuple[str, str], float]], dict[tuple[str, str], Mapping[str, Any]]]:
    """Return for every column the value of each (method, sample), averaged over repeats, and what it is."""
    names = method_names(results)
    rows = results.rows[(results.rows["kind"] == "clip") & (results.rows["status"] == "ok")]
    means = rows.groupby(["protocol", "column", "method", "gate", "sample"])["value"].mean()
    values: dict[tuple[str, str], dict[tuple[str, str], float]] = defaultdict(dict)
    for place, value in zip(means.index.tolist(), means.tolist(), strict=True):
        protocol, column, method, gate, sample = map(str, place)
        values[protocol, column][names[method, gate], sample] = float(value)
    return dict(values), {key: results.column(*key) for key in values}
