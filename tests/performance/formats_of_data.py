"""Contracts, data sets and the store, as a stranger may send them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from damage import Case, case, cli, dump

# Contracts of outside systems


def make_contract(folder: Path) -> Path:
    """Write the richest contract of the project and a record of its rehearsal, as a stranger's."""
    from bench.core.resources import data_folder

    source = max(
        (p.parent for p in data_folder("baselines").glob("*/rehearsal.toml")),
        key=lambda p: len((p / "baseline.toml").read_text()),
    )
    target = folder / "systems" / "stranger"
    target.mkdir(parents=True)
    for path in source.glob("*.toml"):
        text = path.read_text()
        (target / path.name).write_text(
            re.sub(r'^name = ".*"', 'name = "stranger"', text, count=1, flags=re.MULTILINE)
        )
    return target


def contracts_read(folder: Path) -> Callable[[], None]:
    """Return what looks at the contract in every way that starts nothing."""

    def read() -> None:
        os.environ["BENCH_BASELINES"] = str(folder / "systems")
        home = ("--home", folder / "home")
        cli("show", "method", "stranger", *home)
        cli("prepare", "--methods", "stranger", "--dry-run", *home)

    return read


@case
def contract_toml(folder: Path) -> Case:
    return Case(make_contract(folder) / "baseline.toml", contracts_read(folder))


@case
def rehearsal_toml(folder: Path) -> Case:
    return Case(make_contract(folder) / "rehearsal.toml", contracts_read(folder))


@case
def state_json(folder: Path) -> Case:
    from bench.store.home import Home
    from bench.systems.contract import load
    from bench.systems.environment import State, place, setup_digest

    contract = load(make_contract(folder))
    where = place("stranger", Home(folder / "home").ready())
    State(setup_digest(contract), str(folder / "code"), "", "given", sys.prefix).write(where)
    return Case(where.state, contracts_read(folder))


# Data sets


@case
def dataset_toml(folder: Path) -> Case:
    from bench.core.declaration import read
    from bench.core.resources import data_folder
    from bench.data.declared import Dataset

    shutil.copy(data_folder("datasets") / "celebv-hq" / "dataset.toml", folder / "dataset.toml")
    return Case(folder / "dataset.toml", lambda: read(folder / "dataset.toml", Dataset))


def loaded(folder: Path, name: str) -> Callable[[], None]:
    """Return what loads a prepared data set and lists all."""

    def read() -> None:
        home = ("--home", folder / "home")
        cli("list", "splits", *home)
        cli("plan", "--split", name, "-m", "ground-truth", *home)

    return read


def make_prepared(folder: Path) -> Path:
    """Write a prepared data set of two clips with its list, manifest and ledger."""
    root = folder / "home" / "data" / "celebv-hq"
    lines = []
    for clip in ("one", "two"):
        (root / "clips" / clip).mkdir(parents=True)
        for name in ("video.mp4", "audio.wav", "ref.png"):
            (root / "clips" / clip / name).write_bytes(b"x")
        lines.append(
            {
                "clip_id": clip,
                "folder": clip,
                "identity": clip,
                "frames": 100,
                "digests": dict.fromkeys(("video", "audio", "image"), "a"),
                "sizes": dict.fromkeys(("video", "audio", "image"), 1),
                "crop": {"rule": "r"},
                "filters": [{"name": "f", "passed": None}],
            }
        )
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "ledger.jsonl").write_text(
        json.dumps({"clip_id": "three", "reason": "filtered", "detail": "x"}) + "\n"
    )
    (root / "splits").mkdir()
    listed = [{"list": "test", "count": 3, "state": "verified", "complete": True}]
    listed += [{"rank": n, "clip_id": clip, "identity": clip} for n, clip in enumerate(("one", "two", "three"), 1)]
    (root / "splits" / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in listed))
    return root


@case
def list_jsonl(folder: Path) -> Case:
    return Case(make_prepared(folder) / "splits" / "test.jsonl", loaded(folder, "celebv-hq"))


@case
def manifest_jsonl(folder: Path) -> Case:
    return Case(make_prepared(folder) / "manifest.jsonl", loaded(folder, "celebv-hq"))


@case
def ledger_jsonl(folder: Path) -> Case:
    return Case(make_prepared(folder) / "ledger.jsonl", loaded(folder, "celebv-hq"))


@case
def dataset_lock(folder: Path) -> Case:
    from bench.data.fetch import remember_digest

    lock = dump(folder / "dataset.lock", {"a.zip": "0" * 64})
    (folder / "b.zip").write_bytes(b"x")
    return Case(lock, lambda: remember_digest(lock, "b.zip", folder / "b.zip"))


@case
def celebv_json(folder: Path) -> Case:
    from bench.data import celebv_hq, layouts

    clip = {
        "ytb_id": "-abcDEF_123",
        "duration": {"start_sec": 1.0, "end_sec": 6.0},
        "bbox": {"top": 0.0, "bottom": 0.9, "left": 0.1, "right": 0.6},
        "attributes": {"action": [1], "appearance": [0]},
    }
    meta = {"action_mapping": ["talk"], "appearance_mapping": ["blurry"]}
    file = dump(folder / "celebvhq_info.json", {"meta_info": meta, "clips": {"a_0": clip, "b_1": clip}})

    def read() -> None:
        found = celebv_hq.candidates(file)
        layouts.celebv_groups(found)
        layouts.YouTube(folder, folder / "cache", found, download=False)
        assert all(re.fullmatch(r"[\w-]*", c.source_id) for c in found)

    return Case(file, read)


