"""`bench sensitivity`: what a difference means on a split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options


def sensitivity(
    split: options.SplitName = "synthetic-ci",
    metrics: options.Metrics = None,
    damage: Annotated[
        str | None,
        typer.Option("--damage", help="Comma-separated damage ladders (default: all), e.g. blur,shuffle."),
    ] = None,
    clips: Annotated[
        int | None, typer.Option("--clips", min=1, help="Clips to change (default: 16; 8 if quick).")
    ] = None,
    levels: Annotated[
        str, typer.Option("--levels", help="Levels of the ladders, 1 to 5 (default: all; 2 and 4 if quick).")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of hours: fewer clips, changes and levels.")
    ] = False,
    seed: options.Seed = 0,
    into_reference: Annotated[
        str | None,
        typer.Option("--into-reference", help="Also keep the floors with this saved reference, for the gate."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report (default: in the home folder).")
    ] = None,
    executor: options.Executor = "auto",
    ray_address: options.RayAddress = None,
    workers: options.Workers = None,
    home: options.Home = None,
    weights: options.Weights = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the table.")] = False,
    json: options.Json = False,
) -> int:
    """Learn what a difference means on a split: how large it must be, what each metric reacts to and cannot see.

    Ground-truth clips are changed in ways nobody notices (codecs, one pixel, loudness), which gives the noise
    floor of every metric, and damaged in growing steps. Finished work is kept: the same command again resumes.
    """
    from bench.catalogue import choose_metrics, match_metrics, require_available
    from bench.cli.display import RunProgress, StepProgress, emit_json, errors, output
    from bench.core.errors import ExitCode
    from bench.data.splits import load_split
    from bench.report import sensitivity as pages
    from bench.results import floors, reference
    from bench.results import sensitivity as results
    from bench.results.runs import load
    from bench.run import sensitivity as work
    from bench.run.drive import Execution, command_line, execute
    from bench.store.home import Home

    wanted = options.names(metrics)
    match_metrics(wanted or ())
    ladders = options.names(damage)
    families, off = work.choose_families(ladders, quick)
    chosen_levels = work.parse_levels(levels) if levels else (work.QUICK_LEVELS if quick else work.ALL_LEVELS)
    if into_reference is not None:
        reference.load_reference(into_reference)
    how = Execution(executor, ray_address, workers, weights)
    store = Home(home)
    if weights is not None:
        from bench.weights import use_folder

        use_folder(weights)
    loaded = load_split(split, store, None, None if quiet else StepProgress("split"))
    count = clips or (work.QUICK_CLIPS if quick else work.CLIPS)
    loaded = work.narrowed(loaded, count, seed, off, store.ready().data / "excerpts" if quick else None)
    chosen = choose_metrics(loaded.domain, wanted)
    if wanted is not None:
        require_available(chosen, wanted)
    parts = []
    fewer = {}
    planned = work.plan_variants(loaded, chosen, families, chosen_levels)
    if ladders is None or results.COUNT in ladders:
        planned += work.plan_counts(loaded, chosen, families, chosen_levels, seed)
    for part in planned:
        name = f"sensitivity-{part.name}-{part.plan.digest[:8]}"
        progress = None if quiet else RunProgress()
        done = execute(part.plan, part.metrics, store, how, name=name, command=command_line(), progress=progress)
        for line in done.failures[:10]:
            errors.print(f"! {line}", soft_wrap=True)
        if done.interrupted:
            errors.print(f"Interrupted. Resume with: {command_line()}", soft_wrap=True)
            return ExitCode.INTERRUPTED
        if part.fewer:
            fewer[part.fewer] = load(str(done.folder))
        else:
            parts.append(load(str(done.folder)))
    found = results.analyse(parts, loaded.name, seed, loaded.notes, fewer)
    files = pages.write(found, out or floors.folder(store, loaded.name))
    floors.keep(store, found)
    if into_reference is not None:
        reference.add_floors(into_reference, found)
    if json:
        emit_json(found.as_json())
    else:
        output.print(pages.text(found), soft_wrap=True)
    for path in files.values():
        errors.print(f"  {path}", soft_wrap=True)
    return ExitCode.OK
