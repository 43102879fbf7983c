"""Frames that lie on a device give what frames in arrays give. A tensor on the CPU stands for one on a GPU."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bench.core.keys import digest, file_digest
from bench.execute.tasks import METRICS, ClipRef, Lane, ScoreTask
from bench.execute.worker import Worker
from bench.media import clip as clip_module
from bench.media.encode import write_clip
from bench.metrics import face_tracks, fid, fvd, lpips, pixels, sync
from bench.metrics.geometry import resize
from bench.metrics.networks import resident, s3fd

FRAMES = np.random.default_rng(3).integers(0, 256, (4, 101, 134, 3)).astype(np.uint8)


@pytest.fixture
def on_device(memory_clip):
    """Return a clip's twin whose frames lie on the device; its arrays can no longer be read."""

    def move(clip):
        twin = dataclasses.replace(clip)
        twin.resident = torch.from_numpy(clip.pixels)
        twin.chunks = lambda size=32: pytest.fail("frames were read from the host")
        return twin

    return move


def test_integer_geometry_is_equal_bit_by_bit() -> None:
    there = torch.from_numpy(FRAMES)
    assert np.array_equal(resident.quarter(there), s3fd.quarter(FRAMES))
    assert np.array_equal(resident.resized(there), [resize(f, 224, 224) for f in FRAMES])
    halves = np.ascontiguousarray(FRAMES[:, :100, :100]).repeat(5, 1).repeat(5, 2)[:, :448, :448]
    assert np.array_equal(resident.resized(torch.from_numpy(halves)), [resize(f, 224, 224) for f in halves])


def test_crops_are_equal_inside_and_beyond_the_frame() -> None:
    path = np.array([[30.0, 60, 50], [45.5, 10, 95], [80, 130.3, 3], [12.25, -20, 40]])
    expected = [face_tracks.crop(f, *place) for f, place in zip(FRAMES, path, strict=True)]
    assert np.array_equal(resident.crops(torch.from_numpy(FRAMES), path), expected)


def test_scene_change_is_equal_bit_by_bit() -> None:
    there = torch.from_numpy(FRAMES)
    assert np.array_equal(resident.change(there, None), face_tracks.change(FRAMES, None))
    assert np.array_equal(resident.change(there[1:], there[0]), face_tracks.change(FRAMES[1:], FRAMES[0]))


@pytest.mark.parametrize("metric", [pixels.PSNR(), pixels.SSIM()], ids=["psnr", "ssim"])
def test_pixel_metrics_agree(metric, memory_clip, on_device) -> None:
    ours, theirs = memory_clip(FRAMES), memory_clip(np.minimum(FRAMES, 200))
    ours.pixels = FRAMES.copy()
    ours.pixels[0] = theirs.pixels[0]  # an identical frame
    expected = metric.score(ours, theirs)
    assert metric.score(on_device(ours), on_device(theirs)) == pytest.approx(expected, rel=1e-12)


def test_networks_agree_whatever_the_batch(weights_for, memory_clip, on_device, noise) -> None:
    weights_for("inception_fid", "i3d_kinetics400", "resnet50_kinetics", "alexnet", "lpips_alex")
    clip, other = memory_clip(noise(21, 64)), memory_clip(noise(21, 64, seed=1))
    for extractor in (fid.InceptionFrames(), fvd.WholeClipI3d(), fvd.Segments3dResNet()):
        here, there = (extractor.extract(c)["features"] for c in (clip, on_device(clip)))
        assert np.abs(here - there).max() <= 1e-6 * np.abs(here).max(), extractor
    metric = lpips.Alex()
    assert metric.score(on_device(clip), on_device(other)) == pytest.approx(metric.score(clip, other), rel=1e-6)


def test_faces_and_lips_agree(weights_for, memory_clip, on_device, noise) -> None:
    weights_for("sfd_face", "syncnet_v2")
    clip = memory_clip(noise(9, 128))
    here, there = (sync.Faces().extract(c) for c in (clip, on_device(clip)))
    assert all(np.allclose(here[k], there[k], atol=1e-4) for k in here)
    clip.sound = np.random.default_rng(0).integers(-9000, 9000, 9 * 640).astype(np.int16)
    here, there = (sync.FrameSync().extract(c) for c in (clip, on_device(clip)))
    assert np.allclose(here["curve"], there["curve"], rtol=1e-6)


def test_one_task_decodes_and_uploads_each_clip_once(weights_for, noise, tmp_path, monkeypatch) -> None:
    """All protocols of a GPU task, on whatever device this machine has: the frames travel there once."""
    weights_for("inception_fid", "i3d_kinetics400", "alexnet", "lpips_alex")
    refs = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}.mp4"
        write_clip(path, noise(12, 64, seed), 25.0, None)
        refs.append(ClipRef(file_digest(path), path))
    names = ("psnr/rgb_float64", "ssim/gaussian11", "lpips/alex_v0.1")
    protocols = tuple((name, digest([name]), {}) for name in names)
    warm = ("inception2048", "i3d")
    task = ScoreTask("k", refs[0], refs[1], protocols, warm, lane=Lane(METRICS, 1, 1.0))
    uploaded, decoded = [], []
    from_numpy, chunks = torch.from_numpy, clip_module.chunks

    def count_upload(array):
        uploaded.append(array.nbytes if array.dtype == np.uint8 else 0)
        return from_numpy(array)

    def count_decode(*arguments, **more):
        decoded.append(arguments[0])
        return chunks(*arguments, **more)

    monkeypatch.setattr(torch, "from_numpy", count_upload)
    monkeypatch.setattr(clip_module, "chunks", count_decode)
    worker = Worker(tmp_path / "home")
    outcome = worker.run(task, ahead=task)
    assert [r["status"] for r in outcome.records.values()] == ["ok"] * 3
    assert sorted(decoded) == [ref.path for ref in refs]
    assert sum(uploaded) == 2 * 12 * 64 * 64 * 3
    assert all(worker._shop.bank.stored(refs[0].sha256, name) is not None for name in warm)
