"""Files are written where they belong: never through a link, never half, as private as their folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import report
from bench.core.errors import UsageError
from bench.media.encode import write_clip, write_image
from bench.results import reference
from bench.results.runs import Results
from bench.run.voting import make_study
from bench.store.files import append_to, staged, write_bytes
from bench.store.home import Home


def results(folder: Path, **rows: str) -> Results:
    row = {
        "kind": "clip", "method": "m", "gate": "audio", "sample": "s", "identity": "i", "protocol": "psnr/x",
        "column": "psnr", "value": 1.0, "status": "ok", "dataset": "d", "split": "t", "domain": "real",
    }  # fmt: skip
    return Results.from_rows(pd.DataFrame([row | rows]), {}, name="run", folder=folder)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    file = tmp_path / "outside" / "precious"
    file.parent.mkdir()
    file.write_text("precious")
    return file


def test_a_link_is_replaced_and_not_followed(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / "report.md"
    link.symlink_to(precious)
    write_bytes(link, b"new")
    assert precious.read_text() == "precious"
    assert link.read_text() == "new"
    assert not link.is_symlink()


def test_a_linked_folder_does_not_lead_out(tmp_path: Path, precious: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "media").symlink_to(precious.parent)
    for name in ("media/new", "media/deeper/new", "../outside/new", "media/.."):
        with pytest.raises(UsageError, match="leads out of"):
            write_bytes(out / name, b"x", within=out)
    assert names(precious.parent) == ["precious"]


def test_a_report_and_a_reference_keep_inside(tmp_path: Path, precious: Path) -> None:
    for made in ("report.md", "report.csv", "report.html"):
        out = tmp_path / made
        out.mkdir()
        (out / made).symlink_to(precious)
        report.write(results(tmp_path), out, formats=("md", "csv", "html"))
    folder = tmp_path / "references"
    (folder / "mine").mkdir(parents=True)
    for name in ("rows.parquet", "run.json"):
        (folder / "mine" / name).symlink_to(precious)
    reference.save(results(tmp_path), "mine", folder=folder)
    (folder / "theirs").symlink_to(precious.parent)
    with pytest.raises(UsageError, match="leads out of"):
        reference.save(results(tmp_path), "theirs", folder=folder)
    assert precious.read_text() == "precious"
    assert names(precious.parent) == ["precious"]


def test_what_failed_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "file"
    write_bytes(final, b"old")
    with pytest.raises(ZeroDivisionError), staged(final) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert final.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_only_a_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(UsageError, match="no file that could be replaced"):
            write_bytes(tmp_path / name, b"x")


@pytest.mark.parametrize("kind", ["own", "stranger"])
def test_media_are_copied_from_the_runs_own_places_and_only_media(tmp_path: Path, kind: str) -> None:
    home = Home().ready()
    (run := (home.runs / "run" if kind == "own" else tmp_path / "sent/runs/run")).mkdir(parents=True)
    secret, album = tmp_path / "id_ed25519", tmp_path / "album.png"
    secret.write_text("PRIVATE KEY")
    for picture in (album, run / "in_run.png", run.parent.parent / "blobs/aa/in_store.png"):
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_image(picture, np.full((8, 8, 3), 90, np.uint8))
    (run / "key.png").write_text("PRIVATE KEY")
    (run / "album.png").symlink_to(album)
    taken = []
    for number, path in enumerate(
        [
            secret,
            run / "key.png",
            album,
            "album.png",
            "in_run.png",
            "../../blobs/aa/in_store.png",
            "x\0y",
            "n" * 300,
        ]
    ):
        out = tmp_path / f"out{number}"
        report.write(results(run, image_path=str(path)), out, formats=("html",), copy_media=True)
        taken += [Path(path).name for _ in (out / "media").glob("*")]
    mine = ["album.png", "album.png"] if kind == "own" else []
    assert taken == [*mine, "in_run.png", "in_store.png"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_its_users_alone(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    for home in (Home(tmp_path / "new").ready(), Home(tmp_path / "open").ready()):
        home.records.put("score", "ab", {"status": "ok"})
        write_bytes(home.data / "set" / "identity", b"vector")
        assert mode(home.records.root) == mode(home.data) == 0o700
        assert mode(home.records.path("score", "ab")) == mode(home.data / "set" / "identity") == 0o600
    assert mode(tmp_path / "new") == 0o700
    old = tmp_path / "old"
    (old / "records").mkdir(parents=True, mode=0o755)
    assert mode(Home(old).ready().records.root) == 0o700


def test_a_home_with_the_sign_of_a_group_is_the_groups(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab").chmod(0o2770)
    home = Home(tmp_path / "lab").ready()
    home.records.put("score", "ab", {"status": "ok"})
    assert mode(home.records.path("score", "ab")) == 0o660
    assert mode(home.records.path("score", "ab").parent) == 0o2770
    assert mode(home.data) == 0o2770


def test_a_file_outside_the_home_follows_its_folder_and_the_umask(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public").chmod(0o777)
    write_bytes(tmp_path / "public" / "report.md", b"x")
    assert mode(tmp_path / "public" / "report.md") & 0o022 == 0
    assert mode(tmp_path / "public" / "report.md") & 0o444 == 0o444


def test_a_log_and_a_lock_are_never_a_links_target(tmp_path: Path, precious: Path) -> None:
    log = tmp_path / "log"
    for trap in (precious, tmp_path / "missing"):
        log.symlink_to(trap)
        with pytest.raises(UsageError, match="is a link or no file"):
            append_to(log)
        with append_to(log, fresh=True) as file:
            file.write(b"a")
        with append_to(log) as file:
            file.write(b"b")
        assert log.read_bytes() == b"ab"
        assert not log.is_symlink()
        log.unlink()
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "outside"):
        with pytest.raises(UsageError, match="is a link or no file"):
            append_to(tmp_path / name)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "missing").exists()


def test_a_strangers_run_shows_raters_only_what_came_with_it(tmp_path: Path) -> None:
    """Raters may be anybody on the network, and rows can name any video of the user."""
    (run := tmp_path / "sent").mkdir()
    private = tmp_path / "private.mp4"
    for path in (private, run / "a.mp4", run / "b.mp4"):
        write_clip(path, [np.full((16, 16, 3), 90, np.uint8)] * 3)
    rows = [("a", "a.mp4"), ("b", "b.mp4"), ("c", str(private)), ("d", "../private.mp4")]
    parts = [results(run, method=m, clip_path=p, image_path="/etc/passwd").rows for m, p in rows]
    found = Results.from_rows(pd.concat(parts), {}, name="sent", folder=run)
    study = make_study(found, tmp_path / "study", ["realism", "identity"])
    assert {clip.method for clip in study.clips} == {"a", "b"}
    assert study.pictures == {}
