from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from bench.core.errors import UsageError
from bench.store.files import StoreFull, staged, sweep
from bench.store.home import Home


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), staged(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreFull, match="Free some space"), staged(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_only_old_leftovers(tmp_path: Path) -> None:
    home = Home(tmp_path).ready()
    home.records.put("set", "ab" * 32, {"status": "ok"})
    scratch = home.blobs.root / "scratch"
    scratch.mkdir()
    (scratch / "x.mp4").write_bytes(b"half a clip")
    (tmp_path / ".rows.parquet.123.part").write_bytes(b"")
    assert sweep(tmp_path, older_than=time.time() - 60) == 0
    assert sweep(tmp_path, older_than=time.time() + 60) == 2
    assert home.records.get("set", "ab" * 32) == {"status": "ok"}


def test_a_blob_is_found_by_content_and_its_damage_is_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.blobs.scratch(".mp4") as path:
        path.write_bytes(b"clip")
        blob = home.blobs.adopt(path, ".mp4")
    assert home.blobs.has(blob) and home.blobs.verify(blob)
    home.blobs.path(blob).write_bytes(b"clop")
    assert home.blobs.has(blob) and not home.blobs.verify(blob)
    home.blobs.path(blob).write_bytes(b"cl")
    assert not home.blobs.has(blob)


def test_many_records_come_back_through_the_journal_and_changes_are_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    keys = [f"{i:064x}" for i in range(300)]
    for i, key in enumerate(keys):
        home.records.put("score", key, {"status": "ok", "n": i, "text": "tab\t and\nnewline"})
    first = home.records.read("score", keys)
    assert [first[k]["n"] for k in keys] == list(range(300))
    journal = tmp_path / "records" / "score" / "journal.tsv"
    assert journal.is_file()
    # A journal is a copy: a record that changed or went away is not believed from it.
    home.records.put("score", keys[0], {"status": "ok", "n": "changed"})
    home.records.drop("score", keys[1])
    again = home.records.read("score", keys)
    assert again[keys[0]] == {"status": "ok", "n": "changed"}
    assert keys[1] not in again
    journal.unlink()
    assert home.records.read("score", keys) == again


def test_a_record_is_one_whole_json_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.records.put("gen", "cd" * 32, {"b": 1, "a": "é"})
    assert json.loads(home.records.path("gen", "cd" * 32).read_text()) == {"a": "é", "b": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_home_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Cannot write"):
        Home(tmp_path / "x").ready()


def test_a_file_as_home_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Home(tmp_path / "f")


def test_a_damaged_record_counts_as_missing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.records.put("set", "ab" * 32, {"status": "ok"})
    home.records.path("set", "ab" * 32).write_text('{"status": "o')
    assert home.records.get("set", "ab" * 32) is None


def test_a_new_store_stays_out_of_its_users_repository(tmp_path: Path) -> None:
    assert not (Home(tmp_path / "alone").ready().path / ".gitignore").exists()
    (tmp_path / ".git").mkdir()
    assert (Home(tmp_path / "new").ready().path / ".gitignore").read_text() == "*\n"
    (tmp_path / "old").mkdir()
    assert not (Home(tmp_path / "old").ready().path / ".gitignore").exists(), (
        "a folder of the user's is left as it is"
    )
