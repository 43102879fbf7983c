"""Ids from annotations, lists and manifests name things; they never name places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.data import celebv_hq, datasets, declared
from bench.data.candidates import Candidate
from bench.store.home import Home

PLACES = ["/etc/passwd", "../up", "a/b", "..", ".hidden", "a\\b\n", "x\0y", "n" * 300, "a b;rm"]


@pytest.mark.parametrize("name", PLACES)
def test_a_source_id_that_could_be_a_path_is_a_problem(name: str, tmp_path: Path) -> None:
    found = Candidate("clip", "who", name, url=f"https://example.org/{name}")
    assert (found.source_id, found.url) == ("", "")
    assert "no usable source id" in found.problem
    clip = {
        "ytb_id": name,
        "duration": {"start_sec": 0.0, "end_sec": 5.0},
        "bbox": {"top": 0.0, "bottom": 0.9, "left": 0.1, "right": 0.6},
        "attributes": {"action": [1], "appearance": [0]},
    }
    meta = {"action_mapping": ["talk"], "appearance_mapping": ["blurry"]}
    file = tmp_path / "celebvhq_info.json"
    file.write_text(json.dumps({"meta_info": meta, "clips": {"c": clip, "d": clip | {"ytb_id": "-abcDEF_123"}}}))
    bad, good = celebv_hq.candidates(file)
    assert "no usable source id" in bad.problem
    assert (good.problem, good.source_id) == ("", "-abcDEF_123")


@pytest.mark.parametrize(
    "text", ["[" * 99999, "{}", "[]", "null", '{"clips": 1}', '{"clips": [1], "meta_info": {}}', "\xff"]
)
def test_a_broken_annotation_file_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BenchError, match=r"a\.json is not CelebV-HQ's annotation file"):
        celebv_hq.candidates(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[]", '{"list": 1}\n[]', "{", '{"list": 1}\n{"clip_id": 1}', "[" * 99999])
def test_a_broken_list_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(BenchError, match=r"test\.jsonl"):
        declared.read_list(tmp_path / "test.jsonl")


@pytest.mark.parametrize("line", ["[]", "{}", '{"clip_id": "x", "folder": 1}', "[" * 99999, "\x00"])
def test_a_broken_manifest_is_a_sentence(line: str, tmp_path: Path) -> None:
    home = Home(tmp_path).ready()
    (home.data / "ravdess").mkdir()
    (home.data / "ravdess" / "manifest.jsonl").write_text(line)
    with pytest.raises(BenchError, match="is damaged"):
        datasets.load("ravdess", home)
