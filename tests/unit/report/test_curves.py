"""What is drawn along a clip comes from stored features."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from skimage.io import imread

from bench.report import curves
from bench.results.runs import load
from bench.synthetic.labels import READINGS


class Store:
    """Features by (sha256, extractor)."""

    def __init__(self, content: dict[str, dict[str, Any]]) -> None:
        self.content = content

    def __call__(self, sha256: str, name: str) -> Any:
        return self.content.get(name) if sha256 else None


def synthetic(frames: int = 40) -> Store:
    generator = np.random.default_rng(0)
    readings = np.zeros((frames, len(READINGS)), np.float32)
    readings[:, READINGS.index("opening")] = np.linspace(0, 1, frames)
    video = generator.normal(size=(frames, 8))
    return Store({
        "synthetic_face": {"readings": readings},
        "synthetic_sync": {"video": video, "audio": np.roll(video, -3, axis=0)},
    })  # fmt: skip


def test_synthetic_mouth_and_sync_curve() -> None:
    store = synthetic()
    mouth = curves.mouth("a", store)
    assert mouth is not None
    assert (mouth[0], mouth[-1]) == (0.0, 1.0)
    curve = curves.sync_curve("a", store)
    assert curve is not None
    assert len(curve) == 31
    # Entry k belongs to offset 15 - k; the sound runs three frames ahead.
    assert 15 - int(np.argmin(np.array(curve, dtype=float))) == 3


def test_real_mouth_is_the_lip_gap_in_eye_distances_and_gaps_are_none() -> None:
    marks = np.zeros((3, 478, 3), np.float32)
    marks[:, 33, 0], marks[:, 263, 0] = -50, 50  # outer eye corners
    marks[:, 14, 1] = 20
    faces = {"landmarks": marks, "valid": np.array([True, False, True])}
    assert curves.mouth("a", Store({"faces": faces})) == [pytest.approx(0.2), None, pytest.approx(0.2)]
    assert curves.mouth("a", Store({})) is None
    tracks = {"frames": np.array([60, 120]), "curve": np.stack([np.zeros(31), np.ones(31)])}
    assert curves.sync_curve("a", Store({"syncnet_tracks": tracks})) == [1.0] * 31


def test_the_spectrogram_is_a_valid_picture_with_low_tones_below() -> None:
    time = np.arange(16000) / 16000
    tone = (8000 * np.sin(2 * np.pi * 250 * time)).astype(np.int16)
    uri = curves.spectrogram(tone)
    assert len(uri) < 6000
    picture = imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.shape[0] == 26
    assert picture[-8:].mean() > 4 * picture[:12].mean()


def test_a_run_folder_gets_its_clips_file(tmp_path: Path) -> None:
    results = fakes.make(protocols=["sync"])
    results.rows.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "run.json").write_text(json.dumps(results.provenance))
    assert curves.write(tmp_path, lambda sha256, name: None) is None
    assert curves.write(tmp_path, synthetic()) == tmp_path / "clips.json"
    found = load(str(tmp_path)).clips
    rows = results.rows.drop_duplicates("clip_sha256")
    warp = rows[rows["method"] == "mouth-warp"]["clip_sha256"].iloc[0]
    truth = rows[rows["method"] == "ground-truth"]["clip_sha256"].iloc[0]
    assert set(found[warp]) == {"fps", "mouth", "reference_mouth", "sync_curve"}
    assert "reference_mouth" not in found[truth]
