"""Options that several verbs share, declared once."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.metrics.precision import Precision as Arithmetic
from bench.store.bucket import address_of


def _remember(home: Path | None) -> Path | None:
    """Let everything that is found by name under the home (weights, outside systems) see the same one."""
    if home is not None:
        os.environ["BENCH_HOME"] = address_of(str(home)) or str(home.expanduser().resolve())
    return home


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder, or s3://BUCKET/PREFIX (gs://, az://), for clips, records and runs"
        " (default: $BENCH_HOME or ./.bench).",
        callback=_remember,
    ),
]


class SandboxMode(StrEnum):
    """See `bench.systems.sandbox`."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


def _close_in(mode: SandboxMode | None) -> SandboxMode | None:
    """Let every process of this command see how much is closed to outside systems."""
    if mode is not None:
        os.environ["BENCH_SANDBOX"] = mode.value
    return mode


Sandbox = Annotated[
    SandboxMode | None,
    typer.Option(
        "--sandbox",
        help="What is closed to outside systems with bubblewrap: whatever this machine can close (auto), files and"
        " network or none is run (require), nothing (off). Default: $BENCH_SANDBOX or auto.",
        callback=_close_in,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Folder searched first for weight files (default: $BENCH_WEIGHTS).",
        exists=True,
        file_okay=False,
    ),
]
SplitName = Annotated[
    str,
    typer.Option(
        "--split",
        "-s",
        help="What to run on: synthetic, synthetic-ci, folder:PATH, or a prepared data set.",
    ),
]
Subset = Annotated[
    str | None,
    typer.Option("--subset", help="Use fewer samples: a number, or a named subset such as ci."),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        "-m",
        help="Comma-separated names, module:Class or file.py:Class (default: everything that needs no download).",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="METHOD.NAME=VALUE",
        help="Set something of a method, e.g. actalker.steps=10; may be repeated. `bench show method NAME` lists"
        " what can be set.",
    ),
]
Controls = Annotated[
    str | None,
    typer.Option(
        "--controls", "-c", help="What drives the face: audio, visual, both, comma-separated (default: all)."
    ),
]
Gates = Annotated[str | None, typer.Option("--gates", "-g", hidden=True)]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Comma-separated protocol ids or families, e.g. defaults,speed or sync,fid/facecrop; '' for none.",
    ),
]
Precision = Annotated[
    Arithmetic,
    typer.Option(
        "--precision",
        help="Arithmetic of metric networks. bf16 is faster on CPUs with AMX and on GPUs, deviates, and makes"
        " protocols of its own (+bf16).",
    ),
]
FP32 = Arithmetic.FP32
Seed = Annotated[int, typer.Option("--seed", help="Base seed; each sample and repeat derives its own.")]
Repeats = Annotated[
    int,
    typer.Option("--repeats", min=1, help="Clips per method, gate and sample with different seeds."),
]
Limit = Annotated[float, typer.Option("--job-limit", min=1.0, help="Wall limit of one job in seconds.")]
Executor = Annotated[
    str, typer.Option("--executor", help="ray, inline, or auto (inline for few jobs or one worker).")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="Use this running Ray cluster, e.g. auto or host:6379.")
]
MetricGpus = Annotated[
    float | None,
    typer.Option(
        "--metric-gpus",
        min=0.0,
        max=1.0,
        help="GPU of each worker that runs metric networks; a fraction shares one, 0 keeps them on CPUs (default:"
        " one, where there is one).",
    ),
]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=1, help="CPUs to use (default: all).")]
Recipe = Annotated[
    str, typer.Option("--recipe", help="Which tables the report files have; see `bench show doc reports`.")
]
Formats = Annotated[str, typer.Option("--format", help="Report files to write, also parquet.")]
MaxFailures = Annotated[
    int,
    typer.Option(
        "--max-failures",
        min=0,
        help="Exit with 1 when more clips than this failed, or lack a number because something broke.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout for a program to read.")]


def gates(controls: str | None, gates: str | None = None) -> list[str] | None:
    """Return which control signals were asked for; None for all.

    Args:
        controls: of `--controls`; `both` stands for `audio+visual`.
        gates: of `--gates`, the spelling of version 0.1.
    """
    if gates is not None:
        print("bench: --gates is now called --controls; the old name goes with the next release.", file=sys.stderr)
    wanted = names(controls if controls is not None else gates)
    if wanted is None or wanted == ["all"]:
        return None
    return ["audio+visual" if name == "both" else name for name in wanted]


def names(text: str | None) -> list[str] | None:
    """Split a comma-separated option; None stays None."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


Fit = Annotated[
    str,
    typer.Option(
        "--fit",
        help="Compare clips of another size than their reference's: at its size (reference), both with a shorter"
        " side of 512 (512), or with the reference's middle (crop). Without it they are a mismatch.",
    ),
]
Clips = Annotated[
    str,
    typer.Option("--clips", help="canonical (browsers play it), or lossless: our encoder then costs nothing."),
]
