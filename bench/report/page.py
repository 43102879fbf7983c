"""What the HTML page needs beyond its tables: scores per sample, media links, failures, curves."""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.report import decide, sheets
from bench.report.table import Column, told
from bench.results.media import may_copy
from bench.results.runs import Results, distinct, gate_order
from bench.results.summary import Summary
from bench.store.files import staged

EXTRA_BYTES = 1_000_000
"""How much of the page may be curves and spectrograms, so that a thousand clips stay below 2 MB."""

CURVES = ("mouth", "reference_mouth", "sync_curve")

SampleKey = tuple[str, str, str]
"""(dataset, split, sample)."""


@dataclass(frozen=True)
class Media:
    """Turns paths in the rows into links that work from the report's folder.

    Attributes:
        out: the report's folder.
        root: folder that relative paths are relative to, or None for the working directory.
        copy: whether files are copied into `out/media`.
    """

    out: Path
    root: Path | None
    copy: bool
    _folders: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def link(self, raw: str) -> str:
        """Return a percent-encoded relative link, or an empty string for an empty, missing or impossible path."""
        try:
            return self._link(raw) if raw else ""
        except (OSError, ValueError):  # too long, or with a null
            return ""

    def _link(self, raw: str) -> str:
        path = Path(raw) if self.root is None else self.root / raw
        if self.copy:
            if not may_copy(path, self.root):
                return ""
            # Blobs are named by content; other files may share a name, so their folder's name goes along.
            target = self.out / "media" / f"{path.parent.name}-{path.name}".lstrip(".-")
            if target.is_symlink() or not target.is_file() or target.stat().st_size != path.stat().st_size:
                with staged(target, within=self.out) as part:
                    shutil.copyfile(path, part)
            path = target
        return self._relative(str(path))

    def _relative(self, path: str) -> str:
        """Return a link to a file; most files of a run share their folders, whose links are followed once."""
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or _is_link(path):
            folder, name = os.path.split(os.path.realpath(path))
        if folder not in self._folders:
            found = os.path.relpath(os.path.realpath(folder), os.path.realpath(self.out))
            self._folders[folder] = "" if found == "." else quote(os.fsencode(found)) + "/"
        return self._folders[folder] + quote(os.fsencode(name))


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def rows_of(summary: Summary) -> list[tuple[str, str, bool]]:
    """Return (method, gate, whether it is a control or a stand-in), what is never ranked last."""
    results = summary.results
    rows = [(m, g, not results.competes(m, g)) for m, g in summary.rows_of()]
    return sorted(rows, key=lambda row: row[2])


