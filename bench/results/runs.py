"""Results: the rows of one or more runs together with their provenance.

A run folder holds `rows.parquet` (one row per method, gate, sample, repeat, protocol and column), `run.json`
(provenance) and, when the run produced them, `clips.json` (curves, spectrograms and contact sheets for the
HTML page, keyed by clip sha256).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from bench.core.declaration import parse_json, read_json
from bench.core.errors import MissingError, UsageError, did_you_mean
from bench.core.resources import data_folder
from bench.core.spec import GATES
from bench.store.home import Home

if TYPE_CHECKING:
    import pandas as pd

ROWS_FILE = "rows.parquet"
PROVENANCE_FILE = "run.json"
CLIPS_FILE = "clips.json"
MOST_DIGITS = 12  # that a column may be printed with

COLUMNS: Mapping[str, str] = {
    "kind": "str", "method": "str", "gate": "str", "dataset": "str", "split": "str", "domain": "str",
    "sample": "str", "identity": "str", "repeat": "int64", "protocol": "str", "column": "str",
    "value": "float64", "status": "str", "reason": "str", "detail": "str", "n_clips": "int64",
    "n_frames": "int64", "coverage": "float64", "low": "float64", "high": "float64", "floor": "float64",
    "clip_sha256": "str", "clip_path": "str", "reference_path": "str", "image_path": "str",
    "audio_path": "str", "seconds": "float64", "digest": "str",
    "adapted": "str", "halves": "str",
}  # fmt: skip
"""Every column of the rows and its type."""

_SORT = ["domain", "dataset", "split", "method", "gate", "protocol", "column", "sample", "repeat", "digest"]


class _Column(TypedDict, total=False):
    key: str
    label: str
    direction: Literal["higher", "lower", "none"]
    unit: str
    digits: int
    scale: float


class _Protocol(TypedDict, total=False):
    summary: str
    source: str
    version: str
    kind: str
    params: dict[str, Any]
    weights: dict[str, str]
    columns: list[_Column]


class _Method(TypedDict, total=False):
    version: str
    kind: str
    gates: list[str]
    summary: str
    note: str
    settings: dict[str, Any]
    weights: dict[str, str]


class _Floor(TypedDict):
    same: float
    cross: float


class Provenance(TypedDict, total=False):
    """What `run.json` may say, as far as it is read; a run folder can come from anybody."""

    command: str
    version: str
    commit: str
    created: str
    split: str
    domain: str
    samples: int
    seed: int
    repeats: int
    notes: list[str]
    protocols: dict[str, _Protocol]
    methods: dict[str, _Method]
    environment: dict[str, Any]
    hardware: list[Any]
    rejected: list[dict[str, Any]]
    counts: dict[str, int]
    runs: list[dict[str, Any]]
    floors: dict[str, _Floor]


@dataclass(frozen=True)
class Results:
    """Rows in canonical order plus what is needed to read them.

    Attributes:
        rows: data frame with exactly the columns of `COLUMNS`, sorted, index 0..n-1.
        provenance: the run's provenance (command, versions, protocols, methods, hardware, counts, ...).
        name: how to call these results in a sentence.
        folder: where they were read from; relative media paths are relative to it.
        clips: optional extras for the page per clip sha256: `fps`, `mouth` and `reference_mouth`
            (opening per frame), `sync_curve` (distance of sound and lips at offsets +15 to -15 frames), `mel`
            (PNG data URI), `mouth_at` (place of the mouth as shares of width and height), `sheet` (path of
            the clip's strip in the contact sheet).
    """

    rows: pd.DataFrame
    provenance: Mapping[str, Any]
    name: str = "results"
    folder: Path | None = None
    clips: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: pd.DataFrame, provenance: Mapping[str, Any], **rest: Any) -> Results:
        """Check, complete and sort `rows`.

        Raises:
            UsageError: a required column is missing or has the wrong type.
        """
        return cls(_canonical(rows.columns, rows.__getitem__), provenance, **rest)

    def method_kind(self, method: str) -> str:
        """Return the kind of `MethodSpec.kind`; unknown methods count as `model`."""
        return str(self.provenance.get("methods", {}).get(method, {}).get("kind", "model"))

    def competes(self, method: str, gate: str) -> bool:
        """Whether a row is ranked: controls and stand-in weights never are."""
        return gate != "none" and self.method_kind(method) not in ("control", "stand-in")

    def protocol(self, protocol: str) -> Mapping[str, Any]:
        """Return what the provenance says about a protocol id, or an empty mapping."""
        found: Mapping[str, Any] = self.provenance.get("protocols", {}).get(protocol, {})
        return found

    def column(self, protocol: str, key: str) -> Mapping[str, Any]:
        """Return label, direction, unit, digits and scale of a column, with plain defaults."""
        for column in self.protocol(protocol).get("columns", ()):
            if column.get("key") == key:
                return {**_PLAIN_COLUMN, "label": key, **column}
        return {**_PLAIN_COLUMN, "label": key}

    def method_order(self, method: str) -> tuple[int, str]:
        """Sort key: the order of the provenance, unknown methods last by name."""
        known = list(self.provenance.get("methods", {}))
        return (known.index(method) if method in known else len(known), method)

    def protocol_order(self, protocol: str, key: str) -> tuple[int, int, str, str]:
        """Sort key: the order in which the provenance lists protocols and their columns."""
        known = list(self.provenance.get("protocols", {}))
        keys = [c.get("key") for c in self.protocol(protocol).get("columns", ())]
        return (
            known.index(protocol) if protocol in known else len(known),
            keys.index(key) if key in keys else len(keys),
            protocol,
            key,
        )


_PLAIN_COLUMN = {"direction": "none", "unit": "", "digits": 3, "scale": 1.0}


def gate_order(gate: str) -> tuple[int, str]:
    """Sort key: audio, visual, audio+visual, none, then anything else by name."""
    known = list(GATES)
    return (known.index(gate) if gate in known else len(known), gate)


def _canonical(names: Collection[str], column: Callable[[str], pd.Series]) -> pd.DataFrame:
    """Return rows in canonical order; a million of them are text of half a gigabyte, so none is held twice.

    Args:
        names: the columns there are.
        column: gives one of them, of any type.
    """
    import numpy as np
    import pandas as pd

    required = {"kind", "method", "gate", "sample", "identity", "protocol", "column", "value", "status"}
    missing = sorted(required - set(names))
    if missing:
        raise UsageError(
            f"These rows lack the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
            "Give a run folder written by `bench run`, `bench score` or `bench reference save`.",
        )
    data = {name: _typed(column(name), kind) for name, kind in COLUMNS.items() if name in names}
    count = len(data["kind"])
    for name, kind in COLUMNS.items():
        if name not in data:
            empty: Any = "" if kind == "str" else (0 if kind == "int64" else float("nan"))
            data[name] = pd.Series(np.full(count, empty, dtype=object if kind == "str" else kind))
    order = np.lexsort([pd.factorize(data[name], sort=True)[0] for name in reversed(_SORT)])
    for name in COLUMNS:
        data[name] = data.pop(name).take(order).array
    frame = pd.DataFrame(data, copy=False)
    finite = frame["value"].abs() < float("inf")
    broken = (frame["status"] == "ok") & ~finite
    frame.loc[broken, ["status", "reason"]] = ["unscored", "not_finite"]
    frame.loc[frame["status"] != "ok", "value"] = float("nan")
    return frame


def _typed(column: pd.Series, kind: str) -> pd.Series:
    """Return a column as `str`, `int64` or `float64`, whatever it was; what is missing is empty."""
    import pandas as pd

    if kind != "str":
        numbers = pd.to_numeric(column, errors="coerce")
        return pd.Series((numbers.fillna(0) if kind == "int64" else numbers).to_numpy(dtype=kind))
    if column.dtype != "str":
        text = column.astype(object)
        column = pd.Series(text.where(text.notna(), "").astype(str).to_numpy(dtype=object))
    return column.fillna("")


def distinct(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the first row of every distinct combination of `columns`, and these only, in order.

    Compares numbers of texts: to copy the texts of a million rows first would take hundreds of megabytes.
    """
    import pandas as pd

    codes = pd.DataFrame({name: rows[name].factorize()[0] for name in columns}, copy=False)
    found: pd.DataFrame = rows[list(columns)].iloc[(~codes.duplicated()).to_numpy().nonzero()[0]]
    return found


def plain(value: object) -> str:
    """Return a provenance value as one line for people: `torch 2.9, numpy 2.4`; empty parts are left out."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(UsageError):
            value = parse_json(value, dict, "a value")
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items() if v not in ("", None))
    if isinstance(value, list | tuple):
        return "; ".join(plain(v) for v in value)
    return str(value)


def run_names(home: str | Path | None = None) -> list[str]:
    """Return the names of finished runs of the home, oldest first."""
    store = Home(home)
    store.bring_folder(store.runs, only=(ROWS_FILE, PROVENANCE_FILE, CLIPS_FILE))
    files = store.runs.glob(f"*/{ROWS_FILE}")
    return [f.parent.name for f in sorted(files, key=lambda f: (f.stat().st_mtime_ns, f.parent.name))]


REFERENCES = Path("reports/reference")
"""Where references are saved, relative to the working directory: they belong into the user's repository."""


def reference_folders() -> dict[str, Path]:
    """Return the saved references by name: those of the working directory hide the installed ones."""
    found: dict[str, Path] = {}
    for folder in (data_folder("reports") / "reference", REFERENCES):
        found |= {f.parent.name: f.parent for f in sorted(folder.glob(f"*/{ROWS_FILE}"))}
    return found


def locate(run: str, home: str | Path | None = None) -> Path:
    """Return the run folder (or rows file) that `run` names.

    `run` is a path to a run folder or a `.parquet` file, the name of a run under `<home>/runs`, `latest`, or
    the name of a saved reference.

    Raises:
        MissingError: there is no such run; the message lists what there is.
    """
    path = Path(run)
    if path.is_file() or (path / ROWS_FILE).is_file():
        return path
    names = run_names(home)
    if run == "latest" and names:
        return Home(home).runs / names[-1]
    if run in names:
        return Home(home).runs / run
    if run in (references := reference_folders()):
        return references[run]
    if run == "latest":
        raise MissingError(f"There is no finished run under {Home(home).runs}.", "Type `bench run` to make one.")
    if path.is_dir():
        raise MissingError(
            f"The folder {path} holds no {ROWS_FILE}, so it is not a finished run.",
            "Give a folder under <home>/runs, or type `bench run` again to finish it.",
        )
    newest = ", ".join(reversed(names[-5:])) or "none yet"
    raise MissingError(
        f"There is no run or file called '{run}'.{did_you_mean(run, [*names, *references, 'latest'])}",
        f"Runs under {Home(home).runs}: {newest}.",
    )


def load(run: str | Path, home: str | Path | None = None) -> Results:
    """Read the results of a run; see `locate` for what `run` may be.

    Raises:
        MissingError: no such run.
        UsageError: the files are there but unreadable.
    """
    import pyarrow.parquet

    path = locate(str(run), home)
    folder = path if path.is_dir() else path.parent
    try:
        with pyarrow.parquet.ParquetFile(path / ROWS_FILE if path.is_dir() else path) as file:
            rows = _canonical(file.schema_arrow.names, lambda name: file.read([name]).column(0).to_pandas())
    except UsageError:
        raise
    except Exception as error:  # pyarrow and pandas raise many kinds for damaged files, some of them their own
        raise UsageError(f"{path} cannot be read as Parquet rows: {error}") from error
    provenance = read_provenance(folder / PROVENANCE_FILE)
    clips = read_json(folder / CLIPS_FILE, dict[str, dict[str, Any]]) if (folder / CLIPS_FILE).is_file() else {}
    return Results(rows, provenance, name=folder.name, folder=folder.resolve(), clips=clips)


def read_provenance(path: Path) -> Provenance:
    """Read the `run.json` of a run folder, empty where there is none.

    Raises:
        UsageError: it is damaged.
    """
    if not path.is_file():
        return {}
    found = read_json(path, Provenance)
    for name, protocol in found.get("protocols", {}).items():
        for column in protocol.get("columns", ()):
            if not 0 <= column.get("digits", 0) <= MOST_DIGITS:
                raise UsageError(f"{path}: protocols.{name}: digits must lie in 0..{MOST_DIGITS}.")
    return found


def merge(parts: Sequence[Results]) -> Results:
    """Put several runs into one set of results.

    Rows with the same digest are the same result and are kept once. Where two runs hold different results
    for one method, the method is called `name @ run` in each, and where they hold two versions of it, its version
    stands with its name, so that a table never mixes them.
    """
    import pandas as pd

    if len(parts) == 1:
        return parts[0]
    parts = _with_versions(parts)
    names = [part.name for part in parts]
    labels = [n if names.count(n) == 1 else f"{n} #{i + 1}" for i, n in enumerate(names)]
    place = ["method", "gate", "dataset", "split", "sample", "repeat", "protocol", "column"]
    rows = pd.concat(
        [
            _with_absolute_media(part.rows, part).assign(run=label)
            for part, label in zip(parts, labels, strict=True)
        ],
        ignore_index=True,
    )
    distinct = rows.drop_duplicates([*place, "digest", "value", "status"])
    clash = set(distinct.loc[distinct.duplicated(place, keep=False), "method"])
    rows["method"] = rows["method"].where(~rows["method"].isin(clash), rows["method"] + " @ " + rows["run"])
    rows = rows.drop_duplicates(place)
    methods: dict[str, Any] = {}
    protocols: dict[str, Any] = {}
    for part, label in zip(parts, labels, strict=True):
        for method, about in part.provenance.get("methods", {}).items():
            methods.setdefault(f"{method} @ {label}" if method in clash else method, about)
        for protocol, about in part.provenance.get("protocols", {}).items():
            known = protocols.setdefault(protocol, about)
            if known.get("weights", {}) != about.get("weights", {}) or known.get("params", {}) != about.get(
                "params", {}
            ):
                raise UsageError(
                    f"The runs {', '.join(names)} scored '{protocol}' with different parameters or weights, "
                    "so their numbers cannot stand in one table.",
                    "Report them separately, or run `bench score` again on the older one.",
                )
    provenance = {
        **parts[-1].provenance,
        "methods": methods,
        "protocols": protocols,
        "runs": [{"name": p.name, **_origin(p.provenance)} for p in parts],
        "counts": _sum_counts(rows),
        "notes": list(dict.fromkeys(n for p in parts for n in p.provenance.get("notes", ()))),
        "rejected": [r for p in parts for r in p.provenance.get("rejected", ())],
        "hardware": list(dict.fromkeys(str(h) for p in parts for h in p.provenance.get("hardware", ()))),
    }
    clips = {sha: _with_absolute_sheet(extra, part) for part in parts for sha, extra in part.clips.items()}
    return Results.from_rows(
        rows.drop(columns="run"), provenance, name=" + ".join(names), folder=parts[-1].folder, clips=clips
    )


def _with_versions(parts: Sequence[Results]) -> list[Results]:
    """Let methods of which the runs hold different versions be called `name version`."""
    made: dict[str, set[str]] = {}
    for part in parts:
        for name, about in part.provenance.get("methods", {}).items():
            made.setdefault(name, set()).add(str(about.get("version", "")))
    several = {name for name, versions in made.items() if len(versions) > 1}

    def renamed(part: Results) -> Results:
        methods = part.provenance.get("methods", {})
        names = {n: f"{n} {a.get('version', '')}".strip() if n in several else n for n, a in methods.items()}
        provenance = {**part.provenance, "methods": {names[name]: about for name, about in methods.items()}}
        rows = part.rows.assign(method=part.rows["method"].map(lambda name: names.get(name, name)))
        return dataclasses.replace(part, rows=rows, provenance=provenance)

    return [renamed(part) for part in parts] if several else list(parts)


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {k: provenance[k] for k in ("command", "version", "commit", "created", "split") if k in provenance}


def _sum_counts(rows: pd.DataFrame) -> dict[str, int]:
    counts = rows["status"].value_counts()
    return {"planned": len(rows), **{s: int(counts.get(s, 0)) for s in ("ok", "unscored", "error")}}


def _with_absolute_sheet(extra: Mapping[str, Any], part: Results) -> Mapping[str, Any]:
    if part.folder is None or not isinstance(extra.get("sheet"), str):
        return extra
    return {**extra, "sheet": str(part.folder / extra["sheet"])}


def _with_absolute_media(rows: pd.DataFrame, part: Results) -> pd.DataFrame:
    if part.folder is None:
        return rows
    folder = str(part.folder)
    paths = ["clip_path", "reference_path", "image_path", "audio_path"]
    made = {
        name: rows[name].map({p: str(Path(folder) / p) if p else "" for p in rows[name].unique()})
        for name in paths
    }
    return rows.assign(**made)
