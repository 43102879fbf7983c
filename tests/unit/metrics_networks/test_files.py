"""Protocols on real files, through the registered extractors."""

from __future__ import annotations

import numpy as np
import pytest

from bench.catalogue import extractors, metrics
from bench.media.clip import Clip
from bench.media.encode import write_clip


@pytest.fixture
def files(tmp_path, noise):
    frames = noise(12, 64).copy()
    speech = np.random.default_rng(0).normal(0, 3000, 12 * 640).astype(np.int16)
    write_clip(tmp_path / "truth.mp4", frames, audio=speech)
    write_clip(tmp_path / "generated.mp4", frames // 2 + 64, audio=speech)
    return tmp_path / "generated.mp4", tmp_path / "truth.mp4"


def test_network_protocols_score_files(files, weights_for):
    weights_for("syncnet_v2", "inception_fid", "alexnet", "lpips_alex")
    # Extractors and metrics read the lock when they are built.
    for cached in (metrics, extractors):
        cached.cache_clear()
    clip, truth = (Clip(path, extractors=extractors()) for path in files)
    sync = metrics()["sync/precropped224"].score(clip, truth)
    assert sync["n_windows"] == 7 and all(np.isfinite(v) for v in sync.values())
    fid = metrics()["fid/pytorch_fid_allframes"]
    states = [fid.state(clip), fid.state(truth)]
    assert fid.compute(states[0], states[0])["fid"] == pytest.approx(0, abs=1e-6)
    assert fid.compute(*states)["fid"] > 0
    lpips = metrics()["lpips/alex_v0.1"]
    assert lpips.score(truth, truth)["lpips"] == 0 < lpips.score(clip, truth)["lpips"]
    for cached in (metrics, extractors):
        cached.cache_clear()
