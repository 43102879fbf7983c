"""The TOML file, the manifest, and window sampling."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_system as tiny
import torch

from actalker.errors import InputError
from actalker.gates import GATES
from actalker.training.config import load_config
from actalker.training.data import Manifest, WindowSampler, prepare_all

GOOD = """
model = "somewhere"
[data]
train = "clips.jsonl"
[run]
out = "out"
[[phases]]
steps = 3
frames = 1
[[phases]]
steps = 2
"""


def write(tmp_path, text):
    path = tmp_path / "train.toml"
    path.write_text(text)
    return path


def test_phases_follow_each_other(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert config.steps == 5
    assert config.phase(2) == (config.phases[0], 2)
    assert config.phase(3) == (config.phases[1], 0)
    assert config.phases[1].frames == 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[run]", "[run]\nsed = 3"), "unknown keys sed"),
        (("[run]", "[run]\nseed = 'x'"), "expected int"),
        (("[run]", "[run]\nprecision = 'fp8'"), "fp32, tf32, bf16, fp16"),
        (('train = "clips.jsonl"', ""), "missing keys 'train'"),
        (("steps = 3", "steps = 0"), "steps >= 1"),
        (("steps = 3", "steps = 3\nbatch = 0"), r"phases\[0\], batch: at least 1"),
        (("[run]", "[run]\nlog_every = 0"), "log_every: at least 1"),
        (("[run]", "[run]\nkeep_checkpoints = 0"), "keep_checkpoints: at least 1"),
        (("[run]", "[run]\nseed = -1"), "seed: at least 0"),
        (("[data]", "[objective]\ndrop_all = 1.5\n[data]"), "drop_all: a share between 0 and 1"),
        (("model", "ablation = 'pcm'\nmodel"), "none, no-pcm, no-mask-drop, no-identity"),
        (("[data]", "[gates]\naudio = 0\nvisual = 0\nboth = 0\n[data]"), "positive sum"),
        (("model", "model ="), "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_config(write(tmp_path, GOOD.replace(*change)))


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


def save_clip(path, clip):
    np.savez(path, frames=clip.frames, audio=clip.audio, face_box=np.ones((len(clip.frames), 4), np.float32))


def test_manifest_reads_arrays_and_identities(tmp_path):
    clip = tiny.clips(1)[0]
    save_clip(tmp_path / "a.npz", clip)
    (tmp_path / "clips.jsonl").write_text(json.dumps({"clip": "a.npz", "identity": "anna"}) + "\n\n")
    manifest = Manifest(tmp_path / "clips.jsonl")
    assert len(manifest) == 1
    read = manifest[0]
    assert read.identity == "anna"
    assert np.array_equal(read.frames, clip.frames) and np.array_equal(read.audio, clip.audio)
    assert read.face is not None and read.face.shape == (6, 4)


def test_manifest_reads_video_files(tmp_path):
    from actalker.media import write_video

    clip = tiny.clips(1)[0]
    frames = clip.frames.repeat(4, 1).repeat(4, 2)
    write_video(tmp_path / "a.mp4", iter(frames), 25, audio=clip.audio.astype(np.float32) / 32768)
    (tmp_path / "clips.jsonl").write_text(json.dumps({"video": "a.mp4", "face": [1, 2, 20, 30]}))
    read = Manifest(tmp_path / "clips.jsonl")[0]
    assert read.frames.shape == (6, 32, 32, 3)
    assert np.abs(read.frames.astype(int) - frames).mean() < 6
    assert read.audio.shape == (6 * 640,) and read.audio.dtype == np.int16
    assert np.array_equal(read.face[5], [1, 2, 20, 30])


@pytest.mark.parametrize(
    ("text", "message"), [("", "lists no clip"), ("{", "not JSON"), ('{"x": 1}', "neither a `clip` nor a `video`")]
)
def test_manifest_mistakes_are_named(tmp_path, text, message):
    (tmp_path / "clips.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        Manifest(tmp_path / "clips.jsonl")


def test_a_listed_clip_that_is_missing_is_named(tmp_path):
    (tmp_path / "clips.jsonl").write_text('{"clip": "gone.npz"}')
    with pytest.raises(InputError, match=r"gone\.npz"):
        Manifest(tmp_path / "clips.jsonl")[0]


def test_windows_need_clips_that_are_long_enough():
    with pytest.raises(InputError, match="no training clip has 7 frames"):
        tiny.sampler().draw(2, 7, GATES["audio"], torch.Generator())


def test_the_same_generator_draws_the_same_windows():
    a, b = (tiny.sampler().draw(6, 2, GATES["audio"], torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a.clean, b.clean)
    c = tiny.sampler().draw(6, 2, GATES["audio"], torch.Generator().manual_seed(4))
    assert not torch.equal(a.clean, c.clean)


def test_prepared_features_are_cached(tmp_path):
    class Once(tiny.TinyPreparation):
        calls = 0

        def prepare(self, clip):
            Once.calls += 1
            return super().prepare(clip)

    first = prepare_all(tiny.clips(2), Once(), tmp_path / "cache")
    second = prepare_all(tiny.clips(2), Once(), tmp_path / "cache")
    assert Once.calls == 2
    assert torch.equal(first[1]["latents"], second[1]["latents"])


class Counting:
    """Stands for the frozen encoders: one number per clip, and how often they ran."""

    def __init__(self, key=""):
        self.key, self.runs = key, 0

    def prepare(self, clip):
        self.runs += 1
        return {"frames": torch.tensor(len(clip.frames)), "mean": torch.tensor(float(clip.frames.mean()))}


def shades(root, *values):
    lines = []
    for shade in values:
        if not (root / f"{shade}.npz").exists():
            frames = np.full((4, 8, 8, 3), shade, np.uint8)
            np.savez(root / f"{shade}.npz", frames=frames, audio=np.zeros(4 * 640, np.int16))
        lines.append(json.dumps({"clip": f"{shade}.npz"}))
    (root / "train.jsonl").write_text("\n".join(lines))
    return Manifest(root / "train.jsonl")


def means(features):
    return [float(f["mean"]) for f in features]


def test_features_follow_the_content_of_a_clip(tmp_path):
    cache = tmp_path / "cache"
    first = Counting()
    assert means(prepare_all(shades(tmp_path, 1, 2, 3), first, cache)) == [1, 2, 3] and first.runs == 3
    again = Counting()
    assert means(prepare_all(shades(tmp_path, 3, 1), again, cache)) == [3, 1] and again.runs == 0
    assert means(prepare_all(shades(tmp_path, 3, 4, 1, 3), again, cache)) == [3, 4, 1, 3] and again.runs == 1
    # The same name with other content, and the same content under another name.
    frames = np.full((4, 8, 8, 3), 9, np.uint8)
    np.savez(tmp_path / "1.npz", frames=frames, audio=np.zeros(4 * 640, np.int16))
    (tmp_path / "3.npz").rename(tmp_path / "renamed.npz")
    (tmp_path / "train.jsonl").write_text('{"clip": "1.npz"}\n{"clip": "renamed.npz"}')
    changed = Counting()
    assert means(prepare_all(Manifest(tmp_path / "train.jsonl"), changed, cache)) == [9, 3] and changed.runs == 1


def test_features_of_other_encoders_are_kept_apart(tmp_path):
    manifest, cache = shades(tmp_path, 1), tmp_path / "cache"
    prepare_all(manifest, Counting("a"), cache)
    other = Counting("b")
    prepare_all(manifest, other, cache)
    assert other.runs == 1


def test_shares_of_two_workers_make_the_whole(tmp_path):
    from actalker.training import features

    manifest, cache = shades(tmp_path, 1, 2, 3, 4, 5), tmp_path / "cache"
    workers = [Counting(), Counting()]
    keys = [f"{manifest.digest(i, features.FileDigests(tmp_path / 'files.json'))}.0" for i in range(5)]
    folder = cache / hashlib.sha256(f"{Counting.__module__}.Counting".encode()).hexdigest()[:16]
    for rank, worker in enumerate(workers):
        store = features.FeatureStore(folder, keys)
        for i in store.missing()[rank::2] if rank == 0 else store.missing():
            store.add(i, worker.prepare(manifest[i]))
        store.flush()
    assert [worker.runs for worker in workers] == [3, 2]
    assert means(prepare_all(manifest, Counting(), cache)) == [1, 2, 3, 4, 5]


def test_an_interrupted_shard_is_made_again(tmp_path):
    manifest, cache = shades(tmp_path, 1, 2), tmp_path / "cache"
    prepare_all(manifest, Counting(), cache)
    (listing,) = cache.glob("*/*.json")
    listing.unlink()  # what a worker killed between the two files leaves
    again = Counting()
    assert means(prepare_all(manifest, again, cache)) == [1, 2] and again.runs == 2


def test_batches_are_drawn_from_clips_of_one_size():
    class Sizes:
        def window(self, features, frames, gates, generator):
            return [tuple(f["size"].tolist()) for f in features]

    listed = [
        {"frames": torch.tensor(5 + i), "size": torch.tensor([64, 64 if i % 3 else 96])} for i in range(12)
    ]  # fmt: skip
    sampler = WindowSampler(listed, Sizes())
    generator = torch.Generator().manual_seed(0)
    drawn = [sampler.draw(3, 6, GATES["audio"], generator) for _ in range(200)]
    assert all(len(set(batch)) == 1 for batch in drawn)
    share = sum(batch[0] == (64, 96) for batch in drawn) / len(drawn)
    assert 0.15 < share < 0.42  # three of eleven clips that are long enough


def test_a_batch_repeats_clips_only_when_there_are_too_few():
    class Which:
        def window(self, features, frames, gates, generator):
            return [int(f["frames"]) for f in features]

    sampler = WindowSampler([{"frames": torch.tensor(n)} for n in (3, 4, 5)], Which())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        assert sorted(sampler.draw(3, 2, GATES["audio"], generator)) == [3, 4, 5]
        assert len(sampler.draw(5, 2, GATES["audio"], generator)) == 5


def test_workers_read_each_file_once(tmp_path, monkeypatch):
    """Finding features by content must not cost every worker the whole data set."""
    from actalker.training import features

    clips = [replace(clip, identity=str(i)) for i, clip in enumerate(tiny.clips(4))]
    for i, clip in enumerate(clips):
        save_clip(tmp_path / f"{i}.npz", clip)
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps({"clip": f"{i}.npz"}) + "\n" for i in range(4)))
    source, read = Manifest(tmp_path / "clips.jsonl"), []
    hashed = features.hashlib.file_digest
    monkeypatch.setattr(
        features.hashlib, "file_digest", lambda file, kind: (read.append(file.name), hashed(file, kind))[1]
    )
    other = features.FileDigests(tmp_path / "other.json")
    for i in (1, 3):
        source.digest(i, other)

    def gather(known, mine):
        known[:] = [mine, other._known]

    monkeypatch.setattr(features.dist, "all_gather_object", gather)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    read.clear()
    prepare_all(source, tiny.TinyPreparation(), tmp_path / "cache", rank=0, world=2)
    assert read == [str(tmp_path / "0.npz"), str(tmp_path / "2.npz")]
