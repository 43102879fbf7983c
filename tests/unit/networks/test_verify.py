"""The comparison that `bench verify-metrics` prints."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bench.cli import invoke
from bench.core.errors import UsageError
from bench.media.encode import write_clip
from bench.metrics import pixels, references, verify
from bench.metrics.deviation import deviations
from bench.metrics.precision import Precision, cpu_note


@pytest.fixture
def clip(tmp_path):
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (12, 8, 8, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    speech = generator.normal(0, 3000, 12 * 640).astype(np.int16)
    write_clip(tmp_path / "clip.mp4", frames, audio=speech)
    return tmp_path / "clip.mp4"


def test_weight_free_metrics_agree_with_their_references(clip):
    pytest.importorskip("python_speech_features")
    rows = verify.verify([clip], ["mfcc", "psnr/rgb_float64", "ssim"])
    assert [row.metric for row in rows] == ["mfcc", "psnr", "ssim"]
    assert all(row.ok and row.speedup > 0 for row in rows)
    assert all(row.difference <= row.tolerance for row in rows)


def test_a_wrong_implementation_is_caught(clip, monkeypatch):
    monkeypatch.setattr(pixels, "psnr", lambda a, b: np.full(len(a), 28.0))
    (row,) = verify.verify([clip], ["psnr"])
    assert row.ok is False and row.ours == 28.0


def test_a_missing_package_is_a_row_with_the_command(clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    (row,) = verify.verify([clip], ["lpips"])
    assert row.ok is None and math.isnan(row.difference)
    assert "pip install --no-deps lpips" in row.note


@pytest.mark.skipif(bool(cpu_note(Precision.BF16)), reason="bf16 without hardware takes minutes here")
def test_bfloat16_is_measured_against_float32_and_not_judged(clip):
    rows = deviations([clip], ["fvd", "lpips/alex_v0.1"])
    assert [row.metric for row in rows] == ["fvd features+bf16", "lpips alex+bf16"]
    for row in rows:
        assert 1e-5 < row.difference < 0.1 and row.ok is None
        assert "to float32" in row.note
    with pytest.raises(UsageError, match="no reference for 'psnr'"):
        deviations([clip], ["psnr"])


def test_the_table_has_a_verdict_and_an_exit_code(clip, monkeypatch, capsys):
    pytest.importorskip("python_speech_features")
    command = ["verify-metrics", str(clip), "--metrics", "mfcc,psnr"]
    assert invoke(command) == 0
    shown = capsys.readouterr()
    assert "2 of 2 comparisons agree." in shown.err and shown.out.count(" yes ") == 2
    monkeypatch.setattr(pixels, "psnr", lambda a, b: np.full(len(a), 28.0))
    assert invoke(command) == 1
    shown = capsys.readouterr()
    assert "1 of 2 comparisons agree." in shown.err and " NO " in shown.out
    assert invoke([*command, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["ok"] for row in rows] == [True, False]


def test_values_without_a_reference_are_null_for_programs(clip, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    assert invoke(["verify-metrics", str(clip), "--metrics", "lpips", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert row["ok"] is None and row["difference"] is None


def test_mistakes_are_explained(clip):
    with pytest.raises(UsageError, match="Did you mean 'ssim'"):
        verify.verify([clip], ["sssim"])
    with pytest.raises(UsageError, match="Nothing to compare on"):
        verify.verify([])


def test_random_weights_fit_the_networks_and_find_one_face(tmp_path, monkeypatch):
    from bench import weights
    from bench.metrics.networks import s3fd

    lock = references.write_random_weights(tmp_path, ["sfd_face", "lpips_alex"])
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", str(lock))
    assert [s.state for s in weights.verify(["sfd_face", "lpips_alex", "vgg16"])] == ["ok", "ok", "missing"]
    picture = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)
    (faces,) = s3fd.Detector()(picture, 512, 512)
    assert np.allclose(faces[:, :4], [[128, 128, 384, 384]], atol=1)
