"""Run folders, references, rules and votes, as a stranger may send them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from damage import Case, case, cli, dump, mutated_rows

# A run folder


def make_run(folder: Path, **more: Any) -> Path:
    """Write a small run that came from somewhere."""
    from bench.results.runs import COLUMNS

    rows = []
    for method, gate, level in (("m", "audio", 2.0), ("w", "visual", 1.0), ("ground-truth", "none", 3.0)):
        for n in range(4):
            rows.append(
                {
                    "kind": "clip",
                    "method": method,
                    "gate": gate,
                    "dataset": "d",
                    "split": "s",
                    "domain": "synthetic",
                    "sample": f"c{n}",
                    "identity": f"p{n}",
                    "protocol": "psnr/rgb",
                    "column": "psnr",
                    "value": level + n / 9,
                    "status": "ok",
                    "n_clips": 1,
                    "clip_sha256": f"{method}{n}" * 16,
                    "clip_path": f"{n}.mp4",
                    "digest": f"{method}{n}",
                }
            )
        halves = json.dumps({"of": "x", "identities": 4, "values": [level + 1, level + 2, level]})
        rows.append(
            {
                **rows[-1],
                "kind": "set",
                "sample": "",
                "protocol": "fid/x",
                "column": "fid",
                "halves": halves,
                "n_clips": 4,
            }
        )
    table = pd.DataFrame(rows)
    for name in ("reason", "detail", "image_path"):
        table[name] = ""
    assert set(table) <= set(COLUMNS)
    run = folder / "run"
    run.mkdir(parents=True)
    table.to_parquet(run / "rows.parquet")
    columns = [{"key": "psnr", "label": "PSNR", "direction": "higher", "unit": "dB", "digits": 2, "scale": 1.0}]
    sets = [{"key": "fid", "label": "FID", "direction": "lower", "unit": "", "digits": 2, "scale": 1.0}]
    dump(
        run / "run.json",
        {
            "command": "bench run",
            "version": "1",
            "commit": "abc",
            "created": "2026-01-01",
            "split": "s",
            "domain": "synthetic",
            "notes": ["a note"],
            "seed": 0,
            "repeats": 1,
            "samples": 4,
            "counts": {"planned": 15, "ok": 15, "unscored": 0, "error": 0},
            "methods": {
                "m": {
                    "version": "1",
                    "kind": "model",
                    "gates": ["audio"],
                    "summary": "s",
                    "settings": {},
                    "weights": {},
                }
            },
            "protocols": {
                "psnr/rgb": {
                    "summary": "s",
                    "kind": "clip",
                    "params": {},
                    "weights": {"a": "b"},
                    "columns": columns,
                },
                "fid/x": {"summary": "s", "kind": "set", "params": {"n": 1}, "weights": {}, "columns": sets},
            },
            "environment": {"python": "3", "packages": {"torch": "2"}},
            "hardware": ['{"gpu": "x"}'],
            "rejected": [{"item": "x.txt", "reason": "no video"}],
            "floors": {"psnr/rgb|psnr": {"same": 0.1, "cross": 0.2, "worst": 0.3}},
        },
    )
    curve = {
        "fps": 25.0,
        "mouth": [0.1, 0.2],
        "sync_curve": [1.0] * 31,
        "sheet": "sheets/x.jpg",
        "mouth_at": [0.5, 0.6],
    }
    dump(run / "clips.json", {"m0" * 16: curve})
    return run


def reported(folder: Path, formats: str, *more: object) -> Callable[[], None]:
    """Return what writes a report of `folder/run`, and looks for what must not stand in it."""

    def read() -> None:
        cli("report", folder / "run", "--out", folder / "out", "--format", formats, "--copy-media", *more)
        for path in (folder / "out").glob("report.[!p]*"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text), path.name
            assert "<script>alert" not in text
            if path.suffix == ".tex":
                assert "\\input{/etc" not in text and "\\write18{" not in text
            if path.suffix == ".csv":
                assert not re.search(r'(^|,)"?[=@]', text, re.MULTILINE)
            if path.suffix == ".md":
                assert not re.search(r"^\s*::", text, re.MULTILINE) and "##[" not in text

    return read


@case
def run_json(folder: Path) -> Case:
    return Case(make_run(folder) / "run.json", reported(folder, "md,csv,latex"))


@case
def run_json_on_page(folder: Path) -> Case:
    return Case(make_run(folder) / "run.json", reported(folder, "html"))


@case
def kept_json(folder: Path) -> Case:
    return Case(make_run(folder) / "clips.json", reported(folder, "html"))


@case
def rows_parquet(folder: Path) -> Case:
    return Case(make_run(folder) / "rows.parquet", reported(folder, "md,csv,latex,parquet"), mutated_rows)


@case
def rows_parquet_on_page(folder: Path) -> Case:
    return Case(make_run(folder) / "rows.parquet", reported(folder, "html"), mutated_rows)


@case
def recipe_toml(folder: Path) -> Case:
    make_run(folder)
    recipe = folder / "mine.toml"
    recipe.write_text(
        'title = "t"\ncaption = "c"\nmark = "best"\n[[table]]\nid = "a"\ntitle = "T"\nmethods = ["m", "!w"]\n'
        'gates = ["*"]\n[[table.column]]\nname = "P"\nprotocol = ["psnr/*"]\ncolumn = "psnr"\n'
        'published = { paper = "actalker", table = "1" }\n'
    )
    return Case(recipe, reported(folder, "md,latex", "--recipe", recipe))


@case
def listed_runs(folder: Path) -> Case:
    run = make_run(folder / "home" / "runs")
    return Case(
        run / "run.json",
        lambda: [cli(v, *w, "--home", folder / "home") for v, *w in (("list", "runs"), ("status", "run"))],
    )


@case
def compared_rows(folder: Path) -> Case:
    run = make_run(folder)
    shutil.copytree(run, folder / "old")
    return Case(run / "rows.parquet", lambda: cli("compare", folder / "old", run), mutated_rows)


def gated(folder: Path) -> Callable[[], None]:
    """Return what judges `folder/run` against `folder/old`."""
    return lambda: cli(
        "gate",
        folder / "run",
        "--reference",
        folder / "old",
        "--rules",
        folder / "gate.toml",
        "--junit",
        folder / "junit.xml",
    )


def make_gate(folder: Path) -> None:
    """Write a reference and rules."""
    shutil.copytree(make_run(folder), folder / "old")
    cell = {
        "method": "m",
        "gate": "audio",
        "protocol": "psnr/rgb",
        "column": "psnr",
        "dataset": "d",
        "split": "s",
        "sigma": 0.1,
    }
    from bench.results.compare import Cell

    dump(folder / "old" / "noise.json", {"seed": [{k: cell.get(k, "") for k in (*Cell._fields, "sigma")}]})
    (folder / "gate.toml").write_text(
        'alpha = 0.05\n[[rule]]\nname = "n"\nprotocol = "psnr/*"\ncolumn = ["psnr"]\ntolerance = 0.1\n'
        'methods = ["*"]\ncontrols = true\n[[rule]]\nprotocol = "fid/*"\nrelative = 0.5\n'
    )


@case
def gate_toml(folder: Path) -> Case:
    make_gate(folder)
    return Case(folder / "gate.toml", gated(folder))


@case
def noise_json(folder: Path) -> Case:
    make_gate(folder)
    return Case(folder / "old" / "noise.json", gated(folder))


@case
def published_csv(folder: Path) -> Case:
    from bench.core.resources import data_folder
    from bench.results import published

    shutil.copy(data_folder("reports") / "published" / "actalker.csv", folder / "p.csv")
    return Case(folder / "p.csv", lambda: published.load("p", folder=folder))


# Votes


@case
def study_json(folder: Path) -> Case:
    make_votes(folder)
    from bench.run.voting import load_study

    return Case(folder / "votes" / "study.json", lambda: load_study(folder / "votes"))


@case
def votes_jsonl(folder: Path) -> Case:
    make_votes(folder)
    from bench.run.voting import load_study, read_votes

    votes = folder / "votes"
    return Case(votes / "votes.jsonl", lambda: read_votes(votes, load_study(votes)))


def make_votes(folder: Path) -> None:
    """Write a study of a run, with votes."""
    from bench.results.votes import Vote
    from bench.run.voting import SCHEMA, load_study

    run = make_run(folder)
    clips = [{"sample": f"c{n}", "method": m, "file": f"{n}.mp4"} for n in range(4) for m in ("m", "w")]
    dump(
        folder / "votes" / "study.json",
        {
            "schema": SCHEMA,
            "run": "run",
            "split": "s",
            "folder": str(run),
            "questions": ["realism"],
            "ties": True,
            "wanted": 9,
            "seed": 0,
            "clips": clips,
            "pictures": {},
        },
    )
    vote = dict.fromkeys(Vote.__slots__, "x") | {
        "question": "realism",
        "left": "m",
        "right": "w",
        "answer": "left",
        "check": "",
    }
    about = load_study(folder / "votes").digest
    lines = [json.dumps({**vote, "study": about, "sample": f"c{n}", "rater": f"r{n}"}) for n in range(4)]
    (folder / "votes" / "votes.jsonl").write_text("\n".join(lines) + "\n")


@case
def posted_vote(folder: Path) -> Case:
    from bench.core.declaration import parse_json
    from bench.run.voting import Desk, load_study

    make_votes(folder)
    desk = Desk(load_study(folder / "votes"), folder / "votes")
    body = dump(
        folder / "body.json",
        {"trial": "x", "rater": "0" * 16, "answer": "left", "replays": 1, "latency": 1, "width": 1, "height": 1},
    )
    return Case(body, lambda: desk.take(parse_json(body.read_bytes(), dict[str, Any], "the answer")))
