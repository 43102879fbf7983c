"""What votes say, as text and JSON: a ranking with intervals, and metrics beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.report.text import grid
from bench.results.votes import Scored, wilson


def text(scored: Scored, most: int = 12) -> str:
    """Return the ranking, how raters agree, and the metrics that follow the votes best, `most` of them."""
    lines = [
        f"{scored.question}: {scored.votes} votes of {scored.raters} raters, {scored.ties} ties; "
        f"Krippendorff's alpha {_n(scored.alpha, 2)}; left side {scored.fit.side:+.2f} "
        f"({scored.side[0]:+.2f} to {scored.side[1]:+.2f})"
    ]
    table = [["Rank", "Method", "Strength", "95 %", "Elo scale", "Win rate", "95 %"]]
    for s in scored.standings:
        rank = str(s.rank) if s.rank_low == s.rank_high else f"{s.rank} ({s.rank_low}–{s.rank_high})"
        low, high = wilson(s.wins, s.count)
        table.append(
            [
                *(rank, s.method, f"{s.theta:+.2f}", f"{s.low:+.2f} to {s.high:+.2f}", f"{s.elo:.0f}"),
                *(f"{s.wins / max(s.count, 1):.0%}", f"{low:.0%} to {high:.0%}"),
            ]
        )
    lines += grid(table, (1,))
    if scored.fit.smoothed:
        lines.append("Somebody won or lost every comparison: half a win was added to both sides of every pair.")
    if any(s.rank_low != s.rank_high for s in scored.standings):
        lines.append("Ranks in brackets are the 95 % range: methods whose ranges overlap are not told apart.")
    if scored.flagged:
        who = ", ".join(f"{r} ({share:.0%})" for r, share in scored.flagged.items())
        lines.append(f"Flagged, more than a quarter of the attention checks wrong: {who}.")
    if scored.metrics:
        lines += ["", "Metrics against these votes:"]
        rows = [["Metric", "Pairs right", "95 %", "pairs", "beyond its noise", "pairs", "Spearman", "Kendall"]]
        for a in scored.metrics[:most]:
            rows.append(
                [
                    *(a.label, _n(a.accuracy, 2), f"{_n(a.low, 2)} to {_n(a.high, 2)}", str(a.pairs)),
                    *(_n(a.beyond, 2), str(a.beyond_pairs), _n(a.spearman, 2), _n(a.kendall, 2)),
                ]
            )
        lines += grid(rows, (0,))
        lines.append(
            "Pairs right: share of pairs of clips with a majority of 60 % in which the metric prefers the same. "
            f"Correlations are over methods, without controls; {len(scored.standings)} methods say little."
        )
    return "\n".join(lines)


def _n(value: float, digits: int) -> str:
    return "—" if math.isnan(value) else f"{value:.{digits}f}"


def as_json(scored: Sequence[Scored]) -> str:
    """Return everything as JSON; NaN is null, pairs are `first > second`."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k if isinstance(k, str) else " > ".join(k): plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if hasattr(value, "tolist"):
            return plain(value.tolist())
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps([plain(asdict(s)) for s in scored], indent=1, ensure_ascii=False) + "\n"
