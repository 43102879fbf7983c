"""Tables and plots of a sensitivity report: text, Markdown, CSV, JSON and one page with a chart per curve."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from bench.results.sensitivity import VERDICTS, Column, Curve, Point, Sensitivity
from bench.store.files import write_bytes

HEADS = (
    "column",
    "unit",
    "floor",
    "across codecs",
    "worst",
    "reacts to",
    "near the noise",
    "blind to",
    "inverted by",
)
MARKS: Mapping[str, str] = {
    "reacts": "#2b7a4b",
    "noise-bound": "#b8860b",
    "saturates": "#5a8f2b",
    "not monotone": "#7a5ea8",
    "blind": "#9aa0a6",
    "inverted": "#b3261e",
    "breaks": "#5f1512",
}


def rows(found: Sensitivity, directed: bool = False) -> list[list[str]]:
    """Return one line per column, in the order of `HEADS`.

    Args:
        found: the report.
        directed: only columns that have a better and a worse.
    """
    lines = []
    for column in found.columns:
        if directed and column.direction == "none":
            continue
        curves = found.curves_of(column)
        if not curves:
            continue

        def named(*verdicts: str, curves: Sequence[Curve] = curves) -> str:
            return ", ".join(f"{c.ladder}{_from(c)}" for c in curves if c.verdict in verdicts) or "–"

        inverted, lost = named("inverted"), named("breaks")
        worse = "; ".join(text for text in (inverted, f"no value under {lost}") if not text.endswith("–")) or "–"

        lines.append(
            [
                column.label,
                _unit(column),
                column.show(column.same),
                column.show(column.cross),
                column.worst or "–",
                named("reacts", "saturates"),
                named("noise-bound", "not monotone"),
                named("blind"),
                worse,
            ]
        )
    return lines


def _unit(column: Column) -> str:
    scale = "" if column.scale == 1 else f"×{1 / column.scale:g} "
    return f"{scale}{column.unit}".strip() or "–"


def _from(curve: Curve) -> str:
    """Say from which level on, e.g. ` ≥ 2 px`."""
    if curve.verdict not in ("reacts", "saturates") or math.isnan(curve.threshold):
        return ""
    falling = len(curve.points) > 1 and curve.points[0].value > curve.points[-1].value
    unit = "" if curve.unit in ("", "×") else f" {curve.unit}"
    full = ", then no more" if curve.verdict == "saturates" else ""
    return f" {'≤' if falling else '≥'} {curve.threshold:g}{unit}{full}"


def text(found: Sensitivity) -> str:
    """Return floors and reactions of columns that have a better and a worse, a few lines for each."""
    lines = []
    for label, unit, same, cross, worst, *reactions in rows(found, directed=True):
        about = "" if unit == "–" else f" {unit}"
        lines.append(f"{label}: floor {same}{about} ({worst}), across codecs {cross}")
        lines += [f"    {head}: {cell}" for head, cell in zip(HEADS[5:], reactions, strict=True) if cell != "–"]
    return "\n".join([*lines, "", *notes(found)])


def markdown(found: Sensitivity, directed: bool = True) -> str:
    """Return the table with what stands beneath it, as Markdown."""
    lines = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows(found, directed)
    ]
    return "\n".join([*lines, "", *notes(found), ""])


def notes(found: Sensitivity) -> list[str]:
    """Return the sentences that stand beneath the table."""
    return [
        f"{found.split}: {len(found.clips)} clips of {found.identities} "
        f"{'identity' if found.identities == 1 else 'identities'}, seed {found.seed}.",
        "floor: a smaller difference of two methods written by one encoder is noise; across codecs: the same when "
        "their files come from different encoders; worst: the invisible change behind the floor.",
        "reacts to: by three floors or more, in step with the damage, from the level given on; near the noise: by "
        "one to three floors, or not in step; blind to: by less than a floor; inverted by: damage improves the "
        "score.",
        *found.notes,
    ]


def floors_csv(found: Sensitivity) -> str:
    """Return the floors, one line per column and group of invisible changes; values are unscaled."""
    heads = ["protocol", "column", "group", "same", "cross", "clip", "worst", "base", "clips"]
    lines: list[list[object]] = []
    for c in found.columns:
        lines.append([c.protocol, c.column, "all", c.same, c.cross, c.clip, c.worst, c.base, c.clips])
        lines += [
            [c.protocol, c.column, group, a, b, "", "", "", ""] for group, (a, b) in sorted(c.groups.items())
        ]
    return _csv(heads, lines)


def curves_csv(found: Sensitivity) -> str:
    """Return the curves, one line per column, ladder and level; values are unscaled."""
    heads = ["protocol", "column", "ladder", "unit", "level", "value", "mean", "bias", "low", "high", "floors"]
    heads += ["clips", "lost", "verdict", "threshold", "tau"]
    lines = [
        [
            *(c.protocol, c.column, c.ladder, c.unit, p.level, p.value, p.mean, p.bias, p.low, p.high, p.response),
            *(p.clips, p.lost, c.verdict, c.threshold, c.tau),
        ]
        for c in found.curves
        for p in c.points
    ]
    return _csv(heads, lines)


def _csv(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([[f"{v:.9g}" if isinstance(v, float) else v for v in line] for line in lines])
    return buffer.getvalue()


def chart(column: Column, curve: Curve, width: int = 168, height: int = 96) -> str:
    """Return one curve as SVG: change against level, its interval, and the floor as a band."""
    points = [p for p in curve.points if not math.isnan(p.bias)]
    floor = column.same if math.isfinite(column.same) else 0.0
    reach = (
        max([floor, *(abs(v) for p in points for v in (p.low, p.high, p.bias) if math.isfinite(v))]) * 1.1 or 1.0
    )
    left, top, bottom = 6, 18, height - 14
    middle, unit = (top + bottom) / 2, (bottom - top) / 2 / reach
    step = (width - 2 * left) / 5

    def at(point: Point | None, value: float) -> str:
        level = 0 if point is None else point.level
        return f"{left + step * level:.1f},{middle - unit * value:.1f}"

    path = " ".join([at(None, 0), *(at(p, p.bias) for p in points)])
    band = unit * floor
    bars = "".join(
        f'<path d="M{at(p, p.low)} L{at(p, p.high)}"/>' for p in points if math.isfinite(p.low + p.high)
    )
    dots = "".join(
        f'<circle cx="{at(p, p.bias).split(",")[0]}" cy="{at(p, p.bias).split(",")[1]}" r="2.4">'
        f"<title>{escape(_point_title(column, curve, p))}</title></circle>"
        for p in points
    )
    colour = MARKS.get(curve.verdict, "#444")
    return (
        f'<svg class="curve" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(f"{column.label} under {curve.ladder}: {curve.verdict}", quote=True)}">'
        f'<text x="{left}" y="11" font-size="10">{escape(curve.ladder)}</text>'
        f'<text x="{width - left}" y="11" font-size="9" text-anchor="end" fill="{colour}">'
        f"{escape(curve.verdict)}</text>"
        f'<rect class="floor" x="{left}" y="{middle - band:.1f}" width="{width - 2 * left}" '
        f'height="{max(2 * band, 0.8):.1f}" fill="#8884"/>'
        f'<g stroke="{colour}" fill="none"><polyline points="{path}"/>{bars}</g><g fill="{colour}">{dots}</g>'
        f'<text x="{left}" y="{height - 3}" font-size="9">{escape(_span(curve))}</text></svg>'
    )


def _span(curve: Curve) -> str:
    if not curve.points:
        return ""
    return f"{curve.points[0].value:g} … {curve.points[-1].value:g} {curve.unit}".strip()


def _point_title(column: Column, curve: Curve, p: Point) -> str:
    floors = "∞" if math.isinf(p.response) else f"{p.response:.1f}"
    return (
        f"{p.value:g} {curve.unit}: {column.show(p.mean)} (change {column.show(p.bias)}, "
        f"{column.show(p.low)} to {column.show(p.high)}), {floors} floors, {p.clips} clips"
    )


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1d1d1f}
body{background:#fff}
table{border-collapse:collapse;font-size:13px}th,td{padding:.25rem .6rem;text-align:left;vertical-align:top}
th{border-bottom:2px solid #888}td{border-bottom:1px solid #8883}
.n{text-align:right;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}.charts{display:flex;flex-wrap:wrap;gap:.3rem}.curve{background:#8881;border-radius:4px}
.curve text{fill:currentColor}h2{margin-top:2.2rem}h3{margin:1.4rem 0 .3rem;font-size:1rem}small{color:#666}
@media(prefers-color-scheme:dark){body{background:#161618;color:#e6e6e8}small{color:#a0a0a6}}
""".strip()


