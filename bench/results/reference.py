"""References: the scores and digests of a run, kept in the repository for the gate. No media.

A reference is a folder `reports/reference/<name>/` with `rows.parquet`, `run.json` and, when it could be
measured, `noise.json`: how far an unchanged method moves between two runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.declaration import read_json
from bench.core.errors import MissingError, UsageError, did_you_mean
from bench.results import statistics
from bench.results.runs import PROVENANCE_FILE, REFERENCES, ROWS_FILE, Results, load, reference_folders
from bench.results.sensitivity import Sensitivity
from bench.results.summary import Cell, Summary
from bench.store.files import staged, write_bytes

NOISE_FILE = "noise.json"
FLOORS = ("seed", "determinism", "codec", "codec-cross")

Floors = Mapping[Cell, float]


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the difference between two runs of the same thing, per number.

    Attributes:
        seed: other seeds, one repeat each (what a change of numerics may move).
        determinism: same commit, same seeds, run again (what a pure refactor may move).
        codec: what changes that nobody notices do to a difference of methods written by one encoder; measured by
            `bench sensitivity`, of any method and gate.
        codec_cross: the same for methods from different encoders.
    """

    seed: Floors = field(default_factory=dict)
    determinism: Floors = field(default_factory=dict)
    codec: Floors = field(default_factory=dict)
    codec_cross: Floors = field(default_factory=dict)

    def floor(self, cell: Cell, kind: str = "", repeats: tuple[int, int] = (1, 1)) -> float:
        """Return a floor for a comparison of runs with so many repeats, NaN when it was not measured.

        Args:
            cell: the number.
            kind: `seed`, `determinism`, `codec`, `codec-cross`, or empty for the first of the first two.
            repeats: of the two runs; averaging repeats lowers the seed floor.
        """
        seed = self.seed.get(cell, math.nan) * math.sqrt((1 / repeats[0] + 1 / repeats[1]) / 2)
        rerun = self.determinism.get(cell, math.nan)
        if kind.startswith("codec"):
            floors = self.codec if kind == "codec" else self.codec_cross
            return floors.get(cell._replace(method="*", gate="*"), math.nan)
        if kind:
            return seed if kind == "seed" else rerun
        return seed if math.isfinite(seed) else rerun


def measure_noise(results: Results, rerun: Results | None = None) -> Noise:
    """Measure the seed floor from the repeats of `results` and the determinism floor from a rerun."""
    seed: dict[Cell, float] = {}
    rows = results.rows[results.rows["status"] == "ok"]
    if len(rows) and rows["repeat"].max() > 0:
        for key, group in rows.groupby(list(Cell._fields), observed=True, sort=True):
            values = [part.tolist() for _, part in group.groupby("sample", sort=True)["value"]]
            floor = statistics.seed_noise(values)
            if math.isfinite(floor):
                seed[Cell(*(str(k) for k in key))] = floor
    determinism: dict[Cell, float] = {}
    if rerun is not None:
        again = Summary(rerun).estimates
        for cell, first in Summary(results).estimates.items():
            second = again.get(cell)
            if second is None or not (math.isfinite(first.value) and math.isfinite(second.value)):
                continue
            if first.kind == "set":
                moved: Any = [second.value - first.value]
            else:
                common, mine, other = np.intersect1d(first.samples, second.samples, return_indices=True)
                moved = second.values[other] - first.values[mine] if len(common) else []
            determinism[cell] = statistics.rerun_noise(moved)
    return Noise(seed, determinism)


