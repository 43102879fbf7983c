from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.spec import NO_GATE, Sample, Unscored
from bench.media.decode import chunks, read_audio
from bench.media.encode import write_clip, write_image, write_wav
from bench.methods.controls import Frozen, GroundTruth, ShuffledAudio, partner


def sample(index: int, identity: str, audio: str | None = "own") -> Sample:
    sound = None if audio is None else Path(f"{index}.wav")
    digests = {} if audio is None else {"audio": f"{index}" if audio == "own" else audio}
    return Sample("d", "s", f"{index:03d}", identity, Path("i.png"), sound, None, None, 10, digests=digests)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_partners_are_one_to_one_never_oneself_and_of_another_identity_where_possible(people, rng: random.Random):
    samples = [sample(k, f"p{who}") for k, who in enumerate(people)]
    pairs = partner(samples)
    assert set(pairs) == {s.id for s in samples}
    assert len({other.id for other in pairs.values()}) == len(samples)
    assert all(other.id != name for name, other in pairs.items())
    largest = max(people.count(who) for who in people)
    if 2 * largest <= len(people):
        own = {s.id: s.identity for s in samples}
        assert all(other.identity != own[name] for name, other in pairs.items())
    rng.shuffle(samples)
    assert partner(samples) == pairs


def test_no_partner_without_sound_or_with_the_same_recording():
    assert partner([sample(0, "a")]) == {}
    assert partner([sample(0, "a", "same"), sample(1, "b", "same")]) == {}
    assert set(partner([sample(0, "a"), sample(1, "b", None), sample(2, "c")])) == {"000", "002"}


@pytest.fixture
def real(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 4, 4, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    write_clip(tmp_path / "v.mp4", frames)
    write_image(tmp_path / "i.png", frames[0])
    write_wav(tmp_path / "a.wav", np.arange(6 * 640, dtype=np.int16))
    video = tmp_path / "v.mp4"
    return Sample("d", "s", "x", "x", tmp_path / "i.png", tmp_path / "a.wav", video, video, 6)


def frames_of(method, sample):
    return np.stack(list(method().generate(sample, NO_GATE, 0).frames))


def test_ground_truth_shows_the_reference(real):
    assert np.array_equal(frames_of(GroundTruth, real), np.concatenate(list(chunks(real.reference))))


def test_frozen_shows_the_picture_for_the_whole_length(real):
    frames = frames_of(Frozen, real)
    assert frames.shape == (6, 32, 32, 3)
    assert (frames == frames[0]).all()


def test_shuffled_audio_carries_the_sound_it_was_given(real):
    video = ShuffledAudio().generate(real, NO_GATE, 0)
    assert np.array_equal(video.audio, read_audio(real.audio))
    assert np.array_equal(np.stack(list(video.frames)), frames_of(GroundTruth, real))


def test_controls_say_what_they_lack(real):
    import dataclasses

    with pytest.raises(Unscored, match="no ground-truth video"):
        frames_of(GroundTruth, dataclasses.replace(real, reference=None))
    with pytest.raises(Unscored, match="no other clip's sound"):
        ShuffledAudio().generate(dataclasses.replace(real, audio=None), NO_GATE, 0)


@pytest.mark.parametrize("method", [GroundTruth, Frozen, ShuffledAudio])
def test_control_rows_are_marked_as_such(method):
    assert method.spec.kind == "control"
    assert method.spec.gates == ("none",)
    assert not method.spec.seeded