def columns_of(summary: Summary, first: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return every (protocol, column) that has a value: those of `first`, then in order of the provenance."""
    scored = summary.columns_of(scored=True)
    known = set(scored)
    return list(dict.fromkeys([*(c for c in first if c in known), *scored]))


def payload(
    summary: Summary,
    media: Media,
    first: Sequence[tuple[str, str]] = (),
    known: decide.Known | None = None,
) -> dict[str, Any]:
    """Return the data behind the plots and players, as small as JSON gets.

    `rows` are methods under gates, `samples` the clips' ids with reference media, `metrics` the columns.
    `values[m][r]` lists the score of each sample (null: none; nothing for set metrics); `clips[r]` the link
    of each sample's clip; `why[r]` the reason of what is missing; `curves` what accompanies single clips;
    `sheet_frames` how many frames a strip of the contact sheet has; `decide` the means and paired
    differences, see `bench.report.decide`. Metrics come in the order of `first`, (protocol, column) pairs,
    then in that of the provenance. A metric's `noise` is the difference of means that re-encoding alone makes on
    this split, where that was measured. `known` as in `decide.differences`.
    """
    results = summary.results
    found = rows_of(summary)
    rows = [{"method": m, "gate": g, "control": control} for m, g, control in found]
    place = {(m, g): i for i, (m, g, _) in enumerate(found)}
    clips = distinct(results.rows, _OF_CLIPS)
    clips = clips[clips["kind"] == "clip"]
    key = ["dataset", "split", "sample"]
    firsts = clips.drop_duplicates(key).sort_values(key)
    order: dict[SampleKey, int] = {
        (str(d), str(s), str(i)): n for n, (d, s, i) in enumerate(firsts[key].itertuples(index=False, name=None))
    }
    media_of = _sample_media(clips, key)
    several = len({k[:2] for k in order}) > 1
    samples = [
        {
            "id": sample,
            "who": str(identity),
            "set": f"{dataset}/{split}" if several else "",
            "image": media.link(media_of["image_path"].get((dataset, split, sample), "")),
            "video": media.link(media_of["reference_path"].get((dataset, split, sample), "")),
        }
        for (dataset, split, sample), identity in zip(order, firsts["identity"], strict=True)
    ]
    columns = columns_of(summary, first)
    links, hashes = _clips(clips, place, order, media)
    return {
        "rows": rows,
        "samples": samples,
        "metrics": [_metric(summary, *column) for column in columns],
        "values": _values(summary, place, order, columns),
        "clips": links,
        "why": _why(clips, place, order),
        "curves": _curves(results.clips, hashes, media),
        "sheet_frames": sheets.FRAMES,
        "decide": decide.payload(summary, list(place), columns, known),
    }


_OF_CLIPS = [
    "kind", "method", "gate", "dataset", "split", "sample", "identity", "clip_path", "clip_sha256", "image_path",
    "reference_path", "status", "reason", "detail",
]  # fmt: skip
"""What of the rows is about a clip, and about what is missing of it."""


def _sample_media(clips: Any, key: Sequence[str]) -> dict[str, dict[SampleKey, str]]:
    found: dict[str, dict[SampleKey, str]] = {}
    for name in ("image_path", "reference_path"):
        given = clips[clips[name] != ""].drop_duplicates(key)
        found[name] = {
            (str(d), str(s), str(i)): str(p)
            for d, s, i, p in given[[*key, name]].itertuples(index=False, name=None)
        }
    return found


def _metric(summary: Summary, protocol: str, column: str) -> dict[str, Any]:
    about = summary.results.column(protocol, column)
    floor = (summary.results.provenance.get("floors") or {}).get(f"{protocol}|{column}", {}).get("same")
    noise = {"noise": float(f"{floor:.5g}")} if isinstance(floor, float) and math.isfinite(floor) else {}
    heading = Column(protocol, column, str(about["label"]), unit=str(about["unit"]), scale=float(about["scale"]))
    return {
        "id": f"{protocol}:{column}", "protocol": protocol, "label": heading.heading,
        "direction": about["direction"], "digits": about["digits"], "scale": about["scale"], **noise,
    }  # fmt: skip


def _values(
    summary: Summary,
    place: Mapping[tuple[str, str], int],
    order: Mapping[SampleKey, int],
    columns: Sequence[tuple[str, str]],
) -> list[list[list[float | None] | None]]:
    index = {column: m for m, column in enumerate(columns)}
    values: list[list[list[float | None] | None]] = [[None] * len(place) for _ in columns]
    for e in summary.estimates.values():
        if e.kind != "clip" or not e.n_ok:
            continue
        metric, row = index[e.cell.protocol, e.cell.column], place[e.cell.method, e.cell.gate]
        line = values[metric][row] or [None] * len(order)
        for sample, value in zip(e.samples, e.values.tolist(), strict=True):
            line[order[e.cell.dataset, e.cell.split, sample]] = float(f"{value:.5g}")
        values[metric][row] = line
    return values


def _clips(
    clips: Any, place: Mapping[tuple[str, str], int], order: Mapping[SampleKey, int], media: Media
) -> tuple[list[list[str]], dict[tuple[int, int], str]]:
    """Return links and clip digests of the first repeat of every (row, sample)."""
    names = ["method", "gate", "dataset", "split", "sample"]
    once = clips[clips["clip_path"] != ""].drop_duplicates(names)
    links = [[""] * len(order) for _ in place]
    hashes: dict[tuple[int, int], str] = {}
    for m, g, d, s, i, path, sha256 in once[[*names, "clip_path", "clip_sha256"]].itertuples(
        index=False, name=None
    ):
        row, sample = place[m, g], order[d, s, i]
        links[row][sample] = media.link(path)
        hashes[row, sample] = sha256
    return links, hashes


def _why(clips: Any, place: Mapping[tuple[str, str], int], order: Mapping[SampleKey, int]) -> list[dict[int, str]]:
    names = ["method", "gate", "dataset", "split", "sample", "reason"]
    lost = clips[clips["status"] != "ok"].drop_duplicates(names)
    why: list[dict[int, str]] = [{} for _ in place]
    for m, g, d, s, i, reason, status, detail in lost[[*names, "status", "detail"]].itertuples(
        index=False, name=None
    ):
        said = f"{reason or status}: {detail}" if detail else (reason or status)
        known = why[place[m, g]].get(order[d, s, i], "")
        why[place[m, g]][order[d, s, i]] = f"{known}; {said}" if known else said[:300]
    return why


def _curves(
    extras: Mapping[str, Mapping[str, Any]], hashes: Mapping[tuple[int, int], str], media: Media
) -> dict[str, Any]:
    """Return curves, spectrograms and contact sheets of the clips that have any, under `row,sample`.

    Equal lines and pictures are stored once and named by index. Clips beyond the page's budget go without.
    """
    of: dict[str, Any] = {}
    lines: dict[str, int] = {}
    pictures: dict[str, int] = {}
    spent = 0
    for (row, sample), sha256 in sorted(hashes.items(), key=lambda h: (h[0][1], h[0][0])):
        extra = extras.get(sha256)
        if not isinstance(extra, Mapping):
            continue
        kept: dict[str, Any] = {"fps": _number(extra.get("fps")) or 25}
        given = [(name, extra[name]) for name in CURVES if isinstance(extra.get(name), list)]
        drawn = {name: json.dumps([_number(v) for v in values], separators=(",", ":")) for name, values in given}
        mel = extra.get("mel")
        if isinstance(mel, str) and mel.startswith("data:image/png;base64,"):
            drawn["mel"] = mel
        for name, text in drawn.items():
            table = pictures if name == "mel" else lines
            if text not in table and spent + len(text) <= EXTRA_BYTES:
                table[text] = len(table)
                spent += len(text)
            if text in table:
                kept[name] = table[text]
        if isinstance(extra.get("sheet"), str):
            kept["sheet"] = media.link(extra["sheet"])
        place = extra.get("mouth_at")
        if isinstance(place, list) and len(place) == 2 and None not in (numbers := [_number(v) for v in place]):
            kept["mouth_at"] = numbers
        if len(kept) > 1:
            of[f"{row},{sample}"] = kept
    return {"of": of, "lines": [json.loads(line) for line in lines], "pictures": list(pictures)} if of else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


@dataclass(frozen=True)
class Failure:
    """Results that are missing for one reason.

    Attributes:
        code: reason or cause.
        status: `unscored` or `error`.
        detail: the explanation, see `bench.report.table.told`.
        total: number of rows.
        groups: per method and gate: name, protocols, sample ids (at most 40) and how many there are.
    """

    code: str
    status: str
    detail: str
    total: int
    groups: tuple[dict[str, Any], ...]


def failures(results: Results, most: int = 40) -> list[Failure]:
    """Group everything that is missing by reason and explanation, most frequent first."""
    wanted = ["status", "reason", "method", "gate", "detail", "sample", "protocol"]
    lost = results.rows.loc[results.rows["status"] != "ok", wanted]
    code = lost["reason"].where(lost["reason"] != "", lost["status"])
    lost = lost.assign(code=code, details=lost["detail"])
    counted = Counter(zip(lost["code"], lost["method"], lost["details"], strict=True))
    said = told((*key, count) for key, count in counted.items())
    lost["detail"] = [said[key] for key in zip(lost["code"], lost["method"], lost["details"], strict=True)]
    found = []
    for (status, reason, detail), part in lost.groupby(["status", "code", "detail"], sort=True):
        groups = []
        pairs = {(str(m), str(g)): rows for (m, g), rows in part.groupby(["method", "gate"])}
        for method, gate in sorted(pairs, key=lambda p: (*results.method_order(p[0]), *gate_order(p[1]))):
            rows = pairs[method, gate]
            samples = sorted(set(rows["sample"]) - {""})
            groups.append({
                "name": f"{method} ({gate})", "protocols": ", ".join(sorted(set(rows["protocol"]))),
                "samples": samples[:most], "count": len(samples) or len(rows),
            })  # fmt: skip
        found.append(Failure(str(reason), str(status), str(detail), len(part), tuple(groups)))
    return sorted(found, key=lambda f: (-f.total, f.code, f.detail))


def to_json(data: Any) -> str:
    """Return compact JSON that is safe inside a script element: no `<`, `>`, `&`, no line separators."""
    raw = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        raw = raw.replace(character, f"\\u{ord(character):04x}")
    return raw
