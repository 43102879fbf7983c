"""`bench score`: numbers for videos made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options


def score(
    folder: Annotated[Path, typer.Argument(help="Folder of videos.")],
    split: Annotated[
        str | None,
        typer.Option(
            "--split", "-s", help="What they are compared with; without it only no-reference metrics run."
        ),
    ] = None,
    subset: options.Subset = None,
    name: Annotated[str, typer.Option("--as", help="Row name (default: the folder's name).")] = "",
    pattern: Annotated[
        str, typer.Option("--pattern", help="File name of a sample's video; {id} stands for the sample.")
    ] = "{id}.mp4",
    gate: Annotated[str, typer.Option("--gate", help="Which signals the maker used.")] = "audio+visual",
    metrics: options.Metrics = None,
    precision: options.Precision = options.FP32,
    recipe: options.Recipe = "full",
    formats: options.Formats = "md,csv,html,latex",
    executor: options.Executor = "auto",
    ray_address: options.RayAddress = None,
    workers: options.Workers = None,
    max_failures: options.MaxFailures = 0,
    home: options.Home = None,
    weights: options.Weights = None,
    json: options.Json = False,
) -> int:
    """Score a folder of videos from anywhere.

    With --split every file is matched to a sample by --pattern; files without a sample, samples without a
    file and unreadable files are listed and counted. Without it every video is scored on its own.
    """
    from bench.catalogue import choose_metrics, match_metrics, require_available
    from bench.cli.display import RunProgress, StepProgress, errors
    from bench.cli.finish import finish, reporter
    from bench.core.errors import UsageError
    from bench.data.ingest import match_files, own_split
    from bench.data.splits import load_split
    from bench.run.drive import Execution, command_line, execute
    from bench.run.plan import check_gates, plan_ingestion
    from bench.store.home import Home

    check_gates([gate])
    wanted = options.names(metrics)
    match_metrics(wanted or ())
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", "Give the folder that holds the videos.")
    how = Execution(executor, ray_address, workers, weights)
    report = reporter(recipe, options.names(formats) or [])
    store = Home(home)
    if weights is not None:
        from bench.weights import use_folder

        use_folder(weights)
    if split is None:
        loaded, files = own_split(folder)
        notes = [f"not used: {r.item}: {r.reason}" for r in loaded.rejected]
    else:
        loaded = load_split(split, store, subset, StepProgress("split"))
        matched = match_files(loaded, folder, pattern)
        files, notes = dict(matched.files), matched.notes()
    for line in notes:
        errors.print(f"! {line}", soft_wrap=True)
    chosen = choose_metrics(loaded.domain, wanted, precision)
    if wanted is not None:
        require_available(chosen, wanted)
    elif split is None:
        chosen = [m for m in chosen if "reference" not in m.spec.needs and m.spec.kind == "clip"]
    result = execute(
        plan_ingestion(loaded, name or folder.resolve().name, files, gate),
        chosen,
        store,
        how,
        command=command_line(),
        progress=RunProgress(),
        report=report,
    )
    return finish(result, json, max_failures)
