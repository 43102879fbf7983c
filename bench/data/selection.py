"""Drawing test lists by hash order: no random numbers, no file-system order, no dependence on what is present.

Removing a candidate changes nothing before it, and a shorter list is a prefix of a longer one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

SEED = "v1"
T = TypeVar("T")


def order_hash(*parts: str) -> str:
    """Return the sha256 (hex) of the parts joined by U+001F; compared as text."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def group_order(dataset: str, keys: Iterable[str], seed: str = SEED) -> list[str]:
    """Return identity keys in the order in which they are asked for a clip."""
    return sorted(set(keys), key=lambda key: order_hash(seed, dataset, "group", key))


def clip_order(dataset: str, clips: Iterable[str], seed: str = SEED) -> list[str]:
    """Return clips in the order in which they are tried inside a group."""
    return sorted(clips, key=lambda clip: order_hash(seed, dataset, "clip", clip))


def grouped(dataset: str, clips: Iterable[T], key: Callable[[T], str], name: Callable[[T], str]) -> list[list[T]]:
    """Return the groups in order, each with its clips in order.

    Args:
        dataset: part of every hash.
        clips: candidates.
        key: the identity a clip counts for.
        name: its id.
    """
    groups: dict[str, list[T]] = {}
    for clip in clips:
        groups.setdefault(key(clip), []).append(clip)
    for members in groups.values():
        members.sort(key=lambda clip: order_hash(SEED, dataset, "clip", name(clip)))
    return [groups[k] for k in group_order(dataset, groups)]


def round_robin(
    dataset: str,
    clips: Mapping[str, Sequence[str]],
    trait: Callable[[str], str],
    count: int,
    order: Sequence[str] | None = None,
) -> list[str]:
    """Return `count` clips spread over few identities and over a trait.

    Identities take turns in group order. Each takes, among its clips whose trait it has not given yet, one
    whose trait is rarest so far in the whole list; ties go to the least clip hash. An identity that has given
    every trait starts over.

    Args:
        dataset: part of every hash.
        clips: clip ids by identity.
        trait: what to spread over, e.g. the emotion.
        count: how many to draw; fewer when the clips run out.
        order: identities in the order of their turns; None is the group order.
    """
    taken: list[str] = []
    given: dict[str, set[str]] = {key: set() for key in clips}
    left = {key: set(members) for key, members in clips.items()}
    totals: Counter[str] = Counter()
    order = list(order) if order is not None else group_order(dataset, clips)
    while len(taken) < count and any(left[key] for key in order):
        for key in order:
            if len(taken) == count or not left[key]:
                continue
            if all(trait(clip) in given[key] for clip in left[key]):
                given[key] = set()
            new = [clip for clip in left[key] if trait(clip) not in given[key]]
            chosen = min(new, key=lambda c: (totals[trait(c)], order_hash(SEED, dataset, "clip", c)))
            taken.append(chosen)
            left[key].discard(chosen)
            given[key].add(trait(chosen))
            totals[trait(chosen)] += 1
    return taken


def cross_pairs(clips: Sequence[str], identity: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return (source, driver) pairs for cross-reenactment: in sorted order, each is driven by the next one
    that shows somebody else. Clips for which nobody else exists are left out.

    Args:
        clips: clip ids.
        identity: who a clip may show; clips of one identity are never paired.
    """
    order = sorted(clips)
    pairs = []
    for index, source in enumerate(order):
        others = (order[(index + step) % len(order)] for step in range(1, len(order)))
        driver = next((clip for clip in others if identity(clip) != identity(source)), None)
        if driver is not None:
            pairs.append((source, driver))
    return pairs
