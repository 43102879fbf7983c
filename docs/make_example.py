"""Writes docs/example, a small report with its clips and rows: python docs/make_example.py RUN."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

import bench
from bench.report.page import Media
from bench.results.runs import PROVENANCE_FILE, ROWS_FILE

FOLDER = Path(__file__).with_name("example")


def main(name: str) -> None:
    """Copy page, clips, rows and provenance of a run; paths in the rows lead to the copies."""
    run = bench.load(name)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    run.report(FOLDER, formats=("html",), copy_media=True)
    media = Media(FOLDER, run.folder, copy=True)
    rows = run.rows.copy()
    for column in ("clip_path", "reference_path", "image_path"):
        rows[column] = [unquote(media.link(path)) for path in rows[column]]
    rows["audio_path"] = ""  # nobody needs it: the speech is heard in the clips
    rows.to_parquet(FOLDER / ROWS_FILE, index=False)
    shutil.copyfile(run.folder / PROVENANCE_FILE, FOLDER / PROVENANCE_FILE)


if __name__ == "__main__":
    main(sys.argv[1])
