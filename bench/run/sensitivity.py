"""Which variants of which clips are made and scored to learn what a difference means on a split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.catalogue import find_method, unavailable
from bench.core.errors import UsageError, did_you_mean
from bench.core.spec import Rejected, Sample, Split
from bench.core.views import ClipMetric, SetMetric
from bench.methods.variants import DAMAGE, FAMILIES, INVISIBLE, Family, target
from bench.results.sensitivity import BASE, COUNT
from bench.run.plan import Plan, plan_generation

ALL_LEVELS = (1, 2, 3, 4, 5)
QUICK_LEVELS = (2, 4)
CLIPS, QUICK_CLIPS = 16, 8
SHARES = (0.75, 0.5, 0.25, 0.125)  # of the clips
QUICK_FRAMES, QUICK_SIDE = 60, 256
EXCERPTS = (
    f"quick: clips are cut to {QUICK_FRAMES / 25:g} s and scaled to {QUICK_SIDE} pixels, where "
    "codecs do more harm than to whole clips."
)


@dataclass(frozen=True, slots=True)
class Part:
    """A plan of variants with the metrics that can see them.

    Attributes:
        fewer: the number of clips, where only some of them are looked at; 0 for all.
    """

    name: str
    plan: Plan
    metrics: Sequence[ClipMetric | SetMetric]
    fewer: int = 0


def choose_clips(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """Return so many samples: one identity after the other, spread over lengths, the same for the same seed."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: (s.frames, s.id)):
        if sample.reference is not None:
            groups.setdefault(sample.identity, []).append(sample)
    order = [sorted(groups)[i] for i in rng.permutation(len(groups))]
    # Lengths alternate between identities, so that neither the shortest nor the longest clips are taken first.
    queues = [groups[name][:: 1 if i % 2 else -1] for i, name in enumerate(order)]
    taken = [
        queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)
    ]
    return tuple(sorted(taken[:count], key=lambda s: s.id))


def parse_levels(text: str) -> tuple[int, ...]:
    """Return the levels that a user wrote, e.g. `1,3,5`.

    Raises:
        UsageError: not numbers from 1 to 5.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part in map(str, ALL_LEVELS) for part in parts):
        raise UsageError(f"--levels {text} is not a list of levels.", "Levels go from 1 to 5, e.g. --levels 2,4")
    return tuple(sorted({int(part) for part in parts}))


def choose_families(damage: Sequence[str] | None, quick: bool) -> tuple[list[Family], list[Rejected]]:
    """Return the invisible changes and ladders to use, and those that cannot run here.

    Args:
        damage: names of ladders; None for all, or for those of a quick look.
        quick: fewer of both.

    Raises:
        UsageError: there is no such ladder.
    """
    from bench.media.reencode import available

    known = {COUNT, *(family.id for family in DAMAGE)}
    for name in damage or ():
        if name not in known:
            raise UsageError(
                f"There is no damage called '{name}'.{did_you_mean(name, sorted(known))}",
                f"Known: {', '.join([*(family.id for family in DAMAGE), COUNT])}.",
            )
    wanted = [f for f in INVISIBLE if f.quick or not quick]
    wanted += (
        [FAMILIES[name] for name in damage if name != COUNT]
        if damage
        else [f for f in DAMAGE if f.quick or not quick]
    )
    missing = [f for f in wanted if f.codec and not available(f.codec)]
    off = [Rejected(f.id, f"the installed codec library has no encoder {f.codec}") for f in missing]
    return [f for f in wanted if f not in missing], off


def plan_variants(
    split: Split,
    metrics: Sequence[ClipMetric | SetMetric],
    families: Sequence[Family],
    levels: Sequence[int],
    limit: float = 3600.0,
) -> list[Part]:
    """Return what to make and score: changed pictures under every metric, changed sound under those that hear.

    Args:
        split: with the chosen samples only.
        metrics: of the run; those that need clips made by a method, or cannot run here, are left out.
        families: see `choose_families`.
        levels: of the ladders, 1 to 5.
        limit: wall limit of one job in seconds.
    """
    usable = [m for m in metrics if not m.spec.remade and unavailable(m) is None]
    hearing = [m for m in usable if "audio" in m.spec.needs]
    parts = []
    for stream, seen in (("picture", usable), ("sound", hearing)):
        chosen = [f for f in families if f.touches == stream]
        names = [target(f, level) for f in chosen for level in ((1,) if f.invisible else levels)]
        if names and seen:
            entries = [find_method(name) for name in (BASE, *names)]
            parts.append(Part(stream, plan_generation(split, entries, limit=limit), seen))
    return parts


def plan_counts(
    split: Split,
    metrics: Sequence[ClipMetric | SetMetric],
    families: Sequence[Family],
    levels: Sequence[int],
    seed: int,
    limit: float = 3600.0,
) -> list[Part]:
    """Return what shows how set metrics depend on the number of clips: the strongest blur over fewer of them.

    Where blur is not among the families it is the first ladder of pictures; without any, or without set metrics,
    nothing.
    """
    sets = [m for m in metrics if m.spec.kind == "set" and unavailable(m) is None]
    ladders = [f for f in families if f.touches == "picture" and not f.invisible]
    if not sets or not ladders:
        return []
    ladder = next((f for f in ladders if f.id == "blur"), ladders[0])
    entry = find_method(target(ladder, max(levels)))
    counts = {round(share * len(split.samples)) for share in SHARES} - {len(split.samples)}
    parts = []
    for count in sorted(c for c in counts if c > 1):
        some = dataclasses.replace(split, samples=choose_clips(split.samples, count, seed))
        parts.append(Part(f"{count}-clips", plan_generation(some, [entry], limit=limit), sets, count))
    return parts


def narrowed(split: Split, count: int, seed: int, off: Sequence[Rejected], cache: Path | None = None) -> Split:
    """Return the split with the chosen clips, and a word on what cannot be made.

    Args:
        split: all of it.
        count: clips to choose.
        seed: of the choice.
        off: what cannot be made here.
        cache: where short and small copies of the clips are kept, for a quick look; None takes them as they are.

    Raises:
        UsageError: no sample has a ground truth.
    """
    chosen = choose_clips(split.samples, count, seed)
    if not chosen:
        raise UsageError(
            f"No sample of {split.name} has a ground-truth video, and variants are made of those.",
            "Use a split of videos, e.g. --split folder:DIR.",
        )
    notes = [f"not made: {r.item}: {r.reason}" for r in off]
    if cache is not None:
        from bench.data.excerpt import excerpt

        whole = chosen
        chosen = tuple(excerpt(sample, cache, QUICK_FRAMES, QUICK_SIDE) for sample in whole)
        if chosen != whole:
            notes.append(EXCERPTS)
    return dataclasses.replace(split, samples=chosen, notes=(*split.notes, *notes))
