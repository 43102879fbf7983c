"""Synthetic metrics: degenerate input, independence of batches, and what their ids promise."""

import subprocess
import sys

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.core.views import ClipView
from bench.synthetic import metrics as metrics
from bench.synthetic import reader
from bench.synthetic.clip import make_clip
from bench.synthetic.evaluate import MemoryClip
from bench.synthetic.split import make_split


@pytest.fixture(scope="module")
def clip():
    made = make_clip("test", 900, 40)
    return MemoryClip(made.frames, made.audio, made)


def reason_of(call):
    with pytest.raises(Unscored) as caught:
        call()
    return caught.value.reason


def test_every_id_says_synthetic_and_every_weight_is_pinned():
    for kind in metrics.METRICS:
        spec = kind().spec
        assert "synthetic" in spec.id
        assert spec.domains == ("synthetic",)
        assert spec.weights
    names = {kind().spec.name for kind in metrics.EXTRACTORS}
    for one in (*metrics.METRICS, *metrics.EXTRACTORS):
        spec = one().spec
        assert all(len(w.sha256) == 64 for w in spec.weights), spec
        assert set(getattr(spec, "features", ())) <= names


def test_importing_the_metrics_imports_no_torch():
    script = "import sys, bench.synthetic.metrics; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_identical_clips_have_no_error(clip):
    for kind in (metrics.Expression, metrics.Pose, metrics.Lmd):
        values = kind().score(clip, clip)
        assert all(values[c.key] == 0 for c in kind.spec.columns)
        assert values["coverage"] == 1
    for kind in (metrics.Fid, metrics.Fvd):
        metric = kind()
        state = metric.merge([metric.state(clip), metric.state(clip.showing(clip.pixels[::-1].copy()))])
        assert next(iter(metric.compute(state, state).values())) == pytest.approx(0, abs=1e-6)


def test_no_sound_and_silence_have_no_sync(clip):
    assert reason_of(lambda: metrics.Sync().score(clip.sounding(None), None)) == Reason.NO_AUDIO
    silent = clip.sounding(np.zeros_like(clip.sound))
    assert reason_of(lambda: metrics.Sync().score(silent, None)) == Reason.NO_SPEECH
    assert reason_of(lambda: metrics.Sync().score(clip.sounding(clip.sound[:0]), None)) == Reason.NO_SPEECH


def test_short_clips_have_no_value_where_none_exists(clip):
    five = MemoryClip(clip.pixels[:5], clip.sound[: 5 * 640])
    assert reason_of(lambda: metrics.Sync().score(five, None)) == Reason.TOO_SHORT
    six = MemoryClip(clip.pixels[:6], clip.sound[: 6 * 640])
    assert metrics.Sync().score(six, None)["unreliable"] == 1
    assert reason_of(lambda: metrics.Fvd().state(MemoryClip(clip.pixels[:15]))) == Reason.TOO_SHORT
    one = metrics.Fid()
    single = one.merge([one.state(MemoryClip(clip.pixels[:1]))])
    assert reason_of(lambda: one.compute(single, single)) == Reason.INSUFFICIENT_SAMPLES


def test_missing_and_unequal_references(clip):
    for kind in (metrics.Expression, metrics.Pose, metrics.Lmd):
        assert reason_of(lambda kind=kind: kind().score(clip, None)) == Reason.NO_REFERENCE
        short = MemoryClip(clip.pixels[:20])
        assert reason_of(lambda kind=kind, short=short: kind().score(short, clip)) == Reason.LENGTH_MISMATCH
    assert reason_of(lambda: metrics.Csim().score(clip, None)) == Reason.NO_REFERENCE


def test_values_do_not_depend_on_how_frames_are_handed_over(clip):
    class OneByOne(MemoryClip):
        def chunks(self, size: int = 32):
            return super().chunks(1)

    slow = OneByOne(clip.pixels, clip.sound)
    for name in (kind.spec.name for kind in metrics.EXTRACTORS):
        for key, values in clip.features(name).items():
            assert np.allclose(values, slow.features(name)[key], atol=2e-5), (name, key)


def test_merging_does_not_depend_on_order(clip):
    metric = metrics.Fvd()
    states = [metric.state(clip.showing(np.roll(clip.pixels, i, 0))) for i in range(6)]
    reference = metric.merge(states[:3])
    a = metric.compute(metric.merge(states), reference)["fvd"]
    b = metric.compute(metric.merge([metric.merge(states[3:][::-1]), metric.merge(states[:3])]), reference)["fvd"]
    assert a == pytest.approx(b, abs=1e-6)


def test_other_frame_sizes_are_read_on_their_own_pixel_grid(clip):
    large = np.repeat(np.repeat(clip.pixels[:4], 3, 1), 3, 2)
    small, big = reader.read_landmarks(clip.pixels[:4]), reader.read_landmarks(large)
    assert np.abs((big + 0.5) / 3 - 0.5 - small).max() < 0.6
    wide = np.repeat(clip.pixels[:4], 2, 2)
    assert np.abs((reader.read_landmarks(wide)[..., 0] + 0.5) / 2 - 0.5 - small[..., 0]).max() < 0.6


def test_a_split_file_can_be_scored(tmp_path):
    from bench.media.clip import Clip

    sample = make_split("synthetic-ci", tmp_path).samples[0]
    extractors = {kind.spec.name: kind() for kind in metrics.EXTRACTORS}
    clip: ClipView = Clip(sample.reference, sample.image, sample.truth, extractors)
    assert metrics.Sync().score(clip, None)["offset"] == 0
    assert metrics.Csim().score(clip, None)["csim"] > 0.7
