"""A model in training is scored by the harness, which it finds by a name only."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import av
import numpy as np
import pytest

from actalker import media
from actalker.training import validation
from bench.core.errors import BenchError
from bench.run.validation import METRICS, score_clips

ROOT = Path(__file__).resolve().parents[3]


def clip(path: Path, seed: int, noise: int = 0) -> Path:
    """A second of a coarse pattern that moves, at 12.5 fps, with sound."""
    rng = np.random.default_rng(seed)
    pattern = np.kron(rng.integers(40, 200, (8, 8, 3)), np.ones((8, 8, 1), int))
    frames = (np.roll(pattern, i, 1) + rng.integers(-noise, noise + 1, pattern.shape) for i in range(12))
    sound = rng.normal(size=16_000).astype(np.float32) / 9
    media.write_video(path, (f.clip(0, 255).astype(np.uint8) for f in frames), 12.5, sound)
    return path


def psnr(ours: Path, theirs: Path) -> float:
    pair = []
    for path in (ours, theirs):
        with av.open(str(path)) as opened:
            pair.append([f.to_ndarray(format="rgb24").astype(float) for f in opened.decode(video=0)])
    return float(np.mean([10 * np.log10(255**2 / np.square(a - b).mean()) for a, b in zip(*pair, strict=True)]))


def test_clips_are_scored_pair_by_pair(tmp_path: Path) -> None:
    """By default with every metric of single clips that can run here."""
    truth = [clip(tmp_path / f"true_{i}.mp4", i) for i in range(2)]
    made = [clip(tmp_path / "second.mp4", 0, 9), clip(tmp_path / "first.mp4", 1, 30)]
    found = score_clips(truth, made)
    wanted = np.mean([psnr(*pair) for pair in zip(made, truth, strict=True)])
    assert found["psnr/rgb_float64/psnr"] == pytest.approx(wanted, abs=0.3)
    assert found["psnr/rgb_float64/coverage"] == 1
    assert "ssim/gaussian11/ssim" in found and "fid" not in {name.partition("/")[0] for name in found}


def test_what_cannot_be_scored_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS, "no-such-metric")
    truth = clip(tmp_path / "true.mp4", 0)
    with pytest.raises(BenchError, match="no-such-metric"):
        score_clips([truth], [truth])


def test_the_package_offers_it_to_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    points = [EntryPoint(k, v, validation.ENTRY_POINTS) for k, v in declared[validation.ENTRY_POINTS].items()]
    monkeypatch.setattr(validation, "entry_points", lambda group: points if group == points[0].group else [])
    assert validation.find_scores(("bench",)) == {"bench": score_clips}