@case
def hdtf_text(folder: Path) -> Case:
    from bench.data import hdtf, layouts

    for part in hdtf.SETS:
        for name, line in (
            ("video_url", "A0.mp4 https://www.youtube.com/watch?v=abcDEF_-123"),
            ("annotion_time", "A0.mp4 00:10-00:20 01:00-01:30"),
            ("resolution", "A0.mp4 720"),
            ("crop_wh", "A0_0.mp4 10 512 20 512"),
        ):
            (folder / f"{part}_{name}.txt").write_text(f"{line}\n{line.replace('A0', 'B1')}\n")
    files = sorted(folder.glob("*.txt"))

    def read() -> None:
        for file in files[:-1]:
            shutil.copy(files[-1], file) if file.stat().st_size == 0 else None
        layouts.hdtf_groups(hdtf.candidates(folder))

    return Case(folder / "WDA_crop_wh.txt", read)


@case
def vfhq_meta(folder: Path) -> Case:
    from bench.data import layouts

    meta = folder / "Clip+abcDEF_-123+P0+C1+F10-300.txt"
    meta.write_text("FPS 25.0\nCROP 1 2 600 601\nH 1080\nW 1920\n10 1.0 2.0\n")
    return Case(meta, lambda: layouts.vfhq_train_groups(folder, None))


@case
def candidate_json(folder: Path) -> Case:
    from bench.data import preparation

    preparation.store(folder, preparation.Result("one", "src", "who", "ok", clip={"sizes": {}}, request="r"))
    file = preparation.record_path(folder, "one")
    return Case(file, lambda: (preparation.read_results(folder), preparation.known(folder, "one", "r")))


@case
def folder_index(folder: Path) -> Case:
    return _indexed(folder, "*.json", 0)


@case
def folder_result(folder: Path) -> Case:
    return _indexed(folder, "**/result.json", 0)


def _indexed(folder: Path, pattern: str, number: int) -> Case:
    from bench.data.folder import load_folder as load
    from bench.media.encode import write_clip

    (folder / "mine").mkdir()
    write_clip(folder / "mine" / "a.mp4", [np.full((32, 32, 3), 90, np.uint8)] * 4)
    load(folder / "mine", folder / "cache")
    return Case(sorted((folder / "cache").glob(pattern))[number], lambda: load(folder / "mine", folder / "cache"))


# The store


def recorded(folder: Path, kind: Any, record: dict[str, Any]) -> Case:
    """A record of some kind, read as it is everywhere."""
    from bench.store.records import Records
    from bench.store.storage import Folder

    records = Records(Folder(folder))
    records.put(kind, "aa", record)

    def read() -> None:
        found = records.get(kind, "aa")
        if found is not None and found["status"] == "ok" and kind in ("gen", "feature"):
            blob = found["clip" if kind == "gen" else "blob"]
            assert re.fullmatch(r"[0-9a-f]{64}", blob["sha256"]) and "/" not in blob["suffix"]

    return Case(records.path(kind, "aa"), read)


BLOB = {"sha256": "ab" * 32, "size": 3, "suffix": ".mp4"}


@case
def clip_record(folder: Path) -> Case:
    return recorded(folder, "gen", {"status": "ok", "method": "m", "sample": "s", "clip": BLOB})


@case
def score_record(folder: Path) -> Case:
    return recorded(folder, "score", {"status": "ok", "values": {"psnr": 1.5}, "seconds": 0.1})


@case
def feature_record(folder: Path) -> Case:
    return recorded(folder, "feature", {"status": "ok", "blob": BLOB})


@case
def journal_tsv(folder: Path) -> Case:
    from bench.store.records import Records
    from bench.store.storage import Folder

    records = Records(Folder(folder))
    keys = [f"{n:04x}" for n in range(210)]
    for key in keys:
        records.put("score", key, {"status": "ok", "values": {"psnr": 1.5}})
    records.read("score", keys)
    file = records.root / "score" / "journal.tsv"

    def read() -> None:
        assert all(
            found["status"] in ("ok", "unscored", "error") for found in records.read("score", keys).values()
        )

    return Case(file, read)


@case
def floors_json(folder: Path) -> Case:
    from bench.results import floors
    from bench.results.sensitivity import SCHEMA
    from bench.store.home import Home

    home = Home(folder / "home").ready()
    kept = {"psnr/rgb|psnr": {"same": 1.0, "cross": 2.0, "worst": "x", "protocol": {"params": {}, "weights": {}}}}
    file = dump(
        floors.folder(home, "s") / floors.FLOORS_FILE,
        {"schema": SCHEMA, "split": "s", "floors": kept},
    )
    return Case(file, lambda: floors.floors(home, "s", {"psnr/rgb": {"params": {}, "weights": {}}}))


@case
def synthetic_record(folder: Path) -> Case:
    from bench.synthetic import split

    for name in split._FILES.values():
        (folder / name).write_bytes(b"x")
    known = {key: split._digest(folder / name) for key, name in split._FILES.items()}
    return Case(dump(folder / split._RECORD, {"version": split.VERSION, **known}), lambda: split._verified(folder))