def save(results: Results, name: str, rerun: Results | None = None, folder: Path = REFERENCES) -> Path:
    """Write a reference and return its folder; an existing one of that name is replaced.

    Raises:
        UsageError: the name is not usable as a folder name, or there are no scores.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(f"'{name}' cannot be the name of a reference.", "Use letters, digits, '.', '_' and '-'.")
    if invented := [m for m in results.rows["method"].unique() if results.method_kind(m) == "stand-in"]:
        raise UsageError(
            f"{results.name} holds numbers of stand-in weights ({', '.join(invented)}): no reference.",
            "Run again without them, with --methods.",
        )
    if not (results.rows["status"] == "ok").any():
        raise UsageError(f"{results.name} holds no scores to keep.", "Type `bench run` first.")
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    paths = dict.fromkeys(("clip_path", "reference_path", "image_path", "audio_path"), "")
    rows = results.rows.assign(seconds=math.nan, **paths)
    with staged(target / ROWS_FILE, within=folder) as part:
        rows.to_parquet(part, index=False, compression="zstd")
    about = {k: v for k, v in results.provenance.items() if k != "rejected"}
    _write_json(target / PROVENANCE_FILE, about, folder)
    noise = measure_noise(results, rerun)
    if noise.seed or noise.determinism:
        _write_noise(target, noise, folder)
    else:
        (target / NOISE_FILE).unlink(missing_ok=True)
    return target


def add_floors(name: str, found: Sensitivity) -> Path:
    """Keep the floors of a sensitivity report with a reference of the same split; return the file.

    A floor is a bound at 97.5 %, and a noise file holds standard deviations: it is divided by 1.96.

    Raises:
        MissingError: there is no such reference.
        UsageError: the reference holds no numbers of that split.
    """
    results, noise = load_reference(name)
    known = results.rows[["domain", "dataset", "split"]].drop_duplicates().itertuples(index=False, name=None)
    places = [(str(domain), str(dataset), str(split)) for domain, dataset, split in known]
    mine = [place for place in places if place[2] == found.split]
    if not mine:
        raise UsageError(
            f"The reference '{name}' holds no numbers of {found.split}.",
            f"It holds {', '.join(sorted({place[2] for place in places}))}.",
        )
    wide = statistics.normal_quantile(0.95)
    cells = [(Cell(*place, "*", "*", c.protocol, c.column), c) for place in mine for c in found.columns]
    same = {cell: c.same / wide for cell, c in cells if math.isfinite(c.same)}
    cross = {cell: c.cross / wide for cell, c in cells if math.isfinite(c.cross)}
    kept = replace(noise, codec={**noise.codec, **same}, codec_cross={**noise.codec_cross, **cross})
    place = reference_folders().get(name, Path(name))
    return _write_noise(place, kept, place)


def _write_noise(folder: Path, noise: Noise, within: Path) -> Path:
    kinds = {kind: _records(getattr(noise, kind.replace("-", "_"))) for kind in FLOORS}
    path = folder / NOISE_FILE
    _write_json(path, {k: v for k, v in kinds.items() if v or not k.startswith("codec")}, within)
    return path


def _write_json(path: Path, data: Any, within: Path) -> None:
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(), within)


def _records(floors: Floors) -> list[dict[str, Any]]:
    return [{**cell._asdict(), "sigma": float(f"{sigma:.6g}")} for cell, sigma in sorted(floors.items())]


def load_reference(name: str) -> tuple[Results, Noise]:
    """Read a reference by name or path, with its noise floors.

    Raises:
        MissingError: there is none of that name.
    """
    known = reference_folders()
    path = known.get(name, Path(name))
    if not (path / ROWS_FILE).is_file():
        raise MissingError(
            f"There is no reference called '{name}'.{did_you_mean(name, sorted(known))}",
            f"Known: {', '.join(sorted(known)) or 'none'}. Make it: `bench reference save {_safe(name)}`.",
        )
    return load(path), _read_noise(path / NOISE_FILE)


def _safe(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9._-]+", name) else "NAME"


def _read_noise(path: Path) -> Noise:
    if not path.is_file():
        return Noise()
    data = read_json(path, dict[str, list[dict[str, Any]]])
    try:
        floors = [
            {Cell(*(str(r[f]) for f in Cell._fields)): float(r["sigma"]) for r in data.get(kind, [])}
            for kind in FLOORS
        ]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(f"{path} is not a noise file: {error!r}.", "Save the reference again.") from error
    return Noise(*floors)
