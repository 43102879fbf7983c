"""`bench vote`: ask people which clips they prefer, and hold metrics against their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.verb import verb

app = typer.Typer(
    name="vote", help="Ask people which clips they prefer, blind, and score the answers.", no_args_is_help=True
)

Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the study (default: votes in the run's folder).")
]


@app.command()
@verb
def serve(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="Run by name or path.")] = "latest",
    questions: Annotated[
        str, typer.Option("--questions", help="Comma-separated: realism, sync, identity, picture, motion.")
    ] = "realism",
    ties: Annotated[bool, typer.Option("--ties", help="Allow the answer 'same'.")] = False,
    wanted: Annotated[int, typer.Option("--wanted", min=1, help="Answers asked of one rater.")] = 40,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Show only so many samples.")] = None,
    seed: options.Seed = 0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets phones of your network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8765,
    out: Out = None,
    home: options.Home = None,
) -> None:
    """Serve a page on which people compare a run's clips; stop it with Ctrl-C, the same command goes on.

    Nobody sees which method made a clip. Answers go to votes.jsonl in the study's folder, under random numbers.
    """
    from bench.cli.display import errors
    from bench.results.runs import load
    from bench.run.vote_server import make_server
    from bench.run.voting import Desk, make_study

    results = load(run, home)
    folder = out or (results.folder or Path()) / "votes"
    study = make_study(results, folder, options.names(questions) or [], ties, wanted, seed, samples)
    server = make_server(Desk(study, folder), folder, host, port)
    where = "localhost" if host == "127.0.0.1" else host
    typer.echo(f"http://{where}:{server.server_port}/")
    errors.print(
        f"Answers go to {folder}. Stop with Ctrl-C; score with: bench vote score {folder}", soft_wrap=True
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        errors.print("Stopped.")
    finally:
        server.server_close()


@app.command()
@verb
def score(
    study: Annotated[str, typer.Argument(metavar="[STUDY]", help="Folder of a study, or its run.")] = "latest",
    seed: options.Seed = 0,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Print a ranking with intervals, how raters agree, and which metrics follow them.

    With flagged raters everything is printed twice: with and without them.
    """
    from bench.cli.display import errors
    from bench.report import votes as pages
    from bench.run.vote_scores import score_study

    scored, problems = score_study(study, home, seed)
    for line in problems[:10]:
        errors.print(f"! {line}", soft_wrap=True)
    if json:
        typer.echo(pages.as_json([s for _, s in scored]), nl=False)
        return
    typer.echo("\n\n".join((f"{title}\n" if title else "") + pages.text(s) for title, s in scored))
