"""Rows: one line per (method, gate, sample, repeat, protocol, column), for pandas and DuckDB."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalogue import Unavailable
from bench.core.keys import digest
from bench.core.spec import Column, MetricSpec
from bench.execute.scheduler import Failure
from bench.execute.tasks import IngestTask
from bench.results.subsets import Halves
from bench.run.artefacts import Cell
from bench.run.flow import Flow
from bench.run.plan import Job

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "kind", "method", "gate", "dataset", "split", "domain", "sample", "identity", "repeat", "protocol", "column",
    "value", "status", "reason", "detail", "n_clips", "n_frames", "coverage", "low", "high", "floor",
    "clip_sha256", "clip_path", "reference_path", "image_path", "audio_path", "seconds", "digest",
    "adapted", "halves",
)  # fmt: skip
NO_CLIP = "no_clip"  # reason of a set metric's row when no clip of its cell could be made


def build_rows(flow: Flow, failures: Sequence[Failure], missing: Sequence[Unavailable]) -> pd.DataFrame:
    """Return every number of a run, and a row for every number that should be there and is not.

    Args:
        flow: the run's records.
        failures: tasks given up on.
        missing: metrics that cannot run on this machine.
    """
    import pandas as pd

    given_up = {failure.task.key: failure for failure in failures}
    rows: list[dict[str, Any]] = []
    for job, (method, gate, repeat) in zip(flow.plan.jobs, flow.plan.cells, strict=True):
        base = _base(flow, job) | {"method": method, "gate": gate, "repeat": repeat}
        rows += _clip_rows(flow, job, base, given_up, missing)
    for cell in dict.fromkeys(flow.plan.cells):
        rows += _set_rows(flow, cell, given_up, missing)
    names = _names(flow)
    for row in rows:
        if row["detail"]:
            row["detail"] = _BLOB.sub(lambda found: names.get(found[1], "the clip"), row["detail"])
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ["value", "n_clips", "n_frames", "coverage", "low", "high", "floor", "seconds"]
    for name in (c for c in COLUMNS if c not in ("repeat", *numbers)):  # Parquet takes no name that is not UTF-8
        frame[name] = [str(text).encode("utf-8", "backslashreplace").decode() for text in frame[name]]
    return frame.astype(dict.fromkeys(numbers, "float64"))


_BLOB = re.compile(r"\b([0-9a-f]{64})\.\w+")
"""How the store calls a clip, which tells a reader nothing."""


def _names(flow: Flow) -> dict[str, str]:
    """Return what to call the clips of a run, by content: the user's file, or whose clip it is."""
    names: dict[str, str] = {}
    for job in flow.plan.jobs:
        record = flow.generated.get(job.key)
        if record is not None and record["status"] == "ok":
            made = f"{job.sample.id} by {job.method}"
            named = job.path.name if isinstance(job, IngestTask) and job.path is not None else made
            names.setdefault(record["clip"]["sha256"], named)
    return names


def _base(flow: Flow, job: Job) -> dict[str, Any]:
    split = flow.plan.split
    sample = flow.sample(job)
    record = flow.generated.get(job.key)
    clip = flow.stored(job, record) if record is not None and record["status"] == "ok" else None
    return {
        "kind": "clip",
        "dataset": sample.dataset,
        "split": split.name,
        "domain": split.domain,
        "sample": sample.id,
        "identity": sample.identity,
        "clip_sha256": clip.sha256 if clip else "",
        "clip_path": str(clip.path) if clip else "",
        # To look at: what browsers play, where there is such a copy of the ground truth.
        "reference_path": _text(sample.reference and (sample.video or sample.reference)),
        "image_path": _text(sample.image),
        "audio_path": _text(sample.audio),
        "reason": "",
        "detail": "",
        "adapted": flow.adapted(job),
    }


def _clip_rows(
    flow: Flow,
    job: Job,
    base: Mapping[str, Any],
    given_up: Mapping[str, Failure],
    missing: Sequence[Unavailable],
) -> Iterable[dict[str, Any]]:
    generated = flow.generated.get(job.key)
    for spec, record in flow.clip_scores(job):
        if record is not None:
            found = _recorded(base, spec, record, (generated or {}).get("notes", ()))
            # A column that is not about this call, as speed after a warm-up, is no missing result.
            yield from (row for row in found if "record" not in spec.needs or row["reason"] != "not_finite")
        else:
            failures = (given_up.get(key) for key in flow.task_keys(job, spec))
            yield from _failed(base, spec, generated, next(filter(None, failures), None))
    for item in missing:
        if item.spec.kind == "clip" and not item.spec.remade:
            yield from _unscored(base, item)


