"""Made-up run folders of any size, in the format that `bench run` writes.

`python tests/performance/large_runs.py FOLDER CLIPS METHODS [METRIC...]` writes `rows.parquet` and `run.json`:
METHODS methods under three control signals, and a ground truth, over CLIPS clips of half as many people, scored
with the metrics of real faces that are named, or with the default ones. One method fails on every fiftieth clip,
and one metric finds no speech in every fortieth.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.catalogue import choose_metrics
from bench.core.spec import GATES, MetricSpec
from bench.results.runs import PROVENANCE_FILE, ROWS_FILE
from bench.results.subsets import Halves
from bench.run.rows import COLUMNS

SPLIT = {"dataset": "large", "split": "test", "domain": "real"}
SIGNALS = [name for name in GATES if name != "none"]


def write(folder: Path, clips: int, methods: int, metrics: list[str] | None = None) -> int:
    """Write a run of `clips` clips under `methods` x 3 + 1 rows of a table; return its number of rows."""
    specs = [metric.spec for metric in choose_metrics("real", metrics)]
    rng = np.random.default_rng(clips)
    names = [f"method-{i}" for i in range(methods)]
    cells = [(name, gate) for name in names for gate in SIGNALS] + [("ground-truth", "none")]
    samples = pd.DataFrame({"sample": [f"clip{i:06d}" for i in range(clips)]})
    samples["identity"] = [f"person{i // 2:06d}" for i in range(clips)]
    for role, suffix in (("reference", "mp4"), ("image", "png"), ("audio", "wav")):
        samples[f"{role}_path"] = [f"/data/large/{name}.{suffix}" for name in samples["sample"]]
    levels = {(s.id, c.key): 10 * rng.random() for s in specs for c in s.columns}
    frames = []
    for place, cell in enumerate(cells):
        shas = [_digest(cell, i) for i in range(clips)]
        paths = [f"/home/user/.bench/blobs/{sha[:2]}/{sha}.mp4" for sha in shas]
        made = samples.assign(clip_sha256=shas, clip_path=paths)
        frames += [_rows(s, cell, place, made, levels, rng) for s in specs]
    rows = pd.concat(frames, ignore_index=True).reindex(columns=list(COLUMNS))
    text = [c for c in COLUMNS if rows[c].dtype.kind not in "if"]
    rows[text] = rows[text].fillna("")
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / ROWS_FILE, index=False)
    (folder / PROVENANCE_FILE).write_text(json.dumps(_provenance(specs, names, rows)), encoding="utf-8")
    return len(rows)


def _rows(
    spec: MetricSpec,
    cell: tuple[str, str],
    place: int,
    made: pd.DataFrame,
    levels: dict[tuple[str, str], float],
    rng: np.random.Generator,
) -> pd.DataFrame:
    about: dict[str, Any] = {
        **SPLIT,
        "kind": spec.kind,
        "method": cell[0],
        "gate": cell[1],
        "repeat": 0,
        "protocol": spec.id,
    }
    parts = []
    for column in spec.columns:
        level = levels[spec.id, column.key] * (1 + 0.02 * place)
        if spec.kind == "set":
            halves = Halves("0" * 12, len(made) // 2, tuple((level + 0.1 * rng.random(10)).tolist()))
            scored: dict[str, Any] = {
                "value": [level], "low": level - 0.1, "high": level + 0.1, "floor": 0.2,
                "n_clips": float(len(made)), "n_frames": 75.0 * len(made), "halves": halves.text(), "status": "ok",
                "digest": _digest(cell, spec.id), "sample": "", "identity": "",
            }  # fmt: skip
            parts.append(pd.DataFrame({**about, **scored, "column": column.key, "coverage": 1.0, "seconds": 9.0}))
            continue
        part = made.assign(**about, column=column.key, value=level + rng.normal(size=len(made)))
        part = part.assign(
            n_clips=1.0, n_frames=75.0, coverage=1.0, seconds=0.5, status="ok", reason="", detail=""
        )
        part["digest"] = [_digest(sha, spec.id) for sha in made["clip_sha256"]]
        number = np.arange(len(made))
        if place == 3:
            part.loc[number % 50 == 7, ["status", "reason", "detail"]] = "error", "method", "ValueError: no face"
        if spec.id.startswith("sync"):
            lost = number % 40 == 3
            part.loc[lost, ["status", "reason", "detail"]] = "unscored", "no_speech", "loudness is below threshold"
        part.loc[part["status"] != "ok", ["value", "n_clips"]] = np.nan, 0.0
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _provenance(specs: list[MetricSpec], methods: list[str], rows: pd.DataFrame) -> dict[str, Any]:
    kinds = [*((name, "model", SIGNALS) for name in methods), ("ground-truth", "control", ("none",))]
    return {
        "command": "bench run --split large", "version": "0", "commit": "0" * 7, "split": "large",
        "domain": "real", "seed": 0, "repeats": 1,
        "counts": {"planned": len(rows), "ok": int((rows["status"] == "ok").sum())},
        "methods": {name: {"version": "1", "kind": kind, "gates": list(gates)} for name, kind, gates in kinds},
        "protocols": {
            spec.id: {
                "summary": spec.summary, "source": spec.source, "version": spec.version, "kind": spec.kind,
                "columns": [dataclasses.asdict(column) for column in spec.columns],
            }
            for spec in specs
        },
    }  # fmt: skip


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] or None))
