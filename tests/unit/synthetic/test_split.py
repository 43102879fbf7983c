"""Synthetic splits: the same bytes every time, repaired when damaged."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import UsageError
from bench.media.clip import Clip
from bench.media.decode import read_audio, read_image
from bench.synthetic.parameters import identity
from bench.synthetic.split import NOTES, SPLITS, make_split


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("a split")
    return root, make_split("synthetic-ci", root)


def contents(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_samples_are_complete_self_reenactment_tasks(made):
    _, split = made
    assert split.domain == "synthetic"
    assert split.notes == NOTES
    assert len(split.samples) == 4
    assert len({s.id for s in split.samples}) == 4
    assert sorted({s.identity for s in split.samples}) == ["id00", "id01"]
    for sample in split.samples:
        assert sample.video == sample.reference
        clip = Clip(sample.reference)
        assert (clip.frames, clip.width, clip.height) == (75, 64, 64)
        assert sample.frames == 75
        first = next(clip.chunks(1))[0]
        assert np.array_equal(read_image(sample.image), first)
        assert len(read_audio(sample.audio)) == 48_000
        for key, path in (("image", sample.image), ("audio", sample.audio), ("reference", sample.reference)):
            assert sample.digests[key] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_truth_describes_the_clip(made):
    _, split = made
    with np.load(split.samples[2].truth) as truth:
        assert truth["landmarks"].shape == (75, 43, 2)
        assert truth["labels"].shape == (75, 64, 64)
        assert np.array_equal(truth["identity"], identity("test", 1))
        assert truth["phonemes"].dtype.kind == "U"


def test_another_folder_gets_the_same_bytes(made, tmp_path):
    root, _ = made
    calls = []
    make_split("synthetic-ci", tmp_path, lambda done, total: calls.append((done, total)))
    assert contents(tmp_path) == contents(root)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_damaged_and_missing_files_are_made_again(made):
    root, split = made
    before = contents(root)
    split.samples[0].reference.write_bytes(b"not a video")
    split.samples[1].truth.unlink()
    untouched = split.samples[2].reference.stat().st_mtime_ns
    assert make_split("synthetic-ci", root) == split
    assert contents(root) == before
    assert split.samples[2].reference.stat().st_mtime_ns == untouched


def test_unknown_split_is_explained(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'synthetic-val'"):
        make_split("synthetic-vla", tmp_path)


def test_splits_share_no_identity_with_validation_or_training():
    faces = {
        name: {identity(recipe.partition, i).tobytes() for i in range(recipe.identities)}
        for name, recipe in SPLITS.items()
    }
    train = {identity("train", i).tobytes() for i in range(1000)}
    assert faces["synthetic-ci"] <= faces["synthetic"]
    assert not faces["synthetic"] & faces["synthetic-val"]
    assert not (faces["synthetic"] | faces["synthetic-val"]) & train
