"""What the verbs do, for Python: run, score, load, and look at what came of it.

    import bench

    result = bench.run("folder:clips", methods=["ground-truth", MyMethod], metrics=["sync", "csim"])
    result.rows                  # a pandas data frame, one row per clip and number
    result.tables                # in a notebook: the tables
    result.compare("last-week")  # paired differences with intervals

The command line calls the same functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UsageError
from bench.run.drive import Execution, Progress, RunResult, execute
from bench.store.home import Home

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.table import Table
    from bench.results.compare import Difference
    from bench.results.gate import Outcome
    from bench.results.runs import Results

Step = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        results: rows and provenance, see `bench.results.runs.Results`.
        outcome: what happened when it was made (planned, made, failed, failures), None for a loaded one.
    """

    results: Results
    outcome: RunResult | None = None

    @property
    def rows(self) -> pd.DataFrame:
        """One row per method, gate, sample, repeat, protocol and column."""
        return self.results.rows

    @property
    def folder(self) -> Path:
        """Where rows, provenance and reports lie."""
        assert self.results.folder is not None, "runs are read from folders"
        return self.results.folder

    @property
    def tables(self) -> Tables:
        """The tables of the recipe `full`; see `table` for others."""
        return self.table()

    def table(self, recipe: str | Path = "full", intersection: bool = False) -> Tables:
        """Return the tables of a recipe; see `bench.report.build_tables`."""
        from bench.report import build_tables

        return Tables(build_tables(self.results, recipe, intersection))

    def report(self, out: Path | None = None, **options: Any) -> dict[str, Path]:
        """Write report files into `out` (default: the run's folder); options as of `bench.report.write`."""
        from bench import report

        return report.write(self.results, out or self.folder, **options)

    def compare(
        self, other: Run | str | Path, metrics: Sequence[str] = ("*",), methods: Sequence[str] = ("*",)
    ) -> list[Difference]:
        """Return the paired differences of this run from another one.

        Args:
            other: what is taken as the older side: a run, its name or its folder.
            metrics, methods: patterns of protocol ids and method names.
        """
        from bench.core.declaration import matches
        from bench.results.compare import compare

        old = other if isinstance(other, Run) else load(other)
        return compare(
            old.results,
            self.results,
            keep=lambda cell: matches(cell.protocol, metrics) and matches(cell.method, methods),
        )

    def gate(self, reference: str | Path, rules: str | Path, intersection: bool = False) -> Outcome:
        """Judge this run against a saved reference; see `bench.results.gate.gate`."""
        from bench.results.gate import gate, load_rules
        from bench.results.reference import load_reference

        known, noise = load_reference(str(reference))
        return gate(self.results, known, load_rules(Path(rules)), noise, intersection)

    def clip(self, method: str, sample: str, gate: str | None = None, repeat: int = 0) -> Clip:
        """Return one generated clip, which a notebook plays.

        Raises:
            UsageError: there is no such clip, or more than one.
        """
        rows = self.rows
        found = rows[(rows["method"] == method) & (rows["sample"] == sample) & (rows["repeat"] == repeat)]
        if gate is not None:
            found = found[found["gate"] == gate]
        paths = sorted({p for p in found["clip_path"] if p})
        if len(paths) != 1:
            gates = ", ".join(sorted(set(found["gate"])))
            raise UsageError(
                f"{len(paths)} clips of '{method}' show '{sample}'" + (f" (gates: {gates})." if gates else "."),
                "Name method, sample and gate as `rows` does.",
            )
        return Clip(self.folder / paths[0])

    def _repr_html_(self) -> str:
        return self.tables._repr_html_()


class Tables(list["Table"]):
    """Tables that a notebook shows as HTML and `print` as text."""

    def __str__(self) -> str:
        from bench.report import text

        return text.document(self, 160)

    def _repr_html_(self) -> str:
        from bench.report import notebook

        return notebook.document(self)


@dataclass(frozen=True, slots=True)
class Clip:
    """A video file that a notebook plays."""

    path: Path

    def _repr_html_(self) -> str:
        from bench.report import notebook

        return notebook.player(self.path)