def _set_rows(
    flow: Flow, cell: Cell, given_up: Mapping[str, Failure], missing: Sequence[Unavailable]
) -> Iterable[dict[str, Any]]:
    method, gate, repeat = cell
    split = flow.plan.split
    base = {
        "kind": "set", "method": method, "gate": gate, "repeat": repeat, "dataset": split.samples[0].dataset,
        "split": split.name, "domain": split.domain, "sample": "", "identity": "", "reason": "", "detail": "",
        "clip_sha256": "", "clip_path": "", "reference_path": "", "image_path": "", "audio_path": "",
        "adapted": "; ".join(sorted({w for job in flow.pairs(cell) if (w := flow.adapted(job))})),
    }  # fmt: skip
    jobs = [job for job in flow.cell_jobs[cell] if flow.sample(job).reference is not None]
    made = len(flow.pairs(cell)) / len(jobs) if jobs else 0.0
    for spec, key, record in flow.cell_sets(cell):
        if record is not None:
            for row in _recorded(base, spec, record):
                halves = _halves(flow, cell, record, row["column"])
                yield row | {"coverage": row["coverage"] * made, "halves": halves}
        elif not flow.is_hopeless(cell):
            yield from _failed(base, spec, None, given_up.get(key))
        else:
            nothing = {
                "status": "error",
                "cause": NO_CLIP,
                "detail": "no clip could be made; see the other columns",
            }
            yield from _failed(base, spec, nothing, None)
    for item in missing:
        if item.spec.kind == "set":
            yield from _unscored(base, item)


def _recorded(
    base: Mapping[str, Any], spec: MetricSpec, record: Mapping[str, Any], notes: Sequence[str] = ()
) -> Iterable[dict[str, Any]]:
    values = record.get("values", {})
    for column in spec.columns:
        value = values.get(column.key)
        row = _row(base, spec, column) | {
            "status": record["status"],
            "reason": record.get("reason", ""),
            "detail": "; ".join(
                filter(None, (record.get("detail", ""), *(notes if record["status"] == "ok" else ())))
            ),
            "value": _number(value),
            "n_clips": _number(values.get("n_clips", 1 if record["status"] == "ok" else 0)),
            "n_frames": _number(values.get("n_frames")),
            "coverage": _number(values.get("coverage")),
            "low": _number(values.get(f"{column.key}.low")),
            "high": _number(values.get(f"{column.key}.high")),
            "floor": _number(values.get(f"{column.key}.floor")),
            "seconds": record.get("seconds", math.nan),
            "digest": record.get("key", ""),
        }
        if record["status"] == "ok" and value is None:
            row |= {"status": "unscored", "reason": "not_finite"}
        yield row


def _halves(flow: Flow, cell: Cell, record: Mapping[str, Any], column: str) -> str:
    """Return a set metric's values over its subsamples, as `bench.results.subsets` reads them."""
    values = record.get("values", {})
    drawn = [v for n in range(10) if (v := values.get(f"{column}.half{n}")) is not None]
    if len(drawn) < 2 or "halves_of" not in values:
        return ""
    samples = [flow.sample(job) for job in flow.pairs(cell)]
    of = digest([values["halves_of"], [(s.id, s.digests["reference"]) for s in samples]])
    return Halves(of[:12], len({s.identity for s in samples}), tuple(drawn)).text()


def _failed(
    base: Mapping[str, Any], spec: MetricSpec, generated: Mapping[str, Any] | None, failure: Failure | None
) -> Iterable[dict[str, Any]]:
    if generated is not None and generated["status"] != "ok":
        reason, detail = generated["cause"], generated["detail"]
    elif failure is not None:
        reason, detail = str(failure.cause), failure.detail
    else:
        reason, detail = "not_run", "the run stopped before this; run the same command again"
    for column in spec.columns:
        yield _row(base, spec, column) | {"status": "error", "reason": reason, "detail": detail}


def _unscored(base: Mapping[str, Any], item: Unavailable) -> Iterable[dict[str, Any]]:
    for column in item.spec.columns:
        yield _row(base, item.spec, column) | {
            "status": "unscored",
            "reason": str(item.reason),
            "detail": item.detail,
        }


def _row(base: Mapping[str, Any], spec: MetricSpec, column: Column) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "n_frames", "coverage", "low", "high", "floor", "seconds"), math.nan)
    return {**base, **empty, "halves": "", "protocol": spec.id, "column": column.key, "n_clips": 0, "digest": ""}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