def page(found: Sensitivity) -> str:
    """Return the HTML page: the table, then a chart for every column and ladder; nothing is loaded."""
    head = "".join(f"<th>{escape(h)}</th>" for h in HEADS)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{"n" if 2 <= i <= 3 else ""}">{escape(cell)}</td>' for i, cell in enumerate(row))
        + "</tr>"
        for row in rows(found)
    )
    legend = "".join(
        f'<li><b style="color:{MARKS[name]}">{escape(name)}</b>: {escape(meaning)}</li>'
        for name, meaning in VERDICTS.items()
    )
    charts = "".join(
        f"<h3>{escape(c.label)} <small>{escape(c.protocol)}, floor {escape(c.show(c.same))} "
        f"{escape(_unit(c).replace('–', ''))}</small></h3>"
        f'<div class="charts">{"".join(chart(c, curve) for curve in found.curves_of(c))}</div>'
        for c in found.columns
        if found.curves_of(c)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Sensitivity: {escape(found.split)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>What a difference means on {escape(found.split)}</h1>"
        + "".join(f"<p>{escape(note)}</p>" for note in notes(found))
        + f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"<h2>Curves</h2><p>Change of the score against the level of the damage; the band is the floor.</p>"
        f"<ul>{legend}</ul>{charts}</body></html>\n"
    )


def write(found: Sensitivity, folder: Path) -> dict[str, Path]:
    """Write every format into a folder and return the files."""
    text = {
        "sensitivity.json": json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n",
        "floors.csv": floors_csv(found),
        "curves.csv": curves_csv(found),
        "sensitivity.md": markdown(found, directed=False),
        "sensitivity.html": page(found),
    }
    for name, content in text.items():
        write_bytes(folder / name, content.encode())
    return {name.partition(".")[2] if name.startswith("s") else name: folder / name for name in text}
