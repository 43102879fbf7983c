"""Training of the embedded networks: resumable, seeded, and written so that it can be loaded again."""

import json

import numpy as np
import pytest
import torch

from bench.synthetic import embedded, networks, stages, training_data
from bench.synthetic.train import train

TINY = {"scale": 0.001, "bf16": False}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("work")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    for stage in (stages.FrameStage, stages.FaceStage, stages.ClipStage):
        monkeypatch.setattr(stage, "BATCH", 8)
    monkeypatch.setattr(stages.IdentityStage, "PAIRS", 4)
    monkeypatch.setattr(stages.SyncStage, "WINDOWS", 2)


@pytest.mark.parametrize("name", list(stages.STAGES))
def test_every_network_trains_and_loads(name, work, tmp_path):
    assert train(name, work, tmp_path, steps=2, **TINY)
    entry = json.loads((tmp_path / embedded.MANIFEST).read_text())[f"synthetic_{name}"]
    network = embedded.load_file(name, tmp_path / entry["file"])
    assert not network.training
    assert sum(p.numel() for p in network.parameters()) == entry["parameters"]
    assert all(torch.isfinite(v).all() for v in network.state_dict().values())
    (work / f"{name}.checkpoint").unlink(missing_ok=True)


def test_a_run_that_was_cut_off_ends_with_the_same_weights(work, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("clip", work, whole, steps=5, **TINY)
    assert not train("clip", work, parts, steps=5, stop_after=2, **TINY)
    assert not (parts / "synthetic_clip.safetensors").exists()
    assert train("clip", work, parts, steps=5, **TINY)
    name = "synthetic_clip.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert train("clip", work, tmp_path / "other", steps=5, seed=1, **TINY)
    assert (whole / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_training_data_are_made_once(work):
    first = stages.clips(work, 0.001, None)
    frames = first["frames"]
    assert frames.shape == (8, 50, 64, 64, 3)
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*.npy")}
    stages.clips(work, 0.001, None)
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*.npy")} == before


def test_compression_keeps_frames_and_sound_in_step():
    from bench.synthetic.clip import make_clip

    made = make_clip("train", 3, 40)
    seen, heard = training_data.compressed(made.frames, made.audio)
    assert seen.shape == made.frames.shape
    assert heard.shape == made.audio.shape
    assert np.corrcoef(heard, made.audio)[0, 1] > 0.98
    before, after = (f.astype(float) @ [0.299, 0.587, 0.114] for f in (made.frames, seen))  # colour is coarser
    same = ((after - before) ** 2).mean()
    moved = ((after[1:] - before[:-1]) ** 2).mean()
    assert same < 0.5 * moved


def test_crop_coordinates_and_pixels_are_inverse():
    pose = torch.tensor([[0.2, 0.1, 0.1, 0.05, 0.02, 1.03], [-0.4, 0, -0.2, 0, 0, 0.9]])
    pixels = torch.rand(2, 43, 2, generator=torch.Generator().manual_seed(0)) * 64
    back = networks.FaceNet.to_pixels(networks.FaceNet.to_crops(pixels, pose), pose)
    assert torch.allclose(back, pixels, atol=1e-4)


def test_a_crop_shows_what_its_coordinates_say():
    # A single bright pixel must appear in the crop where `to_crops` puts it.
    pose = torch.tensor([[0.1, -0.05, 0.15, 0.03, 0.0, 1.0]])
    frame = torch.zeros(1, 3, 64, 64)
    frame[0, :, 46, 33] = 1
    points = torch.full((1, 43, 2), 40.0)
    points[0, 30] = torch.tensor([33.0, 46.0])  # in the lower group
    wanted = networks.FaceNet.to_crops(points, pose)[0, 30]
    seen = networks.crop(frame, pose, networks.FaceNet.LOWER)[0, 0]
    row, column = divmod(int(seen.argmax()), seen.shape[1])
    found = torch.tensor([column / (seen.shape[1] - 1) * 2 - 1, row / (seen.shape[0] - 1) * 2 - 1])
    assert (found - wanted).abs().max() < 0.06


def test_corruption_levels_of_the_clip_stage_match_what_was_done():
    x = torch.arange(16.0).view(16, 1, 1, 1).expand(16, 3, 4, 4) / 16
    seen_any = False
    for seed in range(60):
        torch.manual_seed(seed)
        out, (_blur, noise, freeze, hold, shuffle) = stages.ClipStage._corrupt(x, np.random.default_rng(seed))
        changed = not torch.equal(out, x)
        assert changed or not (noise or hold or (freeze and freeze > 1 / 16))
        if freeze and not (noise or hold or shuffle):
            still = (out[1:] == out[:-1]).flatten(1).all(1).float().mean()
            assert still == pytest.approx(freeze * 16 / 15 - 1 / 15, abs=1e-6)
            seen_any = True
    assert seen_any