def run(
    split: str = "synthetic",
    methods: Iterable[object] | None = None,
    metrics: Iterable[str] | None = None,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    gates: Iterable[str] | None = None,
    subset: str | int | None = None,
    precision: str = "fp32",
    clips: str = "canonical",
    fit: str = "",
    seed: int = 0,
    repeats: int = 1,
    job_limit: float = 3600.0,
    how: Execution | None = None,
    name: str = "",
    recipe: str = "full",
    formats: Sequence[str] = (),
    home: str | Path | None = None,
    command: str = "",
    progress: Progress | None = None,
    step: Step | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Generate clips with every method under every gate, score them, and return what came of it.

    What is finished is never done again: the same call resumes, or returns at once.

    Args:
        split: `synthetic`, `synthetic-ci`, `folder:PATH` or a prepared data set.
        methods: names, `file.py:Class`, classes or instances; None for everything that is ready here. Classes and
            instances run in this process.
        metrics: protocol ids, families or patterns; None for the defaults, an empty one for none.
        settings: what is set of methods, by method and name: `{"actalker": {"steps": 10}}`; only what their specs
            declare as `options`. Such a row is called `actalker+steps=10`, which may also stand in `methods`.
        gates: any of `audio`, `visual`, `audio+visual`; None for all a method supports.
        subset: a number of samples, or a named subset.
        precision: `fp32` or `bf16`, of the metrics' networks.
        clips: `canonical`, or `lossless`: what our encoder costs is then nothing, and clips are many times larger.
        fit: how clips of another size than their reference's are compared, see `bench.run.fit.FITS`.
        seed, repeats: base seed, and clips per sample with different seeds.
        job_limit: wall limit of one job in seconds.
        how: where the jobs are done, see `bench.run.drive.Execution`.
        name: of the run folder; made from split and plan when empty.
        recipe, formats: report files to write into the run's folder; none by default.
        home: store of clips, records and runs (default: $BENCH_HOME or ./.bench).
        command: what the user typed, for provenance.
        progress, step: told about settled tasks, and about (done, total) while a split is made.
        say: told which default methods are left out, and what they need.

    Raises:
        UsageError, MissingError: something asked for does not exist, or cannot run here.
    """
    from bench.metrics.precision import Precision
    from bench.run.setup import prepare_run

    how = how or Execution()
    store = _store(home, how)
    report = reporter(recipe, formats, store)
    prepared = prepare_run(
        store,
        split,
        None if subset is None else str(subset),
        None if methods is None else list(methods),
        None if gates is None else list(gates),
        None if metrics is None else list(metrics),
        Precision(precision),
        seed,
        repeats,
        job_limit,
        progress=step,
        clips=clips,
        fit=fit,
        settings=settings,
    )
    for line in left_out(prepared.left_out):
        if say is not None:
            say(line)
    return _finished(execute(prepared.plan, prepared.metrics, store, how, name, command, progress, report))


def score(
    folder: str | Path,
    split: str | None = None,
    metrics: Iterable[str] | None = None,
    *,
    name: str = "",
    pattern: str = "{id}.mp4",
    gate: str = "audio+visual",
    subset: str | int | None = None,
    precision: str = "fp32",
    fit: str = "",
    sound: str = "own",
    how: Execution | None = None,
    recipe: str = "full",
    formats: Sequence[str] = (),
    home: str | Path | None = None,
    command: str = "",
    progress: Progress | None = None,
    step: Step | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Score a folder of videos from anywhere.

    With a split every file is matched to a sample; without one every video is scored on its own, with the metrics
    that need no reference.

    Args:
        folder: of the videos.
        split, subset: what they are compared with, see `run`.
        metrics, precision, how, recipe, formats, home, command, progress, step: see `run`.
        name: of the row (default: the folder's name).
        pattern: file name of a sample's video; `{id}` stands for the sample.
        gate: which signals the maker used.
        fit: how videos of another size than their reference's are compared, see `bench.run.fit.FITS`.
        sound: `own`, or `driving`: hear the sample's sound with the video, for systems that write pictures only.
        say: told what is not used or not there, line by line, before the work begins.

    Raises:
        UsageError, MissingError: something asked for does not exist, or cannot run here.
    """
    from bench.catalogue import choose_metrics, match_metrics, require_available
    from bench.data.ingest import match_files, own_split, silent_note
    from bench.data.splits import load_split
    from bench.metrics.precision import Precision
    from bench.run.plan import check_gates, plan_ingestion

    folder = Path(folder)
    wanted = None if metrics is None else list(metrics)
    check_gates([gate])
    match_metrics(wanted or ())
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", "Give the folder that holds the videos.")
    how = how or Execution()
    store = _store(home, how)
    report = reporter(recipe, formats, store)
    if split is None:
        loaded, files = own_split(folder)
        notes = [f"not used: {r.item}: {r.reason}" for r in loaded.rejected]
    else:
        loaded = load_split(split, store, None if subset is None else str(subset), step)
        matched = match_files(loaded, folder, pattern)
        files, notes = dict(matched.files), matched.notes()
        if sound == "own" and (silent := silent_note(loaded, files)):
            notes.append(silent)
            loaded = dataclasses.replace(loaded, notes=(*loaded.notes, silent))
    for line in notes:
        if say is not None:
            say(line)
    chosen = choose_metrics(loaded.domain, wanted, Precision(precision))
    if wanted is not None:
        require_available(chosen, wanted)
    elif split is None:
        chosen = [m for m in chosen if "reference" not in m.spec.needs and m.spec.kind == "clip"]
    plan = plan_ingestion(loaded, name or folder.resolve().name, files, gate, fit, sound)
    return _finished(execute(plan, chosen, store, how, "", command, progress, report))


def load(run: str | Path = "latest", home: str | Path | None = None) -> Run:
    """Read a finished run by name, folder, or `latest`.

    Raises:
        MissingError: there is no such run.
        UsageError: its files cannot be read.
    """
    from bench.results.runs import load as read

    return Run(read(str(run), home))


def left_out(methods: Mapping[str, str]) -> list[str]:
    """Say which methods cannot run here, in a line per thing they need."""
    needs: dict[str, list[str]] = {}
    for name, what in methods.items():
        needs.setdefault(what, []).append(name)
    return [f"left out, cannot run here: {', '.join(names)}: {what}" for what, names in needs.items()]


def reporter(recipe: str, formats: Sequence[str], home: Home) -> Callable[[Path], dict[str, Path]]:
    """Return what writes the report files of a finished run into its folder.

    Raises:
        UsageError: there is no such recipe or format; said now rather than after hours of work.
    """
    from bench import report
    from bench.report import recipes

    report.check_formats(formats)
    recipes.load(recipe)

    def write(folder: Path) -> dict[str, Path]:
        from bench.jobs.features import FeatureBank
        from bench.report import curves
        from bench.results.runs import load as read

        found = read(str(folder))
        if not formats or found.rows.empty:  # clips were wanted, and no numbers
            return {}
        with home.storage.in_use():
            if "html" in formats:
                shown = {p for c in found.rows if str(c).endswith("_path") for p in found.rows[c].unique() if p}
                home.bring(*map(Path, shown))
                bank, pictures = FeatureBank(home), _pictures(found)
                curves.write(folder, lambda clip, name: bank.stored(clip, name, pictures.get(clip, "")))
            return report.write(read(str(folder)), folder, recipe, tuple(formats))

    return write


def _pictures(results: Results) -> dict[str, str]:
    """Return the sha256 of the reference picture that each clip was scored with, by the clip's."""
    from bench.core.keys import file_digest

    clips = results.rows[(results.rows["clip_sha256"] != "") & (results.rows["image_path"] != "")]
    places = dict(zip(clips["clip_sha256"], clips["image_path"], strict=True))
    digests = {p: file_digest(Path(p)) for p in set(places.values()) if Path(p).is_file()}
    return {clip: digests.get(place, "") for clip, place in places.items()}


def _store(home: str | Path | None, how: Execution) -> Home:
    if how.weights is not None:
        from bench.weights import use_folder

        use_folder(how.weights)
    return Home(home)


def _finished(outcome: RunResult) -> Run:
    from bench.results.runs import load as read

    return Run(read(str(outcome.folder)), outcome)
