"""Contact sheets: which frames a strip shows, that strips are made once, and what happens to broken clips."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.media.encode import write_clip
from bench.report import curves, sheets
from bench.results.runs import Results, load, merge

SECONDS = 2.0
FRAMES = int(25 * SECONDS)


def film(path: Path, frames: int = FRAMES, size: tuple[int, int] = (64, 64), dark: int = 0) -> Path:
    """A clip that becomes brighter: frame n has the grey 4 n + 8."""
    write_clip(path, (np.full((*size, 3), max(0, 4 * n + 8 - dark), np.uint8) for n in range(frames)))
    return path


def greys(strip: np.ndarray) -> list[float]:
    return [float(part.mean()) for part in np.split(strip, sheets.FRAMES, axis=1)]


def test_a_strip_shows_the_middle_of_each_eighth(tmp_path: Path) -> None:
    found = greys(sheets.strip(film(tmp_path / "a.mp4"), SECONDS))
    # The frame shown just before (i + 1/2)/8 of two seconds, by its number and so by its grey.
    numbers = [int(np.ceil((i + 0.5) / sheets.FRAMES * FRAMES)) - 1 for i in range(sheets.FRAMES)]
    assert found == pytest.approx([4 * n + 8 for n in numbers], abs=5)


def test_a_shorter_clip_keeps_the_moments_and_ends_black(tmp_path: Path) -> None:
    whole = greys(sheets.strip(film(tmp_path / "a.mp4"), SECONDS))
    half = greys(sheets.strip(film(tmp_path / "b.mp4", FRAMES // 2), SECONDS))
    assert half[:4] == pytest.approx(whole[:4], abs=3)
    assert half[5:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("size", "width"), [((64, 64), 96), ((64, 128), 192), ((128, 64), 48)])
def test_frames_keep_their_aspect(tmp_path: Path, size: tuple[int, int], width: int) -> None:
    strip = sheets.strip(film(tmp_path / "a.mp4", size=size), SECONDS)
    assert strip.shape == (sheets.HEIGHT, width * sheets.FRAMES, 3)


def clips(folder: Path, samples: int = 3, methods: tuple[str, ...] = ("zoe", "ground-truth")) -> pd.DataFrame:
    rows = []
    for s in range(samples):
        for k, method in enumerate(methods):
            path = film(folder / f"{method}{s}.mp4", dark=2 * s + k)
            rows.append((method, "audio", "d", "t", f"s{s}", fakes.digest("clip", method, s), path.name))
    names = ["method", "gate", "dataset", "split", "sample", "clip_sha256", "clip_path"]
    return pd.DataFrame(rows, columns=names)


def test_strips_are_the_same_bytes_again_and_made_only_once(tmp_path: Path) -> None:
    rows = clips(tmp_path)
    found = sheets.write(rows, tmp_path)
    assert set(found) == set(rows["clip_sha256"])
    files = sorted((tmp_path / "sheets").iterdir())
    first = [f.read_bytes() for f in files]
    with Image.open(files[0]) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (96 * sheets.FRAMES, 96)
    stamps = [f.stat().st_mtime_ns for f in files]
    assert sheets.write(rows.iloc[::-1], tmp_path) == found
    assert [f.stat().st_mtime_ns for f in files] == stamps
    for file in files:
        file.unlink()
    sheets.write(rows, tmp_path)
    assert [f.read_bytes() for f in files] == first


def test_too_many_clips_give_whole_sheets_for_some_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = clips(tmp_path, samples=5)
    monkeypatch.setattr(sheets, "MOST_STRIPS", 4)
    found = sheets.write(rows, tmp_path)
    chosen = rows[rows["clip_sha256"].isin(found)]
    assert sorted(chosen["sample"].unique()) == ["s0", "s3"]
    assert len(found) == 4


def test_broken_and_missing_clips_go_without(tmp_path: Path) -> None:
    rows = clips(tmp_path, samples=1, methods=("ground-truth", "broken", "gone", "whole"))
    (tmp_path / "broken0.mp4").write_bytes(b"no video")
    (tmp_path / "gone0.mp4").unlink()
    found = sheets.write(rows, tmp_path)
    assert set(rows[rows["clip_sha256"].isin(found)]["method"]) == {"ground-truth", "whole"}
    (tmp_path / "ground-truth0.mp4").unlink()
    # Without a ground truth the first readable clip decides the moments.
    assert set(rows[rows["clip_sha256"].isin(sheets.write(rows, tmp_path))]["method"]) == {"ground-truth", "whole"}


def test_a_run_folder_links_its_strips_and_merging_keeps_the_links(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = tmp_path / name
        run.mkdir()
        film(run / "clip.mp4")
        methods = {name: ("model", ("audio",), 0.5)}
        results = fakes.make(methods=methods, protocols=["psnr"], identities=2, media={"clip": "clip.mp4"})
        results.rows.to_parquet(run / "rows.parquet")
        (run / "run.json").write_text(json.dumps(results.provenance))
        assert curves.write(run, lambda sha256, extractor: None) == run / "clips.json"
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    assert all((tmp_path / "one" / extra["sheet"]).is_file() for extra in one.clips.values())
    both: Results = merge([one, two])
    links = {extra["sheet"] for extra in both.clips.values()}
    assert len(links) == 4
    assert {Path(link).parent.parent for link in links} == {tmp_path / "one", tmp_path / "two"}
