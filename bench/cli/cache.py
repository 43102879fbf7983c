"""`bench cache`: what the store holds, whether it is whole, and what a result depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from bench.cli import options
from bench.cli.verb import verb

if TYPE_CHECKING:
    from bench.store.blobs import Blob
    from bench.store.home import Home
    from bench.store.records import Kind

app = typer.Typer(help="Look into the store: sizes, integrity, keys, and cleaning up.", no_args_is_help=True)


@app.command()
@verb
def stats(home: options.Home = None, json: options.Json = False) -> None:
    """Count records and bytes."""
    from bench.cli.display import emit_json, table
    from bench.store.home import Home
    from bench.store.records import Kind

    store = Home(home)
    counts = {kind: len(list(store.records.keys(kind))) for kind in get_args(Kind)}
    sizes = {
        what: sum(file.size for file in store.storage.names(folder))
        for what, folder in (("clips and features", "blobs/"), ("records", "records/"))
    }
    if json:
        emit_json({"home": store.address, "records": counts, "bytes": sizes})
        return
    rows = [(f"{kind} records", str(count)) for kind, count in counts.items()]
    table(("what", "how much"), rows + [(k, f"{v / 1e6:.1f} MB") for k, v in sizes.items()], title=store.address)


@app.command()
@verb
def verify(home: options.Home = None) -> int:
    """Re-hash every stored file a record names; forget records whose file is gone or changed."""
    from bench.cli.display import errors, output
    from bench.core.errors import ExitCode
    from bench.store.home import Home

    store = Home(home)
    checked, broken = 0, []
    for kind, key, blob in _named_blobs(store):
        checked += 1
        if not store.blobs.verify(blob):
            broken.append(key)
            store.records.drop(kind, key)
            errors.print(f"broken {kind} {key[:12]}: {store.blobs.path(blob)}", soft_wrap=True)
    output.print(
        f"{checked} files checked, {len(broken)} broken and forgotten; they are made again on the next run."
    )
    return ExitCode.FAILURES if broken else ExitCode.OK


@app.command()
@verb
def explain(
    key: Annotated[str, typer.Argument(help="A record key, or the first digits of one.")],
    home: options.Home = None,
) -> None:
    """Print a record with every field its key is made of."""
    from bench.cli.display import emit_json
    from bench.core.errors import UsageError
    from bench.store.home import Home
    from bench.store.records import Kind

    store = Home(home)
    found = [(kind, k) for kind in get_args(Kind) for k in store.records.keys(kind) if k.startswith(key)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} records start with '{key}'.", "Keys are in the `digest` column of a run's rows.parquet."
        )
    emit_json(store.records.get(*found[0]))


@app.command()
@verb
def clean(
    errors_too: Annotated[bool, typer.Option("--errors", help="Also forget results that are errors.")] = False,
    home: options.Home = None,
) -> None:
    """Remove files no record names, and what killed processes left behind, when older than an hour."""
    import time

    from bench.cli.display import output
    from bench.store.files import sweep
    from bench.store.home import Home

    store = Home(home)
    forgotten = 0
    if errors_too:
        kinds: tuple[Kind, ...] = ("gen", "score", "set")
        for kind in kinds:
            for key, record in store.records.read(kind, store.records.keys(kind)).items():
                if record["status"] == "error":
                    store.records.drop(kind, key)
                    forgotten += 1
    # What is young may belong to a run that goes on: a clip lies in the store before its record does.
    abandoned = time.time() - 3600
    parts = sweep(store.path, older_than=abandoned)
    named = {blob.name for _, _, blob in _named_blobs(store)}
    removed = 0
    for file in list(store.storage.names("blobs/")):
        if file.name not in named and file.modified < abandoned:
            store.storage.drop(file.name)
            removed += 1
    output.print(f"Removed {removed} unnamed files and {parts} leftovers; forgot {forgotten} errors.")


def _named_blobs(store: Home) -> Iterator[tuple[Kind, str, Blob]]:
    from bench.store.blobs import Blob

    fields: dict[Kind, str] = {"gen": "clip", "feature": "blob"}
    for kind, field in fields.items():
        for key, record in store.records.read(kind, store.records.keys(kind)).items():
            if field in record:
                yield kind, key, Blob(**record[field])
