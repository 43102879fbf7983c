"""`bench gate`: fail when a run is worse than a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Home
from bench.cli.verb import say


def gate(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="Run by name or path.")] = "latest",
    reference: Annotated[str, typer.Option(help="Name of a saved reference, or a folder.")] = "synthetic",
    rules: Annotated[Path, typer.Option(help="Rules file.")] = Path("gate.toml"),
    strict: Annotated[bool, typer.Option("--strict", help="Exit 5 when a check is inconclusive.")] = False,
    intersection: Annotated[
        bool, typer.Option("--intersection", help="Judge the common samples instead of failing on coverage.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    format: Annotated[str, typer.Option(help="text or md.")] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", help="List the checks that passed, too.")] = False,
    home: Home = None,
) -> None:
    """Judge a run against a reference.

    Exit code 0: nothing got worse; 3: something did; 4: there is nothing to compare with; 5: inconclusive
    (with --strict).
    """
    from bench.core.declaration import one_of
    from bench.report import changes, github
    from bench.report import junit as junit_xml
    from bench.results import gate as gates
    from bench.results.reference import load_reference
    from bench.results.runs import load
    from bench.store.files import write_bytes

    one_of(format, ("text", "md"), "--format")
    wanted = gates.load_rules(rules)
    known, noise = load_reference(reference)
    outcome = gates.gate(load(run, home), known, wanted, noise, intersection)
    if junit is not None:
        document = junit_xml.document(outcome).encode()
        if junit.is_relative_to("/dev"):  # /dev/stdout is written to, not replaced
            junit.write_bytes(document)
        else:
            write_bytes(junit, document)
    for line in github.publish(outcome):
        typer.echo(line)
    if format == "md":
        say(changes.gate_markdown(outcome), nl=False)
    else:
        say(changes.gate_text(outcome, verbose), nl=False)
    raise typer.Exit(int(outcome.exit_code(strict)))
