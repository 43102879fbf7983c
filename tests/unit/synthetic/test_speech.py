"""Sound and articulation of a synthetic sentence belong together."""

import numpy as np

from bench.synthetic import motion
from bench.synthetic.speech import CONTROL, PHONES, RATE, speak


def sentence(seed=0, seconds=4.0):
    return speak(seconds, np.random.default_rng(seed))


def level(audio, start, end):
    part = audio[int(start * RATE) : int(end * RATE)].astype(float)
    return np.sqrt((part**2).mean())


def test_segments_cover_the_audio_without_gaps():
    said = sentence()
    assert said.segments[0].start == 0
    assert all(a.end == b.start for a, b in zip(said.segments, said.segments[1:], strict=False))
    assert said.segments[-1].end >= len(said.audio) / RATE
    assert {s.symbol for s in said.segments} <= set(PHONES)


def test_pauses_are_silent_and_open_vowels_loud():
    pauses, vowels = [], []
    for seed in range(6):
        said = sentence(seed)
        for s in said.segments:
            if s.end < len(said.audio) / RATE and s.end - s.start > 0.08:
                middle = (s.start + s.end) / 2
                values = level(said.audio, middle - 0.02, middle + 0.02)
                if s.symbol == "_":
                    pauses.append(values)
                elif s.symbol in "aA":
                    vowels.append(values)
    assert np.median(vowels) > 10 * np.median(pauses)


def test_bilabials_close_the_mouth_and_open_vowels_open_it():
    for seed in range(4):
        said = sentence(seed)
        opening = said.articulation[0]
        for s in said.segments:
            at = round((s.start + s.end) / 2 * CONTROL)
            if at >= len(opening):
                continue
            if s.symbol in "mbp":
                assert opening[at] < 0.12
    opened = [
        said.articulation[0][round((s.start + s.end) / 2 * CONTROL)]
        for said in map(sentence, range(4))
        for s in said.segments
        if s.symbol == "a" and s.end < 4
    ]
    assert np.median(opened) > 0.45


def test_fricatives_are_high_and_vowels_low():
    def centroid(audio, s):
        part = audio[int(s.start * RATE) : int(s.end * RATE)].astype(float)
        power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
        return (np.fft.rfftfreq(len(part), 1 / RATE) * power).sum() / power.sum()

    found = {"s": [], "u": []}
    for seed in range(8):
        said = sentence(seed)
        for s in said.segments:
            if s.symbol in found and s.end < 4:
                found[s.symbol].append(centroid(said.audio, s))
    assert np.median(found["s"]) > 4000
    assert np.median(found["u"]) < 1500


def test_performance_follows_the_speech_and_can_hold_the_head_still():
    said = sentence(3)
    expression, pose = motion.perform(100, said, np.random.default_rng(1), pose_amplitude=0)
    at = (np.arange(100) + 0.5) / 25
    opening = np.interp(at, np.arange(said.articulation.shape[1]) / CONTROL, said.articulation[0])
    assert np.corrcoef(expression[:, 0], opening)[0, 1] > 0.999
    assert np.array_equal(pose, np.tile([0, 0, 0, 0, 0, 1], (100, 1)).astype(np.float32))
