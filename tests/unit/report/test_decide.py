"""Standings and paired differences: they agree with the marks of the tables and never decide by too few people."""

from __future__ import annotations

import math
from itertools import pairwise

import fakes
import numpy as np
import pytest

from bench.report import decide, page
from bench.results.summary import Cell, Summary

ROWS = [("actalker", "audio"), ("mouth-warp", "audio"), ("landmark-warp", "visual")]
SYNC, FID = ("sync/synthetic_v1", "sync_c"), ("fid/synthetic_v1", "fid")
SECTION = ("synthetic", "synthetic", "test")


def test_a_difference_is_decided_as_the_tables_mark() -> None:
    summary = Summary(fakes.make(missing=False))
    columns = [SYNC, ("sync/synthetic_v1", "sync_d"), ("psnr/rgb", "psnr"), FID]
    rows = [(m, g) for m, g, _ in page.rows_of(summary)]
    found = decide.differences(summary, SECTION, rows, columns)
    assert set(found) == set(columns)
    decided = 0
    for column, pairs in found.items():
        for p in pairs:
            a, b = (summary.get(Cell(*SECTION, *row, *column)) for row in (p.first, p.second))
            assert a is not None
            assert b is not None
            sign = -1 if summary.results.column(*column)["direction"] == "lower" else 1
            assert p.gain == pytest.approx(sign * (a.value - b.value))
            assert (p.winner is not None) == summary.separates(a, b)
            decided += p.winner is not None
            if p.winner:
                assert p.winner == (p.first if p.gain > 0 else p.second)
    assert 0 < decided < sum(map(len, found.values()))


def test_few_people_decide_nothing() -> None:
    summary = Summary(fakes.make(identities=3, clips_per_identity=8, missing=False))
    found = decide.differences(summary, SECTION, ROWS, [SYNC, FID])
    assert all(p.winner is None and math.isnan(p.low) and p.identities == 3 for p in (*found[SYNC], *found[FID]))
    enough = Summary(fakes.make(identities=10, missing=False))
    assert any(p.winner for p in decide.differences(enough, SECTION, ROWS, [FID])[FID])


def test_other_clips_are_compared_in_common_but_not_ranked() -> None:
    summary = Summary(fakes.make())  # landmark-warp lost a clip
    found = decide.differences(summary, SECTION, ROWS, [SYNC])
    by_pair = {(p.first[0], p.second[0]): p for p in found[SYNC]}
    whole, cut = by_pair["actalker", "mouth-warp"], by_pair["actalker", "landmark-warp"]
    assert (whole.fair, whole.n) == (True, 24)
    assert (cut.fair, cut.n) == (False, 23)
    a, b = (summary.get(Cell(*SECTION, *row, *SYNC)) for row in (ROWS[0], ROWS[2]))
    assert a is not None
    assert b is not None
    common = [v for s, v in zip(a.samples, a.values, strict=True) if s in b.samples]
    assert cut.gain == pytest.approx(np.mean(common) - b.value)
    standings = {s.row: s for s in decide.standings(found, ROWS)}
    assert standings[ROWS[2]].apart == 2
    assert standings[ROWS[0]].better + standings[ROWS[0]].open == 1


def test_standings_add_up_and_come_best_first() -> None:
    summary = Summary(fakes.make(missing=False))
    found = decide.differences(summary, SECTION, ROWS, [SYNC, FID])
    standings = decide.standings(found, ROWS)
    assert sum(s.better for s in standings) == sum(s.worse for s in standings) > 0
    assert all(s.total == 2 * (len(ROWS) - 1) for s in standings)
    assert all(a.share >= b.share for a, b in pairwise(standings))
    assert standings[0].row == ("actalker", "audio")  # made with the highest quality


def test_noise_is_known_only_with_repeats() -> None:
    def noise(repeats: int) -> dict[int, float]:
        summary = Summary(fakes.make(repeats=repeats, missing=False))
        found: dict[int, float] = decide.payload(summary, ROWS, [SYNC])["noise"][0]
        return found

    assert noise(1) == {}
    # Noise of 0.25 spreads (0.7) per clip and repeat; 24 clips, 4 repeats; of a difference: times root two.
    expected = math.sqrt(2) * 0.25 * 0.7 / math.sqrt(24 * 4)
    assert noise(4)[0] == pytest.approx(expected, rel=0.3)


def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MOST_PAIRS", 4)
    summary = Summary(fakes.make(missing=False))
    assert list(decide.differences(summary, SECTION, ROWS, [SYNC, FID])) == [SYNC]
